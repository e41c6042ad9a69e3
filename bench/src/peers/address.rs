//! Moves the service address for software that moves none: the address by an `ip` that stands ready, the announcement by a
//! packet socket. Each costs well under a millisecond, as it would in the software's own process.

use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::{Child, ChildStdin, Stdio};

use agent_tests::lab::capture::packet_socket;
use agent_tests::lab::netns::Netns;
use agent_tests::lab::network::Network;
use anyhow::{Context as _, Result};
use nix::sys::socket::{MsgFlags, send};

use super::{SERVICE, Said};

/// Hands on both nodes.
pub(super) struct Movers {
    hands: [Mover; 2],
    /// Who keeps the address when both are alive.
    pub(super) home: usize,
    /// Told to end: what they say on the way out moves nothing.
    ending: [bool; 2],
}

/// One node's hand.
struct Mover {
    ip: Child,
    lines: ChildStdin,
    socket: OwnedFd,
    mac: [u8; 6],
}

impl Movers {
    /// In the namespaces of both nodes.
    ///
    /// # Errors
    /// `ip` cannot be started, or no socket be had.
    pub(super) fn new(network: &Network) -> Result<Self> {
        Ok(Self {
            hands: [Mover::new(network.host(0)?)?, Mover::new(network.host(1)?)?],
            home: 0,
            ending: [false; 2],
        })
    }

    /// Does what follows from what `node` said: the address is taken at what the software moves it by; of two that are alive,
    /// the one that took it last announces it anew, and the other gives it back.
    ///
    /// # Errors
    /// `ip` is gone, or the frame was not taken.
    pub(super) fn hear(&mut self, node: usize, said: Said, moved_by: Said) -> Result<()> {
        if self.ending.get(node) == Some(&true) {
            return Ok(());
        }
        if said == moved_by {
            self.home = node;
            return self.take(node);
        }
        match said {
            Said::Alive if self.home == node => self.take(node),
            Said::Alive => self.give(node),
            Said::Dead | Said::Serves | Said::Yields => Ok(()),
        }
    }

    /// A node is told to end.
    ///
    /// # Errors
    /// `ip` is gone.
    pub(super) fn end(&mut self, node: usize) -> Result<()> {
        self.set_ending(node, true);
        self.give(node)
    }

    /// A node is started. What was taken from it stays with the other.
    pub(super) fn begin(&mut self, node: usize) {
        self.set_ending(node, false);
        self.home = usize::from(node == 0);
    }

    pub(super) fn take(&mut self, node: usize) -> Result<()> {
        self.hands.get_mut(node).map_or(Ok(()), Mover::take)
    }

    fn give(&mut self, node: usize) -> Result<()> {
        self.hands.get_mut(node).map_or(Ok(()), Mover::give)
    }

    fn set_ending(&mut self, node: usize, is_ending: bool) {
        if let Some(ending) = self.ending.get_mut(node) {
            *ending = is_ending;
        }
    }
}

impl Mover {
    fn new(host: &Netns) -> Result<Self> {
        let listed = host.ip_output(&["-o", "link", "show", "eth0"])?;
        let text = listed.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
        let mut mac = [0; 6];
        for (byte, text) in mac.iter_mut().zip(text.context("eth0 has no MAC address")?.split(':')) {
            *byte = u8::from_str_radix(text, 16).context("not a MAC address")?;
        }
        let mut ip = host
            .command("ip")
            .args(["-force", "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run ip")?;
        let lines = ip.stdin.take().context("ip has no standard input")?;
        let socket = host.run(|| packet_socket("eth0"))?;
        Ok(Self { ip, lines, socket, mac })
    }

    fn take(&mut self) -> Result<()> {
        writeln!(self.lines, "addr replace {SERVICE}/24 dev eth0").context("ip has ended")?;
        self.lines.flush()?;
        let frame = announcement(self.mac);
        send(self.socket.as_raw_fd(), &frame, MsgFlags::empty()).context("cannot announce the address")?;
        Ok(())
    }

    fn give(&mut self) -> Result<()> {
        writeln!(self.lines, "addr del {SERVICE}/24 dev eth0").context("ip has ended")?;
        Ok(self.lines.flush()?)
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.ip.kill();
        let _ = self.ip.wait();
    }
}

/// Gratuitous ARP (RFC 5227, section 3).
fn announcement(mac: [u8; 6]) -> Vec<u8> {
    let mut frame = [[0xff; 6], mac].concat();
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(SERVICE.octets());
    frame.extend([0; 6]);
    frame.extend(SERVICE.octets());
    frame
}
