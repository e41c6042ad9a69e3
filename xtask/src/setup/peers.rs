//! Debian's packages of the cluster software that benchmarks put beside xbeat. Installing one starts its service as a rule;
//! while they are installed here, no service is started.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use super::apt;
use crate::{privilege::Privilege, progress, shell, workspace::Workspace};

/// keepalived, heartbeat, corosync, bfdd, and what loads the machine.
const PACKAGES: [&str; 7] =
    ["keepalived", "heartbeat", "corosync", "frr", "stress-ng", "cluster-glue", "resource-agents"];
/// invoke-rc.d(8) and deb-systemd-invoke(1) ask it whether a service may be started.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// By which one is known that was left behind.
const MARK: &str = "xbeat: no services while benchmarks' peers are installed";

/// Finds or installs all of them.
///
/// # Errors
/// No apt, no root, or apt's own failure.
pub(crate) fn ensure(workspace: &Workspace) -> Result<String> {
    let missing: Vec<&str> = PACKAGES.into_iter().filter(|package| !is_installed(package)).collect();
    if !missing.is_empty() {
        if !apt::is_here() {
            bail!("the peers are Debian's packages, and this system has no apt-get");
        }
        let policy = Policy::put(workspace, Privilege::detect())?;
        let installed = apt::install(&missing);
        policy.take_away()?;
        installed?;
        progress::warn(
            "peers",
            "their services are not running, but may be enabled: systemctl disable --now what a restart should not start",
        );
    }
    Ok(PACKAGES.join(", "))
}

fn is_installed(package: &str) -> bool {
    let mut command = Command::new("dpkg-query");
    command.args(["-W", "-f", "${db:Status-Status}", package]);
    shell::probe(&mut command).as_deref() == Some("installed")
}

/// Keeps services from starting while it is there.
enum Policy {
    /// Ours, as whoever may write it.
    Ours(Privilege),
    /// The administrator's own, which decides as ever.
    Foreign,
}

impl Policy {
    fn put(workspace: &Workspace, privilege: Privilege) -> Result<Self> {
        if fs::read_to_string(POLICY).is_ok_and(|text| !text.contains(MARK)) {
            progress::warn("services", &format!("{POLICY} is there already and decides whether they start"));
            return Ok(Self::Foreign);
        }
        let source = workspace.target().join("policy-rc.d");
        fs::write(&source, script(std::process::id()))
            .with_context(|| format!("cannot write {}", source.display()))?;
        let Some(mut command) = privilege.command("install").filter(|_| privilege.ready()) else {
            bail!("installing packages needs root; as root run: cargo xtask bench --install-peers");
        };
        shell::run_quietly(command.args(["-m", "755"]).arg(&source).arg(Path::new(POLICY)))
            .context("cannot keep services from starting")?;
        Ok(Self::Ours(privilege))
    }

    fn take_away(self) -> Result<()> {
        let Self::Ours(privilege) = self else { return Ok(()) };
        let Some(mut command) = privilege.command("rm") else { return Ok(()) };
        shell::run_quietly(command.args(["-f", POLICY]))
    }
}

/// Says no as long as this process is there: killed half-way, it forbids nothing for ever.
fn script(process: u32) -> String {
    format!("#!/bin/sh\n# {MARK}\n[ -d /proc/{process} ] && exit 101\nexit 0\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_forbids_only_while_its_process_is_there() {
        let dir = std::env::temp_dir().join(format!("xbeat-policy-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        // 4194305 is above the largest process id that Linux gives.
        for (process, code) in [(std::process::id(), 101), (4_194_305, 0)] {
            let file = dir.join("policy");
            fs::write(&file, script(process)).expect("written");
            let status = Command::new("sh").arg(&file).args(["frr", "start"]).status().expect("run");
            assert_eq!(status.code(), Some(code));
        }
        fs::remove_dir_all(&dir).expect("removed");
    }
}
