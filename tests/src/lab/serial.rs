//! Serial cables: two pseudo terminals joined by a pump that carries bytes at the line's rate, and can be cut, damaged,
//! held and unplugged. An agent finds its end under a name that stays, whatever terminal is behind it.

use std::fs::File;
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use nix::fcntl::OFlag;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::{FlowArg, SetArg, cfmakeraw, tcflow, tcgetattr, tcsetattr};

use super::clock;

/// Between two rounds of the pump.
const STEP: Duration = Duration::from_millis(2);
/// Time that the pump makes up for when it was late itself.
const CATCH_UP: Duration = Duration::from_millis(50);
/// Bits of a byte on the line.
const BITS_PER_BYTE: u64 = 10;

/// How the nodes of a cluster are joined by serial lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SerialSpec {
    /// In which shape.
    pub shape: Shape,
    /// At which rate.
    pub baud: u32,
}

/// Each node is joined to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// And that is all.
    Chain,
    /// And the last to the first.
    Ring,
}

/// An end of a cable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// At the node whose number the cable has.
    Near,
    /// At the next node.
    Far,
}

impl SerialSpec {
    /// How many cables join so many nodes; cable N starts at node N.
    pub fn cables(self, nodes: usize) -> usize {
        match self.shape {
            Shape::Chain => nodes.saturating_sub(1),
            Shape::Ring => nodes,
        }
    }

    /// The devices of a node, the one to the next node first.
    pub fn devices(self, directory: &Path, node: usize, nodes: usize) -> Vec<PathBuf> {
        let cables = 0..self.cables(nodes);
        let near =
            cables.clone().filter(|cable| *cable == node).map(|cable| path(directory, cable, Side::Near));
        let far =
            cables.filter(|cable| (cable + 1) % nodes == node).map(|cable| path(directory, cable, Side::Far));
        near.chain(far).collect()
    }
}

/// Where an agent finds the end of a cable.
fn path(directory: &Path, cable: usize, side: Side) -> PathBuf {
    directory.join(match side {
        Side::Near => format!("cable{cable}-near"),
        Side::Far => format!("cable{cable}-far"),
    })
}

/// A cable.
#[derive(Debug)]
pub struct Cable {
    state: Arc<State>,
    pump: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    ends: [End; 2],
    baud: u32,
    is_cut: AtomicBool,
    /// One byte in so many is damaged, none for 0.
    damage: AtomicU32,
    ended: AtomicBool,
}

#[derive(Debug)]
struct End {
    path: PathBuf,
    plugged: Mutex<Option<Terminal>>,
    /// Bytes that came out here.
    delivered: AtomicU64,
}

/// A pseudo terminal: the agent opens the slave, the pump has the master.
#[derive(Debug)]
struct Terminal {
    master: PtyMaster,
    /// Kept open, so that the terminal lives while no agent runs, and is as raw as a line.
    slave: File,
}

impl Cable {
    /// Cable number `cable`, its ends under `directory`.
    ///
    /// # Errors
    /// There are no pseudo terminals.
    pub fn new(directory: &Path, cable: usize, baud: u32) -> Result<Self> {
        let end = |side| -> Result<End> {
            let path = path(directory, cable, side);
            let terminal = Terminal::new(&path)?;
            Ok(End { path, plugged: Mutex::new(Some(terminal)), delivered: AtomicU64::new(0) })
        };
        let state = Arc::new(State {
            ends: [end(Side::Near)?, end(Side::Far)?],
            baud,
            is_cut: AtomicBool::new(false),
            damage: AtomicU32::new(0),
            ended: AtomicBool::new(false),
        });
        let pumped = Arc::clone(&state);
        let pump = thread::Builder::new().name("cable".into()).spawn(move || pumped.pump())?;
        Ok(Self { state, pump: Some(pump) })
    }

    /// Nothing passes any more, in either direction; the ends stay where they are.
    pub fn cut(&self) {
        self.state.is_cut.store(true, Ordering::Relaxed);
    }

    /// Everything passes again.
    pub fn heal(&self) {
        self.state.is_cut.store(false, Ordering::Relaxed);
    }

    /// Damages one byte in `bytes` from now on; none for 0.
    pub fn damage(&self, bytes: u32) {
        self.state.damage.store(bytes, Ordering::Relaxed);
    }

    /// Makes `bytes` come out at an end.
    ///
    /// # Errors
    /// It is unplugged, or takes nothing.
    pub fn inject(&self, side: Side, bytes: &[u8]) -> Result<()> {
        let plugged = self.end(side).lock();
        let terminal = plugged.as_ref().ok_or_else(|| anyhow!("that end is unplugged"))?;
        let taken = nix::unistd::write(&terminal.master, bytes).context("cannot write to the terminal")?;
        if taken != bytes.len() {
            return Err(anyhow!("the terminal took {taken} of {} bytes", bytes.len()));
        }
        Ok(())
    }

    /// Lets nothing out of the agent at this end, as with flow control, or lets it go on.
    ///
    /// # Errors
    /// It is unplugged.
    pub fn hold(&self, side: Side, held: bool) -> Result<()> {
        let plugged = self.end(side).lock();
        let terminal = plugged.as_ref().ok_or_else(|| anyhow!("that end is unplugged"))?;
        let action = if held { FlowArg::TCOOFF } else { FlowArg::TCOON };
        tcflow(&terminal.slave, action).context("cannot hold the terminal")
    }

    /// The device is gone: what has it open hangs up, and its name is nowhere.
    pub fn unplug(&self, side: Side) {
        let end = self.end(side);
        *end.lock() = None;
        let _ = std::fs::remove_file(&end.path);
    }

    /// It is back, as another terminal under the same name.
    ///
    /// # Errors
    /// There are no pseudo terminals.
    pub fn plug(&self, side: Side) -> Result<()> {
        let end = self.end(side);
        *end.lock() = Some(Terminal::new(&end.path)?);
        Ok(())
    }

    /// Bytes that came out at an end so far.
    pub fn delivered(&self, side: Side) -> u64 {
        self.end(side).delivered.load(Ordering::Relaxed)
    }

    /// Where an agent finds an end.
    pub fn device(&self, side: Side) -> &Path {
        &self.end(side).path
    }

    fn end(&self, side: Side) -> &End {
        let [near, far] = &self.state.ends;
        match side {
            Side::Near => near,
            Side::Far => far,
        }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
        if let Some(pump) = self.pump.take() {
            let _ = pump.join();
        }
    }
}

impl End {
    fn lock(&self) -> MutexGuard<'_, Option<Terminal>> {
        self.plugged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the agent at this end has said, at most so much.
    fn read(&self, bytes: &mut [u8]) -> usize {
        // Nobody has the other side open, or nothing is there.
        self.lock().as_ref().map_or(0, |terminal| nix::unistd::read(&terminal.master, bytes).unwrap_or(0))
    }

    /// What comes out here. A reader who is too slow loses it, as on a line.
    fn write(&self, bytes: &[u8]) {
        if let Some(terminal) = self.lock().as_ref() {
            let taken = nix::unistd::write(&terminal.master, bytes).unwrap_or(0);
            self.delivered.fetch_add(taken as u64, Ordering::Relaxed);
        }
    }
}

impl State {
    fn pump(&self) {
        let [near, far] = &self.ends;
        let mut at_ns = clock::now_ns();
        let mut owed_ns = 0;
        let mut damaged = 0;
        while !self.ended.load(Ordering::Relaxed) {
            clock::sleep_until(at_ns + clock::ns(STEP));
            let now_ns = clock::now_ns();
            owed_ns = (owed_ns + now_ns - at_ns).min(clock::ns(CATCH_UP));
            at_ns = now_ns;
            let byte_ns = BITS_PER_BYTE * 1_000_000_000 / u64::from(self.baud.max(1));
            let room = owed_ns / byte_ns;
            owed_ns -= room * byte_ns;
            for (from, to) in [(near, far), (far, near)] {
                let mut bytes = vec![0; usize::try_from(room).unwrap_or(0)];
                let length = from.read(&mut bytes);
                bytes.truncate(length);
                self.spoil(&mut bytes, &mut damaged);
                if !self.is_cut.load(Ordering::Relaxed) && !bytes.is_empty() {
                    to.write(&bytes);
                }
            }
        }
    }

    fn spoil(&self, bytes: &mut [u8], count: &mut u32) {
        let every = self.damage.load(Ordering::Relaxed);
        for byte in bytes.iter_mut().filter(|_| every > 0) {
            *count += 1;
            if *count >= every {
                *count = 0;
                *byte ^= 0x5a;
            }
        }
    }
}

impl Terminal {
    /// A new terminal, raw, under `path`.
    fn new(path: &Path) -> Result<Self> {
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
            .context("there are no pseudo terminals")?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname_r(&master)?;
        let slave = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY | libc::O_CLOEXEC)
            .open(&name)?;
        let mut settings = tcgetattr(&slave)?;
        cfmakeraw(&mut settings);
        tcsetattr(&slave, SetArg::TCSANOW, &settings)?;
        match std::fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context("cannot replace the terminal's name"),
        }
        symlink(&name, path).context("cannot name the terminal")?;
        Ok(Self { master, slave })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::time::Duration;

    use super::{Cable, Side};
    use crate::lab::clock;

    fn open(cable: &Cable, side: Side) -> File {
        File::options().read(true).write(true).open(cable.device(side)).unwrap()
    }

    /// At its own rate, in both directions, and not when it is cut.
    #[test]
    fn a_cable_carries_bytes() {
        let place = std::env::temp_dir().join(format!("xbeat-cable-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        let cable = Cable::new(&place, 0, 9_600).unwrap();
        let (mut near, mut far) = (open(&cable, Side::Near), open(&cable, Side::Far));
        let from_ns = clock::now_ns();
        near.write_all(&[7; 96]).unwrap();
        let mut bytes = [0; 96];
        far.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, [7; 96]);
        // 96 bytes at 960 a second, less what the pump was owed when they came.
        assert!(clock::ms_between(from_ns, clock::now_ns()) > 40.0);
        cable.cut();
        far.write_all(&[8; 5]).unwrap();
        clock::pause(Duration::from_millis(100)).unwrap();
        cable.heal();
        far.write_all(&[9; 5]).unwrap();
        near.read_exact(&mut bytes[..5]).unwrap();
        assert_eq!(bytes[..5], [9; 5]);

        cable.unplug(Side::Near);
        assert_eq!(near.read(&mut bytes).unwrap_or(0), 0, "it hung up");
        assert!(!cable.device(Side::Near).exists());
        cable.plug(Side::Near).unwrap();
        let mut near = open(&cable, Side::Near);
        far.write_all(&[3; 5]).unwrap();
        near.read_exact(&mut bytes[..5]).unwrap();
        assert_eq!(bytes[..5], [3; 5]);
        drop(cable);
        std::fs::remove_dir_all(&place).unwrap();
    }
}
