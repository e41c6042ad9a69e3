//! One virtual machine: QEMU without acceleration, one processor, a virtio network card that is joined to the other
//! machine's, three serial ports (console, cable, orders) and a watchdog. It ends with the value, or with this process.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;

use super::channel::Channel;
use super::config::Node;
use super::guest::{ADDRESS, NAME};
use super::protocol::Order;
use super::qmp::Qmp;
use crate::lab::clock;

/// The network card's name on QEMU's side.
pub const CARD: &str = "card0";
/// Two of them start on a busy machine: some 10 s are usual.
const BOOT_LIMIT: Duration = Duration::from_secs(300);
/// What any short order may take.
const ORDER_LIMIT: Duration = Duration::from_secs(45);
const MEMORY_MIB: u32 = 224;
/// Above ordinary threads, below those of any test that measures.
pub const PRIORITY: i32 = 10;
/// Of QEMU from its start, where permitted: whoever else works on this machine is not waited for.
const NICE: i32 = -10;
/// Lines of the console that a failure shows.
const CONSOLE_LINES: usize = 25;

/// What a machine is made of.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// `qemu-system-x86_64`.
    pub qemu: &'a Path,
    /// The kernel's bzImage.
    pub kernel: &'a Path,
    /// The initramfs, by its name in the directory.
    pub image: &'a str,
    /// Where sockets and logs go, and the [`super::wire::Wire`] is.
    pub directory: &'a Path,
}

/// A running machine.
#[derive(Debug)]
pub struct Machine {
    node: Node,
    process: Child,
    console: PathBuf,
    qmp: Qmp,
    channel: Channel,
    boot: String,
    release: String,
}

impl Machine {
    /// Starts QEMU; [`Machine::wait_for_boot`] afterwards.
    ///
    /// # Errors
    /// QEMU does not start; the error has its words.
    pub fn start(plan: Plan<'_>, node: Node) -> Result<Self> {
        let name = node.name();
        let words = plan.directory.join(format!("{name}.qemu"));
        let mut process = command(plan, node)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&words)?)
            .spawn()
            .with_context(|| format!("cannot start {}", plan.qemu.display()))?;
        let connected = Qmp::connect(&plan.directory.join(format!("{name}.qmp")))
            .and_then(|qmp| Ok((qmp, Channel::connect(&plan.directory.join(format!("{name}.orders")))?)));
        let (qmp, channel) = match connected {
            Ok(connected) => connected,
            Err(error) => {
                process.kill()?;
                process.wait()?;
                bail!("{error:#}; QEMU says: {}", fs::read_to_string(&words)?.trim());
            }
        };
        let console = plan.directory.join(format!("{name}.console"));
        Ok(Self { node, process, console, qmp, channel, boot: String::new(), release: String::new() })
    }

    /// Waits until it has booted, or booted again, and takes orders.
    ///
    /// # Errors
    /// It does not in time, or QEMU ended.
    pub fn wait_for_boot(&mut self) -> Result<()> {
        let known = (!self.boot.is_empty()).then_some(self.boot.as_str());
        let (release, boot) = self
            .channel
            .ready(known, BOOT_LIMIT)
            .with_context(|| format!("{}: {}", self.node.name(), self.tail().join(" | ")))?;
        (self.release, self.boot) = (release, boot);
        Ok(())
    }

    /// Which node it is.
    pub fn node(&self) -> Node {
        self.node
    }

    /// `uname -r`.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// QEMU's side of it.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// An order that gives nothing.
    ///
    /// # Errors
    /// It could not be carried out.
    pub fn order(&mut self, order: Order) -> Result<()> {
        self.give(order, ORDER_LIMIT).map(drop)
    }

    /// An order, and what it gives.
    ///
    /// # Errors
    /// It could not be carried out, or gives something else.
    pub fn ask<T: DeserializeOwned>(&mut self, order: Order) -> Result<T> {
        let value = self.give(order, ORDER_LIMIT)?;
        Ok(serde_json::from_value(value)?)
    }

    /// An order whose result is asked for later, with [`Machine::collect`].
    ///
    /// # Errors
    /// The machine is gone.
    pub fn begin(&mut self, order: Order) -> Result<u64> {
        self.channel.send(order)
    }

    /// What an order that was begun gives.
    ///
    /// # Errors
    /// As [`Machine::ask`], with the time that it may take.
    pub fn collect<T: DeserializeOwned>(&mut self, id: u64, what: &str, limit: Duration) -> Result<T> {
        let value = self.channel.wait(id, what, limit).with_context(|| self.node.name())?;
        Ok(serde_json::from_value(value)?)
    }

    fn give(&mut self, order: Order, limit: Duration) -> Result<serde_json::Value> {
        self.channel.order(order, limit).with_context(|| self.node.name())
    }

    /// Makes all of QEMU's threads realtime where that is permitted, so that a busy host does not look like a dead node.
    pub fn prioritise(&self) {
        let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", self.process.id())) else { return };
        for task in tasks.flatten() {
            let Ok(thread) = task.file_name().to_string_lossy().parse::<i32>() else { continue };
            let parameters = libc::sched_param { sched_priority: PRIORITY };
            // SAFETY: `parameters` is valid for the call; a thread that has ended, or no permission, is an error.
            unsafe { libc::sched_setscheduler(thread, libc::SCHED_FIFO, &raw const parameters) };
        }
    }

    /// The end of what its console showed.
    pub fn tail(&self) -> Vec<String> {
        let bytes = fs::read(&self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.get(lines.len().saturating_sub(CONSOLE_LINES)..).unwrap_or_default().to_vec()
    }

    /// # Errors
    /// QEMU has ended.
    pub fn check(&mut self) -> Result<()> {
        let ended = self.process.try_wait()?;
        ensure!(ended.is_none(), "QEMU of {} ended: {ended:?}", self.node.name());
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(plan: Plan<'_>, node: Node) -> Command {
    let name = node.name();
    let line = format!(
        "console=ttyS0 quiet panic=-1 tsc=reliable no_timer_check net.ifnames=0 {NAME}{name} {ADDRESS}{}/24",
        node.address()
    );
    // The cable: alpha's QEMU keeps the socket, and is started first.
    let cable = match node {
        Node::Alpha => "socket,id=cable,path=cable,server=on,wait=off",
        Node::Beta => "socket,id=cable,path=cable,server=off",
    };
    let mut command = Command::new(plan.qemu);
    command.current_dir(plan.directory);
    command.args(["-name", name, "-machine", "pc", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1"]);
    command.args(["-m", &MEMORY_MIB.to_string()]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
    command.arg("-kernel").arg(plan.kernel).arg("-initrd").arg(plan.image).args(["-append", &line]);
    command.args(["-serial", &format!("file:{name}.console")]);
    command.args(["-chardev", cable, "-serial", "chardev:cable"]);
    let orders = format!("socket,id=orders,path={name}.orders,server=on,wait=off");
    command.args(["-chardev", &orders, "-serial", "chardev:orders"]);
    command.args(["-qmp", &format!("unix:{name}.qmp,server=on,wait=off")]);
    let network = format!(
        "dgram,id=net0,local.type=unix,local.path={name}.card,remote.type=unix,remote.path={name}.wire"
    );
    let card = format!("virtio-net-pci,id={CARD},netdev=net0,mac={}", node.mac_text());
    command.args(["-netdev", &network, "-device", &card]);
    command.args(["-device", "i6300esb", "-action", "watchdog=reset"]);
    let prepare = || {
        // SAFETY: a system call with numbers alone; without permission the priority stays as it is.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
        // QEMU does not outlive this process, however that ends.
        Ok(set_pdeathsig(Signal::SIGKILL)?)
    };
    // SAFETY: only system calls between fork and exec.
    unsafe { command.pre_exec(prepare) };
    command
}

/// Between two looks at a machine that is waited for.
pub const LOOK: Duration = Duration::from_millis(100);

/// Asks a machine again and again until it says what is waited for.
///
/// # Errors
/// It does not in time, or does not answer.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = clock::now_ns() + clock::ns(limit);
    loop {
        if let Some(value) = look()? {
            return Ok(value);
        }
        ensure!(clock::now_ns() < end, "waited {} s in vain for {what}", limit.as_secs());
        clock::pause(LOOK)?;
    }
}
