//! QEMU: the one on `PATH`, else Debian's, unpacked with the libraries that this machine lacks and never installed. That way
//! it cannot be refused by a package that is installed and does not go with it, as a newer `qemu-utils`.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{apt, home};
use crate::{progress, progress::Step, shell, workspace::Workspace};

const PROGRAM: &str = "qemu-system-x86_64";
/// The first with `-netdev dgram`.
const VERSION_MIN: (u32, u32) = (7, 2);
/// One package.
const UNPACK_LIMIT_S: u32 = 120;

/// Finds or gets it.
///
/// # Errors
/// It is not there and cannot be had: what to install.
pub(super) fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    let own = home(workspace).join("qemu").join(PROGRAM);
    for candidate in [shell::find_program(PROGRAM), Some(own.clone())].into_iter().flatten() {
        if let Some(version) = version(&candidate) {
            if version >= VERSION_MIN {
                return Ok(candidate);
            }
            progress::warn(PROGRAM, &format!("{} is older than 7.2", candidate.display()));
        }
    }
    get(workspace, &own).with_context(|| {
        format!(
            "there is no {PROGRAM} of 7.2 or newer (Debian: qemu-system-x86; Fedora: qemu-system-x86-core)"
        )
    })?;
    match version(&own) {
        Some(version) if version >= VERSION_MIN => Ok(own),
        Some(_) | None => bail!("what was unpacked at {} does not run", own.display()),
    }
}

fn get(workspace: &Workspace, own: &Path) -> Result<()> {
    let suite = release().context("this is not a release of Debian, whose QEMU could be unpacked")?;
    let mut step = Step::start("unpacking QEMU beside this machine's packages");
    let directory = own.parent().context("no directory")?;
    let root = directory.join("root");
    let suite = apt::Suite::open(&home(workspace), &suite, true)?;
    step.note("asking what it needs");
    let packages = suite.closure(&["qemu-system-x86"], &["qemu-utils"])?;
    step.note(&format!("downloading {} packages", packages.len()));
    let files = suite.download(&packages)?;
    fs::create_dir_all(&root)?;
    for file in &files {
        step.note(&format!("unpacking {}", file.display()));
        shell::run_quietly(apt::limited("dpkg", UNPACK_LIMIT_S).arg("-x").arg(file).arg(&root))?;
        fs::remove_file(file)?;
    }
    fs::write(own, wrapper(&root))?;
    fs::set_permissions(own, fs::Permissions::from_mode(0o755))?;
    step.done(&format!("{} packages", files.len()));
    Ok(())
}

/// Its own libraries first, its own firmware only.
fn wrapper(root: &Path) -> String {
    format!(
        "#!/bin/sh\nR='{}'\n\
         export LD_LIBRARY_PATH=\"$R/usr/lib/x86_64-linux-gnu:$R/lib/x86_64-linux-gnu\"\n\
         export QEMU_MODULE_DIR=\"$R/usr/lib/x86_64-linux-gnu/qemu\"\n\
         exec \"$R/usr/bin/{PROGRAM}\" -L \"$R/usr/share/qemu\" -L \"$R/usr/share/seabios\" \
         -L \"$R/usr/lib/ipxe/qemu\" \"$@\"\n",
        root.display()
    )
}

/// `QEMU emulator version 7.2.22 (Debian ...)`.
fn version(program: &Path) -> Option<(u32, u32)> {
    let text = shell::probe(shell::command(program).arg("--version"))?;
    parse_version(&text)
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_once("version ")?.1.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The name of this machine's release of Debian.
fn release() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim_matches('"').to_owned())
    };
    (value("ID")? == "debian").then(|| value("VERSION_CODENAME")).flatten()
}

#[cfg(test)]
mod tests {
    use super::{VERSION_MIN, parse_version};

    #[test]
    fn versions_are_read() {
        assert_eq!(
            parse_version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright"),
            Some((7, 2))
        );
        assert!(parse_version("QEMU emulator version 10.0.2").unwrap() > VERSION_MIN);
        assert_eq!(parse_version("something else"), None);
    }
}
