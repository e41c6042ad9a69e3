//! Installs the peers' packages of Debian without starting any service.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::Name;

/// What stress needs besides.
const MORE: &[&str] = &["stress-ng", "cluster-glue", "resource-agents"];
/// invoke-rc.d(8) asks it whether a service may be started.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs all of them.
///
/// # Errors
/// apt-get failed.
pub fn install() -> Result<()> {
    let policy = Path::new(POLICY);
    let is_ours = !policy.exists();
    if is_ours {
        fs::write(policy, "#!/bin/sh\nexit 101\n").context("cannot keep services from starting")?;
        fs::set_permissions(policy, fs::Permissions::from_mode(0o755))?;
    }
    let status = Command::new("apt-get")
        .args(["install", "-y", "--no-install-recommends"])
        .args(Name::ALL.map(Name::package))
        .args(MORE)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null())
        .status();
    if is_ours {
        fs::remove_file(policy)?;
    }
    let status = status.context("cannot run apt-get (the peers are installed on Debian only)")?;
    if !status.success() {
        bail!("apt-get install: {status}");
    }
    Ok(())
}

/// The version of its package, as dpkg has it.
pub fn version(name: Name) -> String {
    let output = Command::new("dpkg-query").args(["-W", "-f", "${Version}", name.package()]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "of unknown version".to_owned())
}
