//! Debian's package manager, where there is one and somebody may use it.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{privilege::Privilege, progress::Step, shell};

/// Whether this is a system that apt keeps.
pub(crate) fn is_here() -> bool {
    shell::find_program("apt-get").is_some() && shell::find_program("dpkg").is_some()
}

/// The command that a person would type.
pub(crate) fn remedy(packages: &[&str]) -> String {
    format!("apt-get install {}", packages.join(" "))
}

/// Installs packages, with `apt-get update` first when the lists do not have them.
///
/// # Errors
/// No apt, no way to become root, or apt's own failure. Nothing was changed in the first two cases.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    if !is_here() {
        bail!("this system has no apt-get");
    }
    let privilege = Privilege::detect();
    if !privilege.ready() {
        bail!("installing packages needs root; as root run: {}", remedy(packages));
    }
    let mut step = Step::start(format!("installing {}", packages.join(", ")));
    if !packages.iter().all(|package| is_known(package)) {
        step.note("apt-get update");
        apt(privilege, &["update", "-q"])?;
    }
    step.note("apt-get install");
    let mut args = vec!["install", "-y", "-q", "--no-install-recommends"];
    args.extend(packages);
    if apt(privilege, &args).is_err() {
        // The lists may name a version that the archive has replaced since.
        step.note("apt-get update");
        apt(privilege, &["update", "-q"])?;
        apt(privilege, &args)?;
    }
    step.done("");
    Ok(())
}

fn is_known(package: &str) -> bool {
    shell::probe(Command::new("apt-cache").args(["show", "--no-all-versions", package])).is_some()
}

fn apt(privilege: Privilege, args: &[&str]) -> Result<()> {
    let Some(mut command) = privilege.command("apt-get") else {
        bail!("apt-get needs root");
    };
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["-o", "DPkg::Lock::Timeout=120"]).args(args);
    shell::run_quietly(&mut command)
}
