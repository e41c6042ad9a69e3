//! A serial device that is open: raw, 8N1, modem lines ignored, for this process alone. Reads and writes never wait.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::path::PathBuf;

use agent_common::LinkId;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serialport::{
    ClearBuffer, DataBits, ErrorKind, FlowControl, Parity, SerialPort as _, SerialPortBuilder, StopBits,
    TTYPort,
};

/// One line of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineSettings {
    /// The link that it belongs to.
    pub link: LinkId,
    /// The device.
    pub device: PathBuf,
    /// Bits a second.
    pub baud: u32,
    /// Whether RTS/CTS flow control is used.
    pub rtscts: bool,
}

/// Why a line is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// No such device.
    Missing,
    /// Not permitted.
    Denied,
    /// Somebody else has it.
    Busy,
    /// It is no serial device, or none is behind it.
    Unusable,
    /// Its other end was closed, or it was unplugged.
    Hangup,
    /// Reading or writing failed with this errno.
    Failed(i32),
}

impl Loss {
    /// For people.
    pub fn text(self) -> String {
        match self {
            Self::Missing => "there is no such device".to_owned(),
            Self::Denied => "not permitted: run the agent as root, or in the device's group".to_owned(),
            Self::Busy => "another process has it (a getty? another agent?)".to_owned(),
            Self::Unusable => "it is no serial device, or there is none behind it".to_owned(),
            Self::Hangup => "it hung up: unplugged, or its driver is gone".to_owned(),
            Self::Failed(errno) => Errno::from_raw(errno).desc().to_owned(),
        }
    }
}

/// The device.
#[derive(Debug)]
pub struct Port(TTYPort);

impl Port {
    /// Opens and sets it. A device whose driver is in trouble may take seconds: not for a thread that others wait for.
    ///
    /// # Errors
    /// What keeps it from being used; nothing is left open.
    pub fn open(line: &LineSettings) -> Result<Self, Loss> {
        let flow = if line.rtscts { FlowControl::Hardware } else { FlowControl::None };
        let builder: SerialPortBuilder = serialport::new(line.device.to_string_lossy(), line.baud)
            .data_bits(DataBits::Eight)
            .parity(Parity::None)
            .stop_bits(StopBits::One)
            .flow_control(flow);
        let port = TTYPort::open(&builder).map_err(|error| match error.kind {
            ErrorKind::NoDevice => Loss::Busy,
            ErrorKind::Io(std::io::ErrorKind::NotFound) => Loss::Missing,
            ErrorKind::Io(std::io::ErrorKind::PermissionDenied) => Loss::Denied,
            ErrorKind::InvalidInput | ErrorKind::Unknown | ErrorKind::Io(_) => Loss::Unusable,
        })?;
        let port = Self(port);
        // What was received at another rate, or long ago, says nothing.
        port.0.clear(ClearBuffer::All).map_err(|_| Loss::Unusable)?;
        let failed = |errno: Errno| Loss::Failed(errno as i32);
        let flags = fcntl(&port, FcntlArg::F_GETFL).map_err(failed)?;
        let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
        fcntl(&port, FcntlArg::F_SETFL(flags)).map_err(failed)?;
        Ok(port)
    }

    /// Reads what is there; 0 when there is nothing.
    ///
    /// # Errors
    /// The device is gone.
    pub fn read(&self, into: &mut [u8]) -> Result<usize, Loss> {
        match nix::unistd::read(self, into) {
            // The end of a terminal is a hangup.
            Ok(0) => Err(Loss::Hangup),
            Ok(length) => Ok(length),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(Errno::EIO | Errno::ENXIO | Errno::ENODEV) => Err(Loss::Hangup),
            Err(errno) => Err(Loss::Failed(errno as i32)),
        }
    }

    /// Writes what fits; 0 when nothing does.
    ///
    /// # Errors
    /// The device is gone.
    pub fn write(&self, bytes: &[u8]) -> Result<usize, Loss> {
        match nix::unistd::write(self, bytes) {
            Ok(length) => Ok(length),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(Errno::EIO | Errno::ENXIO | Errno::ENODEV) => Err(Loss::Hangup),
            Err(errno) => Err(Loss::Failed(errno as i32)),
        }
    }

    /// Bytes that the kernel has not handed to the device yet, as far as the driver knows.
    pub fn queued(&self) -> usize {
        self.0.bytes_to_write().map_or(0, |bytes| bytes as usize)
    }

    /// Closes it. What a line that is stuck still has is dropped: the kernel would wait half a minute for it.
    pub fn close(self) {
        if self.queued() > 0 {
            // A device that is gone has nothing to drop.
            let _ = self.0.clear(ClearBuffer::Output);
        }
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the port owns the descriptor and lives as long as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}
