//! Debian's archive beside the machine's own packages: lists and downloads in a directory of ours, from the mirror that this
//! machine uses, verified by the keyring that is installed. Needs no root and changes nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{setup, shell};

/// Names a mirror of Debian for machines whose own sources name none, as `https://mirror.example/debian`.
const MIRROR: &str = "XBEAT_DEBIAN_MIRROR";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// What the package lists, and a package, may take.
const LIST_LIMIT_S: u32 = 180;
const DOWNLOAD_LIMIT_S: u32 = 900;
const ASK_LIMIT_S: u32 = 60;

/// One suite with its security updates.
pub(super) struct Suite {
    directory: PathBuf,
    config: PathBuf,
}

impl Suite {
    /// Prepares the lists of a suite. With `installed`, dependencies count as met by what is installed here.
    ///
    /// # Errors
    /// No apt, no mirror, or no keyring.
    pub(super) fn open(home: &Path, suite: &str, installed: bool) -> Result<Self> {
        ensure!(setup::has_apt(), "needs apt-get and dpkg to get packages of Debian");
        ensure!(
            Path::new(KEYRING).exists(),
            "{KEYRING} is missing, which verifies packages: apt-get install debian-archive-keyring"
        );
        let mirror = Mirror::find()?;
        let kind = if installed { "installed" } else { "empty" };
        let directory = home.join("apt").join(format!("{suite}-{kind}"));
        for place in ["lists/partial", "cache/archives/partial", "empty"] {
            fs::create_dir_all(directory.join(place)).context("cannot make a directory for packages")?;
        }
        let sources = directory.join("sources.list");
        write(&sources, &mirror.sources(suite))?;
        write(&directory.join("status"), "")?;
        let here = directory.display();
        let mut config = format!(
            "Dir::Etc::sourcelist \"{here}/sources.list\";\nDir::Etc::sourceparts \"{here}/empty\";\n\
             Dir::Etc::preferences \"{here}/empty/none\";\nDir::Etc::preferencesparts \"{here}/empty\";\n\
             Dir::State::lists \"{here}/lists\";\nDir::Cache \"{here}/cache\";\n\
             Acquire::Languages \"none\";\nAcquire::Retries \"2\";\nAcquire::http::Timeout \"20\";\n\
             Acquire::https::Timeout \"20\";\nAPT::Sandbox::User \"\";\n"
        );
        if !installed {
            config += &format!("Dir::State::status \"{here}/status\";\n");
        }
        let file = directory.join("apt.conf");
        write(&file, &config)?;
        let suite = Self { directory, config: file };
        if !suite.has_lists() {
            suite.update()?;
        }
        Ok(suite)
    }

    /// Gets the lists anew: packages that they name may have been replaced since.
    ///
    /// # Errors
    /// The mirror cannot be reached, or what it says is not signed.
    pub(super) fn update(&self) -> Result<()> {
        let mut command = self.command("apt-get", LIST_LIMIT_S);
        // A list that cannot be had is an error, and not a warning.
        command.args(["update", "-q", "-o", "APT::Update::Error-Mode=any"]);
        shell::run_quietly(&mut command).context("the lists of packages cannot be had: is there a network?")
    }

    /// The first package that `package` depends on whose name starts so.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn dependency(&self, package: &str, prefix: &str) -> Result<String> {
        let mut command = self.command("apt-cache", ASK_LIMIT_S);
        command.args(["depends", "--no-recommends", "--no-suggests", package]);
        let text = shell::probe(&mut command).with_context(|| format!("no package {package}"))?;
        let mut words = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        let found = words.find(|name| name.starts_with(prefix));
        found.map(str::to_owned).with_context(|| format!("{package} needs no {prefix}..."))
    }

    /// What installing `packages` without `unwanted` would install here.
    ///
    /// # Errors
    /// They cannot be installed.
    pub(super) fn closure(&self, packages: &[&str], unwanted: &[&str]) -> Result<Vec<String>> {
        let mut command = self.command("apt-get", ASK_LIMIT_S);
        command.args(["-s", "install", "--no-install-recommends"]).args(packages);
        command.args(unwanted.iter().map(|package| format!("{package}-")));
        let text = shell::probe(&mut command)
            .with_context(|| format!("apt-get cannot say what {} needs", packages.join(", ")))?;
        let names = text.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
        Ok(names.map(str::to_owned).collect())
    }

    /// Downloads packages, verified, and returns their files.
    ///
    /// # Errors
    /// One cannot be had.
    pub(super) fn download(&self, packages: &[String]) -> Result<Vec<PathBuf>> {
        let into = self.directory.join("packages");
        if into.exists() {
            fs::remove_dir_all(&into).context("cannot remove earlier downloads")?;
        }
        fs::create_dir_all(&into)?;
        let get = || {
            let mut command = self.command("apt-get", DOWNLOAD_LIMIT_S);
            command.current_dir(&into).args(["-q", "download"]).args(packages);
            shell::run_quietly(&mut command)
        };
        if get().is_err() {
            self.update()?;
            get().context("a package cannot be downloaded")?;
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(&into)? {
            files.push(entry?.path());
        }
        ensure!(!files.is_empty(), "apt-get downloaded nothing");
        Ok(files)
    }

    fn has_lists(&self) -> bool {
        let listed = fs::read_dir(self.directory.join("lists"));
        listed.is_ok_and(|mut entries| {
            entries.any(|entry| entry.is_ok_and(|e| e.file_name().to_string_lossy().contains("Packages")))
        })
    }

    fn command(&self, program: &str, limit_s: u32) -> Command {
        let mut command = limited(program, limit_s);
        command.env("APT_CONFIG", &self.config).env("LC_ALL", "C");
        command
    }
}

/// A command that is ended when it takes too long.
pub(super) fn limited(program: &str, limit_s: u32) -> Command {
    let mut command = shell::command("timeout");
    command.args(["--kill-after=5", &limit_s.to_string(), program]);
    command
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Where Debian's packages come from.
#[derive(Debug, PartialEq, Eq)]
struct Mirror {
    main: String,
    security: String,
}

impl Mirror {
    /// By the environment, else as this machine's own apt has it.
    fn find() -> Result<Self> {
        if let Ok(main) = std::env::var(MIRROR) {
            return Ok(Self::beside(main.trim_end_matches('/').to_owned()));
        }
        let mut text = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
        if let Ok(listed) = fs::read_dir("/etc/apt/sources.list.d") {
            let mut files: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
            files.sort();
            for file in files {
                text.push('\n');
                text += &fs::read_to_string(file).unwrap_or_default();
            }
        }
        match Self::parse(&text) {
            Some(mirror) => Ok(mirror),
            None => bail!("this machine's apt sources name no mirror of Debian: set {MIRROR} to one"),
        }
    }

    /// Both forms of sources: addresses are words, and a word that is one of Debian's archives ends as it does.
    fn parse(text: &str) -> Option<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        let words: Vec<&str> = lines
            .flat_map(str::split_whitespace)
            .filter(|word| word.starts_with("http://") || word.starts_with("https://"))
            .map(|word| word.trim_end_matches('/'))
            .collect();
        let ending = |end: &str| words.iter().find(|word| word.ends_with(end)).map(|word| (*word).to_owned());
        let mirror = Self::beside(ending("/debian")?);
        Some(Self { security: ending("/debian-security").unwrap_or(mirror.security), ..mirror })
    }

    fn beside(main: String) -> Self {
        Self { security: format!("{main}-security"), main }
    }

    fn sources(&self, suite: &str) -> String {
        let Self { main, security } = self;
        format!(
            "deb [signed-by={KEYRING}] {main} {suite} main\n\
             deb [signed-by={KEYRING}] {security} {suite}-security main\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Mirror;

    #[test]
    fn the_mirror_is_found_in_both_forms_of_sources() {
        let deb822 = "Types: deb\n# http://old.example/debian\nURIs: http://mirror.example/debian/\nSuites: s\n\n\
                      Types: deb\nURIs: http://safe.example/debian-security\nSuites: s-security\n";
        let mirror = Mirror::parse(deb822).unwrap();
        assert_eq!(mirror.main, "http://mirror.example/debian");
        assert_eq!(mirror.security, "http://safe.example/debian-security");
        let lines =
            "deb https://other.example/tools x main\ndeb [arch=amd64] https://mirror.example/debian s main\n";
        let mirror = Mirror::parse(lines).unwrap();
        assert_eq!(mirror.main, "https://mirror.example/debian");
        assert_eq!(mirror.security, "https://mirror.example/debian-security");
        assert_eq!(Mirror::parse("deb http://mirror.example/ubuntu s main"), None);
    }
}
