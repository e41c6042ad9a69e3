//! Puts frames of one's own making on the wire to a host, as an attacker on the same network would.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use nix::sys::socket::{MsgFlags, send};

use super::capture::packet_socket;
use super::network::{Network, Port};

/// Sends raw frames to the host at one port.
#[derive(Debug)]
pub struct Injector {
    socket: OwnedFd,
}

impl Injector {
    /// At the switch's side of `port`.
    ///
    /// # Errors
    /// Not privileged, or no such port.
    pub fn new(network: &Network, port: Port) -> Result<Self> {
        let socket = network.switch().run(|| packet_socket(&port.name()))?;
        Ok(Self { socket })
    }

    /// Sends one frame, from the Ethernet header on.
    ///
    /// # Errors
    /// The kernel did not take it.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let send = || send(self.socket.as_raw_fd(), frame, MsgFlags::empty());
        // A port that was down says so once.
        let sent = send().or_else(|_| send()).context("cannot inject a frame")?;
        anyhow::ensure!(sent == frame.len(), "a frame of {} bytes was cut to {sent}", frame.len());
        Ok(())
    }
}
