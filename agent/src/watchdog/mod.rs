//! The watchdog device: hardware that resets the machine unless it is petted. Petted when the core says that this node
//! is sound, and at no other time; closed with the magic character when the agent ends in order, and never else.

mod device;

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

use device::{CharacterDevice, Device, OPTION_MAGIC_CLOSE, OPTION_SET_TIMEOUT};

/// What many devices take at least.
const TIMEOUT_MIN_S: i32 = 2;

/// Why there is no watchdog, or not as it was wanted. The machine is not being watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchdogError {
    /// Not opened.
    #[error("the watchdog {path} cannot be opened: {source}{}", remedy(*source))]
    Open {
        /// The device.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Errno,
    },
    /// No answer, or a nonsensical one.
    #[error("{path} is no watchdog: {source}")]
    NotOne {
        /// The device.
        path: PathBuf,
        /// What it answered.
        #[source]
        source: Errno,
    },
}

fn remedy(errno: Errno) -> &'static str {
    if errno == Errno::EBUSY {
        " (somebody else pets it: systemd's RuntimeWatchdogSec=, or another daemon)"
    } else if errno == Errno::ENOENT {
        " (load the driver of the hardware, or `modprobe softdog`)"
    } else if errno == Errno::EACCES || errno == Errno::EPERM {
        " (run it as root)"
    } else {
        ""
    }
}

/// An open watchdog.
pub struct Watchdog {
    device: Box<dyn Device + Send>,
    stopped: bool,
    /// For the operator: what it is and what is doubtful about it.
    pub remarks: Vec<String>,
}

impl Watchdog {
    /// Opens the device; from now on the machine is reset unless it is petted.
    ///
    /// # Errors
    /// It cannot be opened, or is no watchdog.
    pub fn open(path: &Path, deadtime: Duration) -> Result<Self, WatchdogError> {
        let device = CharacterDevice::open(path)
            .map_err(|source| WatchdogError::Open { path: path.to_owned(), source })?;
        Self::over(Box::new(device), path, deadtime)
    }

    fn over(
        mut device: Box<dyn Device + Send>,
        path: &Path,
        deadtime: Duration,
    ) -> Result<Self, WatchdogError> {
        let not_one = |source| WatchdogError::NotOne { path: path.to_owned(), source };
        let support = device.support().map_err(not_one)?;
        let name = path.display();
        let mut remarks = Vec::new();
        let wanted = timeout_s(deadtime);
        let granted = if support.options & OPTION_SET_TIMEOUT != 0 {
            device.set_timeout(wanted).or_else(|_| device.timeout())
        } else {
            device.timeout()
        };
        match granted {
            Ok(granted) if granted == wanted => {
                remarks.push(format!("watchdog {name} ({}): {granted} s", support.identity));
            }
            Ok(granted) => remarks.push(format!(
                "watchdog {name} ({}) resets after {granted} s, and not {wanted} s as the deadtime asks for",
                support.identity
            )),
            Err(errno) => remarks
                .push(format!("watchdog {name} ({}) does not tell its timeout: {errno}", support.identity)),
        }
        if device.nowayout() {
            remarks.push(format!(
                "watchdog {name} cannot be stopped (nowayout): after an orderly stop, too, the machine is reset \
                 unless somebody pets it"
            ));
        } else if support.options & OPTION_MAGIC_CLOSE == 0 {
            remarks.push(format!("watchdog {name} knows no magic close: any end of the agent stops it"));
        }
        Ok(Self { device, stopped: false, remarks })
    }

    /// Puts the reset off by one timeout, unless this node has fenced itself.
    ///
    /// # Errors
    /// The device's; it will reset the machine.
    pub fn pet(&mut self) -> Result<(), Errno> {
        if self.stopped { Ok(()) } else { self.device.keep_alive() }
    }

    /// This node must not go on: the device is never petted again. Returns whether that is new.
    pub const fn fence(&mut self) -> bool {
        !std::mem::replace(&mut self.stopped, true)
    }

    /// Whether this node must not go on.
    pub const fn has_fenced(&self) -> bool {
        self.stopped
    }

    /// Another process takes this one's place within `pause`: the device watches on, without the magic character, and
    /// bears with the pause where its timeout can be set. The next process sets its own.
    pub fn hand_over(mut self, pause: Duration) {
        if !self.stopped {
            // A device with a fixed timeout resets the machine if the pause is longer; that is told at start.
            let _ = self.device.set_timeout(timeout_s(pause));
            let _ = self.device.keep_alive();
        }
    }

    /// The agent ends in order: the device is stopped, unless this node has fenced itself.
    ///
    /// # Errors
    /// The device's; it will reset the machine.
    pub fn close(mut self) -> Result<(), Errno> {
        if self.stopped { Ok(()) } else { self.device.write(b"V") }
    }
}

/// Whole seconds, no shorter than the deadtime: within it the peers have taken over.
fn timeout_s(deadtime: Duration) -> i32 {
    let whole = deadtime.as_secs().saturating_add(u64::from(deadtime.subsec_nanos() != 0));
    i32::try_from(whole).unwrap_or(i32::MAX).max(TIMEOUT_MIN_S)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use nix::errno::Errno;

    use super::device::{Device, OPTION_MAGIC_CLOSE, OPTION_SET_TIMEOUT, Support};
    use super::{Watchdog, timeout_s};

    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Call {
        SetTimeout(i32),
        Pet,
        Write(Vec<u8>),
    }

    #[derive(Clone, Default)]
    struct Fake {
        calls: Arc<Mutex<Vec<Call>>>,
        options: u32,
        least_s: i32,
        nowayout: bool,
        deaf: bool,
    }

    impl Fake {
        fn called(&self, call: Call) {
            self.calls.lock().unwrap().push(call);
        }

        fn opened(&self) -> Watchdog {
            let deadtime = Duration::from_millis(50);
            Watchdog::over(Box::new(self.clone()), Path::new("/dev/watchdog"), deadtime).unwrap()
        }
    }

    impl Device for Fake {
        fn support(&mut self) -> Result<Support, Errno> {
            if self.deaf {
                return Err(Errno::ENOTTY);
            }
            Ok(Support { options: self.options, identity: "fake".to_owned() })
        }

        fn timeout(&mut self) -> Result<i32, Errno> {
            Ok(60)
        }

        fn set_timeout(&mut self, seconds: i32) -> Result<i32, Errno> {
            self.called(Call::SetTimeout(seconds));
            Ok(seconds.max(self.least_s))
        }

        fn keep_alive(&mut self) -> Result<(), Errno> {
            self.called(Call::Pet);
            Ok(())
        }

        fn write(&mut self, bytes: &[u8]) -> Result<(), Errno> {
            self.called(Call::Write(bytes.to_vec()));
            Ok(())
        }

        fn nowayout(&self) -> bool {
            self.nowayout
        }
    }

    const ALL: u32 = OPTION_SET_TIMEOUT | OPTION_MAGIC_CLOSE;

    #[test]
    fn the_timeout_is_whole_seconds_from_two_up() {
        for (ms, seconds) in [(10, 2), (1_999, 2), (2_000, 2), (2_001, 3), (30_000, 30)] {
            assert_eq!(timeout_s(Duration::from_millis(ms)), seconds, "{ms} ms");
        }
        assert_eq!(timeout_s(Duration::MAX), i32::MAX);
    }

    #[test]
    fn it_is_petted_until_it_is_closed_with_the_magic_character() {
        let fake = Fake { options: ALL, ..Fake::default() };
        let mut watchdog = fake.opened();
        watchdog.pet().unwrap();
        watchdog.close().unwrap();
        let expected = vec![Call::SetTimeout(2), Call::Pet, Call::Write(b"V".to_vec())];
        assert_eq!(*fake.calls.lock().unwrap(), expected);
    }

    /// The device goes on watching over the pause, for as long as that may take.
    #[test]
    fn it_is_handed_over_without_the_magic_character() {
        let fake = Fake { options: ALL, ..Fake::default() };
        fake.opened().hand_over(Duration::from_secs(5));
        assert_eq!(*fake.calls.lock().unwrap(), vec![Call::SetTimeout(2), Call::SetTimeout(5), Call::Pet]);
        let mut fenced = Fake { options: ALL, ..Fake::default() }.opened();
        assert!(!fenced.has_fenced() && fenced.fence() && fenced.has_fenced());
    }

    #[test]
    fn a_node_that_fenced_itself_pets_and_stops_it_no_more() {
        let fake = Fake { options: ALL, ..Fake::default() };
        let mut watchdog = fake.opened();
        watchdog.pet().unwrap();
        assert!(watchdog.fence());
        assert!(!watchdog.fence(), "only the first time is new");
        watchdog.pet().unwrap();
        watchdog.close().unwrap();
        assert_eq!(*fake.calls.lock().unwrap(), vec![Call::SetTimeout(2), Call::Pet]);
    }

    #[test]
    fn dropping_it_does_not_stop_it() {
        let fake = Fake { options: ALL, ..Fake::default() };
        drop(fake.opened());
        assert_eq!(*fake.calls.lock().unwrap(), vec![Call::SetTimeout(2)]);
    }

    #[test]
    fn what_is_doubtful_is_said() {
        let remarks = |fake: Fake| fake.opened().remarks.join("\n");
        let plain = remarks(Fake { options: ALL, ..Fake::default() });
        assert!(plain.contains("fake): 2 s") && !plain.contains("nowayout"), "{plain}");
        let slow = remarks(Fake { options: ALL, least_s: 15, ..Fake::default() });
        assert!(slow.contains("after 15 s, and not 2 s"), "{slow}");
        let fixed = remarks(Fake { options: OPTION_MAGIC_CLOSE, ..Fake::default() });
        assert!(fixed.contains("after 60 s, and not 2 s"), "{fixed}");
        let for_ever = remarks(Fake { options: ALL, nowayout: true, ..Fake::default() });
        assert!(for_ever.contains("nowayout"), "{for_ever}");
        let loose = remarks(Fake { options: OPTION_SET_TIMEOUT, ..Fake::default() });
        assert!(loose.contains("no magic close"), "{loose}");
    }

    #[test]
    fn what_is_no_watchdog_is_said_plainly() {
        let path = Path::new("/dev/null");
        let error = Watchdog::open(path, Duration::from_secs(1)).err().expect("it is none");
        assert!(error.to_string().starts_with("/dev/null is no watchdog"), "{error}");
        let error =
            Watchdog::open(Path::new("/dev/no-such"), Duration::from_secs(1)).err().expect("not there");
        assert!(error.to_string().contains("modprobe softdog"), "{error}");
    }
}
