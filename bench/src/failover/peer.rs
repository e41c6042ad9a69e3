//! Another cluster software as one of those that are measured. Its verdict is timed when its log line is read, which adds up to
//! a millisecond; the outage does not depend on that.

use std::time::Duration;

use agent_tests::lab::capture::Capture;
use agent_tests::lab::client::Client;
use agent_tests::lab::clock;
use agent_tests::lab::network::Port;
use agent_tests::lab::observer::Observer;
use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Fault;
use super::stand::Stand;
use crate::peers::{Name, Pair, Setting};

/// heartbeat's own command for an orderly move.
const STANDBY: &str = "/usr/share/heartbeat/hb_standby";

/// A pair, and what happened to it.
pub(super) struct PeerStand {
    pair: Pair,
    /// Its daemons run undisturbed since.
    since_ns: u64,
    struck: Option<(Fault, usize)>,
}

impl PeerStand {
    pub(super) fn start(name: Name, setting: Setting) -> Result<Self> {
        let pair = Pair::start(name, setting)?;
        Ok(Self { pair, since_ns: clock::now_ns(), struck: None })
    }

    /// To all processes of a node, descendants first: those that were found before the fault's time.
    fn signal(processes: &[u32], signal: Signal) {
        for pid in processes.iter().rev() {
            // One that has ended by itself needs no signal.
            let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
        }
    }

    /// As its operator does it.
    fn move_away(&self, node: usize, processes: &[u32]) -> Result<u64> {
        let first = processes.first().context("nothing runs")?;
        match self.pair.name {
            Name::Keepalived => {
                let said_ns = clock::now_ns();
                kill(Pid::from_raw(first.cast_signed()), Signal::SIGTERM)?;
                Ok(said_ns)
            }
            Name::Heartbeat => {
                let mut command = self.pair.bed.network.host(node)?.command("timeout");
                command.args(["10", "nsenter", "-t", &first.to_string(), "-m", "-u", "-p", STANDBY, "all"]);
                let said_ns = clock::now_ns();
                let output = command.output().context("cannot run nsenter")?;
                let said = String::from_utf8_lossy(&output.stderr);
                ensure!(output.status.success(), "hb_standby: {}", said.trim());
                Ok(said_ns)
            }
            Name::Corosync | Name::Bfdd => bail!("{} moves nothing itself", self.pair.name.label()),
        }
    }
}

impl Stand for PeerStand {
    fn mend(&mut self) -> Result<()> {
        self.pair.bed.client.rest(false);
        let Some((fault, node)) = self.struck.take() else { return Ok(()) };
        self.since_ns = clock::now_ns();
        self.pair.bed.network.heal(Port { host: node, bridge: 0 })?;
        match (fault, self.pair.name) {
            (Fault::Kill | Fault::KillAndCut, _) | (Fault::Move, Name::Keepalived) => self.pair.revive(node),
            (Fault::Cut | Fault::Freeze, _) => self.give_back(fault, node),
            (Fault::Move, Name::Heartbeat | Name::Corosync | Name::Bfdd) => Ok(()),
        }
    }

    fn wait_whole(&mut self) -> Result<usize> {
        self.pair.wait_whole_since(self.since_ns)
    }

    fn client(&self) -> &Client {
        &self.pair.bed.client
    }

    fn capture(&self, node: usize) -> Result<&Capture> {
        self.pair.bed.captures.get(node).context("there are two nodes")
    }

    fn observer(&self) -> Result<Observer> {
        self.pair.bed.observer()
    }

    fn interval(&self) -> Duration {
        self.pair.setting.interval
    }

    fn deadtime(&self, node: usize) -> Duration {
        self.pair.deadtime(node)
    }

    fn last_heard_ns(&self, of: usize, to: usize, until_ns: u64) -> Option<u64> {
        self.pair.last_heard_ns(of, to, until_ns)
    }

    fn strike(&mut self, fault: Fault, node: usize) -> Result<u64> {
        self.struck = Some((fault, node));
        let processes = self.pair.processes(node);
        let port = Port { host: node, bridge: 0 };
        let fault_ns = clock::now_ns();
        match fault {
            Fault::Kill => Self::signal(&processes, Signal::SIGKILL),
            Fault::Cut => self.pair.bed.network.cut(port)?,
            Fault::Freeze => Self::signal(&processes, Signal::SIGSTOP),
            Fault::Move => return self.move_away(node, &processes),
            Fault::KillAndCut => {
                Self::signal(&processes, Signal::SIGKILL);
                self.pair.bed.network.cut(port)?;
            }
        }
        Ok(fault_ns)
    }

    fn give_back(&mut self, fault: Fault, node: usize) -> Result<()> {
        match fault {
            Fault::Cut => self.pair.bed.network.heal(Port { host: node, bridge: 0 }),
            Fault::Freeze => {
                Self::signal(&self.pair.processes(node), Signal::SIGCONT);
                Ok(())
            }
            Fault::Kill | Fault::Move | Fault::KillAndCut => Ok(()),
        }
    }

    fn dead_ns(&self, node: usize, from_ns: u64) -> Option<u64> {
        self.pair.verdicts(node, from_ns).first().copied()
    }

    /// None of them says when.
    fn address_ns(&self, _node: usize, _from_ns: u64) -> Option<u64> {
        None
    }
}
