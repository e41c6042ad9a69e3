//! The kernel's watchdog interface (Documentation/watchdog/watchdog-api.rst): a character device and its ioctls.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// `WDIOF_SETTIMEOUT`.
pub(super) const OPTION_SET_TIMEOUT: u32 = 0x0080;
/// `WDIOF_MAGICCLOSE`.
pub(super) const OPTION_MAGIC_CLOSE: u32 = 0x0100;

/// `struct watchdog_info`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    options: u32,
    firmware_version: u32,
    identity: [u8; 32],
}

mod ioctl {
    //! Numbers and types of `linux/watchdog.h`.
    nix::ioctl_read!(get_support, b'W', 0, super::Info);
    nix::ioctl_read!(keep_alive, b'W', 5, libc::c_int);
    nix::ioctl_readwrite!(set_timeout, b'W', 6, libc::c_int);
    nix::ioctl_read!(get_timeout, b'W', 7, libc::c_int);
}

/// What a device can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Support {
    /// `WDIOF_` bits.
    pub(super) options: u32,
    /// Its own name.
    pub(super) identity: String,
}

/// A watchdog, or what tests take for one.
pub(super) trait Device {
    fn support(&mut self) -> Result<Support, Errno>;
    /// Seconds.
    fn timeout(&mut self) -> Result<i32, Errno>;
    /// Returns what it was set to in fact.
    fn set_timeout(&mut self, seconds: i32) -> Result<i32, Errno>;
    fn keep_alive(&mut self) -> Result<(), Errno>;
    fn write(&mut self, bytes: &[u8]) -> Result<(), Errno>;
    /// Whether it cannot be stopped once it runs.
    fn nowayout(&self) -> bool;
}

/// The real one.
pub(super) struct CharacterDevice {
    file: File,
    path: PathBuf,
}

impl CharacterDevice {
    pub(super) fn open(path: &Path) -> Result<Self, Errno> {
        let file = OpenOptions::new().write(true).custom_flags(libc::O_CLOEXEC).open(path);
        let file = file.map_err(|error| errno(&error))?;
        Ok(Self { file, path: path.to_owned() })
    }
}

impl Device for CharacterDevice {
    fn support(&mut self) -> Result<Support, Errno> {
        let mut info = Info { options: 0, firmware_version: 0, identity: [0; 32] };
        // SAFETY: the kernel fills the struct that its header defines.
        unsafe { ioctl::get_support(self.file.as_raw_fd(), &raw mut info) }?;
        let identity = CStr::from_bytes_until_nul(&info.identity).unwrap_or_default();
        Ok(Support { options: info.options, identity: identity.to_string_lossy().into_owned() })
    }

    fn timeout(&mut self) -> Result<i32, Errno> {
        let mut seconds = 0;
        // SAFETY: the kernel fills one int.
        unsafe { ioctl::get_timeout(self.file.as_raw_fd(), &raw mut seconds) }?;
        Ok(seconds)
    }

    fn set_timeout(&mut self, mut seconds: i32) -> Result<i32, Errno> {
        // SAFETY: the kernel reads one int and writes it.
        unsafe { ioctl::set_timeout(self.file.as_raw_fd(), &raw mut seconds) }?;
        Ok(seconds)
    }

    fn keep_alive(&mut self) -> Result<(), Errno> {
        let mut unused = 0;
        // SAFETY: the kernel takes a pointer to an int and leaves it alone.
        unsafe { ioctl::keep_alive(self.file.as_raw_fd(), &raw mut unused) }.map(drop)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        self.file.write_all(bytes).map_err(|error| errno(&error))
    }

    fn nowayout(&self) -> bool {
        // `/dev/watchdog` is the first device under its old name.
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let name = if name == "watchdog" { "watchdog0" } else { name };
        let file = Path::new("/sys/class/watchdog").join(name).join("nowayout");
        std::fs::read_to_string(file).is_ok_and(|text| text.trim() == "1")
    }
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
