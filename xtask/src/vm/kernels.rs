//! Kernels of Debian: the newest of a series, with the few modules that a machine needs. Never pinned, since security
//! updates remove what they replace; never fetched again until its directory is removed.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail, ensure};

use super::{apt, home};
use crate::{progress, progress::Step, shell, workspace::Workspace};

/// A series of kernels, and where Debian has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Series {
    /// As one says it.
    pub(super) name: &'static str,
    suite: &'static str,
    /// Depends on the newest image.
    metapackage: &'static str,
}

/// All that are tested.
const ALL: [Series; 3] = [
    Series { name: "5.10", suite: "bullseye", metapackage: "linux-image-amd64" },
    Series { name: "6.1", suite: "bookworm", metapackage: "linux-image-amd64" },
    Series { name: "6.12", suite: "bookworm", metapackage: "linux-image-6.12-amd64" },
];
/// Where the modules of a machine are, with all that they need.
const MODULE_PLACES: [&str; 10] = [
    "/kernel/drivers/virtio/",
    "/kernel/drivers/net/virtio_net.",
    "/kernel/drivers/net/net_failover.",
    "/kernel/net/core/failover.",
    "/kernel/drivers/char/hw_random/",
    "/kernel/drivers/watchdog/watchdog.",
    "/kernel/drivers/watchdog/i6300esb.",
    "/kernel/net/sched/sch_ingress.",
    "/kernel/net/sched/cls_bpf.",
    "/kernel/lib/dim/",
];
/// Written last: the name of the package, and what was unpacked of it.
const COMPLETE: &str = "complete";
const UNPACK_LIMIT_S: u32 = 300;

/// The series that were asked for, all when none was.
///
/// # Errors
/// One is not known.
pub(super) fn select(names: &[String]) -> Result<Vec<Series>> {
    if names.is_empty() {
        return Ok(ALL.to_vec());
    }
    let find = |name: &String| {
        let known = ALL.iter().find(|series| series.name == name.as_str()).copied();
        let all = ALL.map(|series| series.name).join(", ");
        known.with_context(|| format!("no kernel {name}: there are {all}"))
    };
    names.iter().map(find).collect()
}

/// Finds or gets a kernel: a directory with `vmlinuz` and `modules/`.
///
/// # Errors
/// It is not there and cannot be had.
pub(super) fn ensure(workspace: &Workspace, series: Series) -> Result<PathBuf> {
    let directory = home(workspace).join("kernels").join(series.name);
    let complete = fs::read_to_string(directory.join(COMPLETE)).unwrap_or_default();
    if let Some((package, places)) = complete.split_once(' ')
        && places == MODULE_PLACES.join(" ")
    {
        progress::found(&format!("kernel {}", series.name), package);
        return Ok(directory);
    }
    get(workspace, series, &directory)?;
    Ok(directory)
}

fn get(workspace: &Workspace, series: Series, directory: &Path) -> Result<()> {
    let mut step = Step::start(format!("getting a kernel {} of Debian {}", series.name, series.suite));
    let suite = apt::Suite::open(&home(workspace), series.suite, false)?;
    let package = suite.dependency(series.metapackage, "linux-image-")?;
    ensure!(
        package.starts_with(&format!("linux-image-{}.", series.name)),
        "{} of {} is {package}, and not of {}",
        series.metapackage,
        series.suite,
        series.name
    );
    step.note(&format!("downloading {package}"));
    let files = suite.download(std::slice::from_ref(&package))?;
    let [file] = files.as_slice() else { bail!("{package} came as {} files", files.len()) };
    step.note(&format!("unpacking {package}"));
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    let raw = directory.join("raw");
    fs::create_dir_all(&raw)?;
    fs::create_dir_all(directory.join("modules"))?;
    unpack(file, &raw, directory)?;
    fs::remove_file(file)?;
    fs::remove_dir_all(&raw)?;
    fs::write(directory.join(COMPLETE), format!("{package} {}", MODULE_PLACES.join(" ")))?;
    step.done(&package);
    Ok(())
}

/// Only what is needed, of some hundred megabytes.
fn unpack(package: &Path, raw: &Path, directory: &Path) -> Result<()> {
    let tar = directory.join("raw.tar");
    let mut unpacking = apt::limited("dpkg-deb", UNPACK_LIMIT_S);
    unpacking.arg("--fsys-tarfile").arg(package).stdin(Stdio::null()).stdout(File::create(&tar)?);
    let status = unpacking.status().context("cannot run dpkg-deb")?;
    ensure!(status.success(), "dpkg-deb cannot read {}", package.display());
    let listed = shell::probe(apt::limited("tar", UNPACK_LIMIT_S).arg("-tf").arg(&tar))
        .context("tar cannot read the package")?;
    let wanted: Vec<&str> = listed.lines().filter(|path| is_wanted(path)).collect();
    let list = directory.join("raw.list");
    fs::write(&list, wanted.join("\n"))?;
    let mut extracting = apt::limited("tar", UNPACK_LIMIT_S);
    extracting.arg("-xf").arg(&tar).arg("-C").arg(raw).arg("-T").arg(&list);
    shell::run_quietly(&mut extracting)?;
    fs::remove_file(&tar)?;
    fs::remove_file(&list)?;
    let mut images = 0;
    for path in wanted.iter().map(|path| raw.join(path.trim_start_matches("./"))) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("vmlinuz-") {
            fs::rename(&path, directory.join("vmlinuz"))?;
            images += 1;
        } else {
            fs::write(directory.join("modules").join(plain_name(&name)), plain(&path, &name)?)?;
        }
    }
    ensure!(images == 1, "the package has {images} kernels");
    Ok(())
}

fn is_wanted(path: &str) -> bool {
    let is_module = path.ends_with(".ko") || path.ends_with(".ko.xz") || path.ends_with(".ko.zst");
    path.starts_with("./boot/vmlinuz-")
        || (is_module && MODULE_PLACES.iter().any(|place| path.contains(place)))
}

fn plain_name(name: &str) -> &str {
    name.strip_suffix(".xz").or_else(|| name.strip_suffix(".zst")).unwrap_or(name)
}

/// A module's content, uncompressed.
fn plain(path: &Path, name: &str) -> Result<Vec<u8>> {
    let program = if name.ends_with(".xz") {
        "xz"
    } else if name.ends_with(".zst") {
        "zstd"
    } else {
        return fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    };
    let output = apt::limited(program, UNPACK_LIMIT_S)
        .arg("-dc")
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(
        output.status.success() && !output.stdout.is_empty(),
        "{program} cannot unpack {name}: is it installed?"
    );
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::{is_wanted, plain_name, select};

    #[test]
    fn only_what_a_machine_needs_is_unpacked() {
        for (path, wanted) in [
            ("./boot/vmlinuz-6.1.0-56-amd64", true),
            ("./boot/System.map-6.1.0-56-amd64", false),
            ("./lib/modules/6.1.0/kernel/drivers/net/virtio_net.ko", true),
            ("./usr/lib/modules/6.12/kernel/drivers/virtio/virtio_rng.ko.xz", true),
            ("./lib/modules/6.1.0/kernel/drivers/virtio/", false),
            ("./lib/modules/6.12/kernel/lib/dim/dimlib.ko.xz", true),
            ("./lib/modules/6.1.0/kernel/drivers/net/veth.ko", false),
        ] {
            assert_eq!(is_wanted(path), wanted, "{path}");
        }
        assert_eq!(plain_name("a.ko.xz"), "a.ko");
        assert_eq!(plain_name("a.ko"), "a.ko");
    }

    #[test]
    fn kernels_are_chosen_by_series() {
        let names = |chosen: &[&str]| {
            let chosen: Vec<String> = chosen.iter().map(|name| (*name).to_owned()).collect();
            select(&chosen).map(|series| series.iter().map(|series| series.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).unwrap(), ["5.10", "6.1", "6.12"]);
        assert_eq!(names(&["6.12"]).unwrap(), ["6.12"]);
        assert!(names(&["4.19"]).unwrap_err().to_string().contains("there are 5.10, 6.1, 6.12"));
    }
}
