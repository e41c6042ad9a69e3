//! The first process of a machine: makes it usable, then carries out one order after the other that arrives on the
//! serial line. It never ends: without it the kernel would panic.

mod agent;
mod kernel;
mod netlink;
mod setup;
pub use setup::{ADDRESS, NAME};
mod talk;
mod watch;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::termios::{self, SetArg};
use serde_json::{Value, json};

use super::initramfs::OBJECTS;
use super::load;
use super::protocol::{ORDERS, Order, Reply, Request, Tested};
use crate::lab::clock;
use agent::Agent;
use talk::Talk;
use watch::Watch;

/// Lines of a test binary's output that are told.
const TAIL_LINES: usize = 40;

/// The life of a machine.
pub fn run() -> ! {
    let outcome = setup::run().and_then(|()| serve());
    eprintln!("XBEAT-VM: the first process cannot go on: {outcome:?}");
    // The host sees it in the console's log, and gives up waiting.
    loop {
        clock::sleep_until(u64::MAX / 2);
    }
}

/// What outlives an order.
#[derive(Default)]
struct Guest {
    agent: Option<Agent>,
    watch: Option<Watch>,
    talk: Option<Talk>,
}

fn serve() -> Result<()> {
    let port = OpenOptions::new().read(true).write(true).open(ORDERS).context("no serial line for orders")?;
    // As it is: no echo, no changed line ends.
    let mut settings = termios::tcgetattr(&port)?;
    termios::cfmakeraw(&mut settings);
    termios::tcsetattr(&port, SetArg::TCSANOW, &settings)?;
    let mut answers = port.try_clone()?;
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned());
    let release = read("/proc/sys/kernel/osrelease")?;
    let boot = read("/proc/sys/kernel/random/boot_id")?;
    eprintln!("XBEAT-VM: {release} takes orders");
    say(&mut answers, &Reply::Ready { release, boot })?;
    let mut guest = Guest::default();
    for line in BufReader::new(port).lines() {
        let line = line.context("the serial line failed")?;
        let Ok(Request { id, order }) = serde_json::from_str::<Request>(&line) else {
            eprintln!("XBEAT-VM: not an order: {line}");
            continue;
        };
        let reply = match guest.carry_out(order) {
            Ok(value) => Reply::Done { id, value },
            Err(error) => Reply::Failed { id, why: format!("{error:#}") },
        };
        say(&mut answers, &reply)?;
    }
    anyhow::bail!("the serial line ended")
}

fn say(port: &mut File, reply: &Reply) -> Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    port.write_all(&line).context("cannot answer")
}

impl Guest {
    fn carry_out(&mut self, order: Order) -> Result<Value> {
        match order {
            Order::Load => with_locked_memory(|| {
                Ok(serde_json::to_value(load::programs(&Path::new("/").join(OBJECTS[0]))?)?)
            }),
            Order::Test { name, limit_s } => {
                with_locked_memory(|| Ok(serde_json::to_value(test(&name, Duration::from_secs(limit_s))?)?))
            }
            Order::Start { config } => {
                // The one before has ended, or is ended now.
                self.agent = None;
                self.agent = Some(Agent::start(&config)?);
                Ok(Value::Null)
            }
            Order::Status => self.agent()?.status(),
            Order::Events { since_ns } => Ok(self.agent()?.events(since_ns)),
            Order::Now => Ok(json!(clock::now_ns())),
            Order::Stop => self.agent.take().context("no agent runs")?.stop().map(|()| Value::Null),
            Order::Kill => self.agent.take().context("no agent runs")?.kill().map(|()| Value::Null),
            Order::Watch { mac, address, own } => {
                self.watch = Some(Watch::start(mac, address, own)?);
                Ok(Value::Null)
            }
            Order::Watched => {
                Ok(serde_json::to_value(self.watch.as_ref().context("no watch runs")?.watched())?)
            }
            Order::Talk { from, to } => {
                self.talk = Some(Talk::start(from, to)?);
                Ok(Value::Null)
            }
            Order::Quiet => {
                (self.watch, self.talk) = (None, None);
                Ok(Value::Null)
            }
            Order::Watchdog => {
                let state = fs::read_to_string("/sys/class/watchdog/watchdog0/state");
                Ok(json!(state.context("no watchdog device")?.trim()))
            }
            Order::Classifier { egress } => kernel::classifier(egress).map(|way| json!(way)),
            Order::Panic => {
                fs::write("/proc/sys/kernel/sysrq", "1")?;
                fs::write("/proc/sysrq-trigger", "c")?;
                Ok(Value::Null)
            }
            Order::Off => match reboot(RebootMode::RB_POWER_OFF)? {},
        }
    }

    fn agent(&self) -> Result<&Agent> {
        self.agent.as_ref().context("no agent runs")
    }
}

/// Before 5.11 maps count as locked memory, and tests do not raise their limit. The agent raises its own: it is started
/// with the limit of any process.
fn with_locked_memory<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    setrlimit(Resource::RLIMIT_MEMLOCK, u64::MAX, u64::MAX)?;
    let outcome = work();
    setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard)?;
    outcome
}

fn test(name: &str, limit: Duration) -> Result<Tested> {
    let output = format!("/tmp/{name}.out");
    let file = File::create(&output)?;
    let mut child = Command::new(format!("/tests/{name}"))
        .arg("--test-threads=1")
        .env("XBEAT_EBPF_OBJECT", format!("/{}", OBJECTS[0]))
        .env(crate::privileged::REQUIRE, "1")
        .stdin(Stdio::null())
        .stderr(file.try_clone()?)
        .stdout(file)
        .spawn()
        .with_context(|| format!("cannot start the test {name}"))?;
    let ended = clock::wait_for(name, limit, || Ok(child.try_wait()?));
    if ended.is_err() {
        child.kill()?;
        child.wait()?;
    }
    let text = fs::read_to_string(&output)?;
    let mut tail: Vec<String> = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    tail.drain(..tail.len().saturating_sub(TAIL_LINES));
    if let Err(error) = &ended {
        tail.push(error.to_string());
    }
    Ok(Tested { passed: ended.is_ok_and(|status| status.success()), tail })
}
