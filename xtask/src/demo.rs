//! `cargo xtask demo`: builds as the user, then runs the demonstration of a takeover as root where that is possible, else
//! in a user namespace. The demonstration itself is the binary `xbeat-lab`.

use std::{ffi::OsString, os::unix::process::CommandExt as _};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::{
    build, build_ebpf,
    privilege::Privilege,
    progress,
    setup::{self, Need},
    shell,
    workspace::Workspace,
};

/// Options of `cargo xtask demo`, handed through to the demonstration.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Time between two heartbeats, such as 10ms
    #[arg(long, value_name = "TIME")]
    keepalive: Option<String>,
    /// Silence after which a node is dead, such as 30ms
    #[arg(long, value_name = "TIME")]
    deadtime: Option<String>,
    /// What is taken from the node that holds the address
    #[arg(long, value_enum)]
    kill: Option<Kill>,
    /// Print the result as JSON; progress goes to stderr
    #[arg(long)]
    json: bool,
    /// Run in a user namespace, on the socket path, even where root could be had
    #[arg(long)]
    unprivileged: bool,
}

/// What the demonstration breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kill {
    /// The agent, with SIGKILL
    Agent,
    /// The network link
    Link,
    /// Both at once
    Both,
}

impl Args {
    fn to_lab(&self, unprivileged: bool) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["demo".into()];
        if let Some(keepalive) = &self.keepalive {
            args.extend(["--keepalive".into(), keepalive.into()]);
        }
        if let Some(deadtime) = &self.deadtime {
            args.extend(["--deadtime".into(), deadtime.into()]);
        }
        if let Some(kill) = self.kill {
            let what = match kill {
                Kill::Agent => "agent",
                Kill::Link => "link",
                Kill::Both => "both",
            };
            args.extend(["--kill".into(), what.into()]);
        }
        if self.json {
            args.push("--json".into());
        }
        if unprivileged {
            args.push("--unprivileged".into());
        }
        args
    }
}

/// `cargo xtask demo`. Ends as the demonstration: same process, same exit code.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    build_ebpf::build(workspace, &[])?;
    setup::ensure(workspace, &[Need::NetTools])?;
    build::release(workspace, &[("xbeat", "xbeat"), ("agent-tests", "xbeat-lab")])?;
    let lab = workspace.release_binary("xbeat-lab");
    let privilege = if args.unprivileged { Privilege::None } else { Privilege::detect() };
    let root = if privilege.ready() { privilege.command(&lab) } else { None };
    let unprivileged = root.is_none();
    if unprivileged && !args.unprivileged {
        progress::warn("no root", "running in a user namespace, without XDP");
    }
    let mut command = root.unwrap_or_else(|| shell::command(&lab));
    command.current_dir(workspace.root()).args(args.to_lab(unprivileged));
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", lab.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_reach_the_demonstration() {
        let args = Args {
            keepalive: Some("2ms".to_owned()),
            deadtime: Some("10ms".to_owned()),
            kill: Some(Kill::Both),
            json: true,
            unprivileged: false,
        };
        let expected = ["demo", "--keepalive", "2ms", "--deadtime", "10ms", "--kill", "both", "--json"];
        assert_eq!(args.to_lab(false), expected.map(OsString::from));
        assert_eq!(args.to_lab(true).last(), Some(&OsString::from("--unprivileged")));
    }
}
