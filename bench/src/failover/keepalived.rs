//! The series of keepalived, realtime and at its smallest interval, in the same network and with the same fault as xbeat.
//! Its verdict is timed when its log line is read, which adds up to a millisecond; the gap does not depend on that.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use agent_tests::lab::capture::Capture;
use agent_tests::lab::client::{Client, Gap};
use agent_tests::lab::echo::Echo;
use agent_tests::lab::failover::sleep_to_phase;
use agent_tests::lab::frame::Kind;
use agent_tests::lab::network::{Network, Port};
use agent_tests::lab::scratch::Scratch;
use agent_tests::lab::{clock, realtime};
use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cost::Cost;
use super::{Run, Series};

/// Its smallest interval: below, it falls back to a second.
const ADVERT: Duration = Duration::from_millis(10);
const SERVICE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 100));
const PRIORITIES: [u32; 2] = [254, 253];
const LIMIT: Duration = Duration::from_secs(15);
const SETTLE: Duration = Duration::from_millis(600);
/// As in the series of xbeat.
const PRIORITY: i32 = 40;

/// Whether keepalived is installed.
pub fn is_installed() -> bool {
    Command::new("keepalived").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Its version, as it says it.
pub fn version() -> String {
    let output = Command::new("keepalived").arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default();
    text.split_whitespace().nth(1).unwrap_or("of unknown version").to_owned()
}

/// Installs Debian's package without starting any service.
///
/// # Errors
/// apt-get failed.
pub fn install() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let policy = PathBuf::from("/usr/sbin/policy-rc.d");
    let is_ours = !policy.exists();
    if is_ours {
        fs::write(&policy, "#!/bin/sh\nexit 101\n").context("cannot keep services from starting")?;
        fs::set_permissions(&policy, fs::Permissions::from_mode(0o755))?;
    }
    let status = Command::new("apt-get")
        .args(["install", "-y", "--no-install-recommends", "keepalived"])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null())
        .status();
    if is_ours {
        fs::remove_file(&policy)?;
    }
    let status = status.context("cannot run apt-get")?;
    if !status.success() {
        bail!("apt-get install keepalived: {status}");
    }
    Ok(())
}

/// Runs `runs` failovers.
///
/// # Errors
/// keepalived did not come up, or the user interrupted. A failover that fails is counted, not an error.
pub fn series(runs: usize) -> Result<Series> {
    let mut pair = Pair::new()?;
    let mut series = Series::new("keepalived", ADVERT, deadtime(1));
    let mut holder = pair.wait_whole()?;
    for number in 0..runs {
        match realtime::with_fifo(PRIORITY, || pair.fail_over(holder, super::phase(number, runs))) {
            Ok(run) => series.runs.push(run),
            Err(error) => series.failures.push(format!("run {number}: {error:#}")),
        }
        clock::check_interrupt()?;
        pair.mend(holder)?;
        holder = pair.wait_whole()?;
        eprint!("\r  keepalived {number:3}/{runs} ");
    }
    eprintln!("\r  keepalived {runs}/{runs} done");
    Ok(series)
}

/// Measures what master and backup cost.
///
/// # Errors
/// keepalived did not come up.
pub fn cost() -> Result<Vec<Cost>> {
    let pair = Pair::new()?;
    let holder = pair.wait_whole()?;
    pair.client.stop();
    pair.captures.iter().for_each(Capture::stop);
    let (master, backup) =
        (pair.nodes[holder].processes()?, pair.nodes[usize::from(holder == 0)].processes()?);
    super::cost::measure("keepalived", [&master, &backup])
}

/// Master_Down_Interval of RFC 5798 section 6.1 at the node.
fn deadtime(node: usize) -> Duration {
    let priority = PRIORITIES.get(node).copied().unwrap_or(1);
    ADVERT * 3 + ADVERT * (256 - priority) / 256
}

/// Two keepalived, a service on both nodes and a client.
struct Pair {
    nodes: [Node; 2],
    _echoes: [Echo; 2],
    client: Client,
    captures: [Capture; 2],
    network: Network,
    _scratch: Scratch,
}

/// One keepalived.
struct Node {
    config: PathBuf,
    child: Option<Child>,
    /// When it said that it is master or backup, in order.
    states: Arc<Mutex<Vec<(u64, State)>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Master,
    Backup,
}

impl Pair {
    fn new() -> Result<Self> {
        let scratch = Scratch::new()?;
        let network = Network::new(&["n1", "n2", "client"], 1)?;
        let node = |number: usize| -> Result<Node> {
            let config = scratch.root().join(format!("keepalived-{number}.conf"));
            fs::write(&config, configuration(number)).context("cannot write keepalived's configuration")?;
            let mut node = Node { config, child: None, states: Arc::default() };
            node.start(&network, number)?;
            Ok(node)
        };
        let port = |host: usize| Port { host, bridge: 0 };
        Ok(Self {
            nodes: [node(0)?, node(1)?],
            _echoes: [Echo::start(network.host(0)?, 0)?, Echo::start(network.host(1)?, 1)?],
            client: Client::start(network.host(2)?, SERVICE)?,
            captures: [Capture::start(&network, port(0))?, Capture::start(&network, port(1))?],
            network,
            _scratch: scratch,
        })
    }

    /// Waits until one is master, the other backup, and the master serves; says who.
    fn wait_whole(&self) -> Result<usize> {
        let holder = clock::wait_for("a master and a backup", LIMIT, || {
            let states = [self.nodes[0].newest(), self.nodes[1].newest()];
            let holder = match states {
                [Some(State::Master), Some(State::Backup)] => 0,
                [Some(State::Backup), Some(State::Master)] => 1,
                [_, _] => return Ok(None),
            };
            let answer = self.client.newest_answer(Duration::from_millis(100));
            Ok(answer.is_some_and(|answer| usize::from(answer.node) == holder).then_some(holder))
        })?;
        for capture in &self.captures {
            capture.clear();
        }
        clock::pause(SETTLE)?;
        self.client.forget_lateness();
        Ok(holder)
    }

    fn fail_over(&self, holder: usize, phase: f64) -> Result<Run> {
        let survivor = usize::from(holder == 0);
        let capture = &self.captures[survivor];
        let source = Kind::Vrrp(Port { host: holder, bridge: 0 }.ipv4().into());
        let adverts_until =
            |until_ns: u64| capture.frames(0, |frame| frame.kind == source && frame.at_ns <= until_ns);
        let seen = adverts_until(u64::MAX).pop().context("no advertisement was captured")?;
        sleep_to_phase(seen.at_ns, ADVERT, phase);
        let (failing, taking) = (&self.nodes[holder], &self.nodes[survivor]);
        let before_ns = clock::now_ns().saturating_sub(clock::ns(SETTLE / 2));
        let fault_ns = clock::now_ns();
        failing.kill()?;
        self.network.cut(Port { host: holder, bridge: 0 })?;

        let dead_ns = clock::wait_for("a new master", LIMIT, || Ok(taking.master_since(fault_ns)))?;
        let announced_ns = clock::wait_for("an announcement", LIMIT, || {
            Ok(capture.first_announcement_ns(SERVICE, fault_ns))
        })?;
        let last_ns = adverts_until(dead_ns).pop().context("no advertisement was captured")?.at_ns;
        let answers_of = |node: usize| {
            let answers = self.client.answers_since(before_ns).into_iter();
            answers.filter(move |answer| usize::from(answer.node) == node)
        };
        let first = clock::wait_for("an answer", LIMIT, || Ok(answers_of(survivor).next()))?;
        let last = answers_of(holder).next_back().context("nothing was answered before the fault")?;
        Ok(Run {
            overshoot_ms: clock::ms_between(last_ns, dead_ns) - super::milliseconds(deadtime(survivor)),
            announce_ms: clock::ms_between(dead_ns, announced_ns),
            gap_ms: Gap { last, first }.ms(),
            client_late_ms: self.client.late_max_ms(),
        })
    }

    /// Removes what the killed one left on its interface, gives back the link, starts it again.
    fn mend(&mut self, node: usize) -> Result<()> {
        self.nodes[node].reap()?;
        let host = self.network.host(node)?;
        if host.has_address(SERVICE)? {
            host.ip(&format!("addr del {SERVICE}/24 dev eth0"))?;
        }
        self.network.heal(Port { host: node, bridge: 0 })?;
        self.nodes[node].start(&self.network, node)
    }
}

impl Node {
    fn start(&mut self, network: &Network, number: usize) -> Result<()> {
        let pid_file = |which: &str| {
            let path = self.config.with_extension(which);
            // Left by the one that was killed; a new one would take the name for a running process.
            let _ = fs::remove_file(&path);
            path
        };
        let mut child = network
            .host(number)?
            .command("keepalived")
            .args(["-n", "-l", "-D", "-P", "-f"])
            .arg(&self.config)
            .arg("-p")
            .arg(pid_file("pid"))
            .arg("-r")
            .arg(pid_file("vrrp.pid"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start keepalived")?;
        let stderr = child.stderr.take().context("keepalived has no standard error")?;
        self.child = Some(child);
        self.states.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let states = Arc::clone(&self.states);
        thread::Builder::new().name("keepalived".into()).spawn(move || {
            realtime::fifo(PRIORITY);
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let now_ns = clock::now_ns();
                let state = if line.contains("Entering MASTER STATE") {
                    State::Master
                } else if line.contains("Entering BACKUP STATE") {
                    State::Backup
                } else {
                    continue;
                };
                states.lock().unwrap_or_else(PoisonError::into_inner).push((now_ns, state));
            }
        })?;
        Ok(())
    }

    fn newest(&self) -> Option<State> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).last().map(|(_, state)| *state)
    }

    fn master_since(&self, from_ns: u64) -> Option<u64> {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states
            .iter()
            .find(|(at_ns, state)| *at_ns >= from_ns && *state == State::Master)
            .map(|(at_ns, _)| *at_ns)
    }

    /// Its processes, the VRRP child first.
    fn processes(&self) -> Result<Vec<u32>> {
        let parent = self.child.as_ref().context("keepalived does not run")?.id();
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
        let children = children.split_whitespace().map(str::parse);
        children.chain([Ok(parent)]).collect::<Result<_, _>>().context("not a process id")
    }

    /// SIGKILL to all of them.
    fn kill(&self) -> Result<()> {
        for pid in self.processes()? {
            kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL).context("cannot kill keepalived")?;
        }
        Ok(())
    }

    fn reap(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // What does not run cannot be killed.
        let _ = self.kill();
        let _ = self.reap();
    }
}

fn configuration(node: usize) -> String {
    let priority = PRIORITIES.get(node).copied().unwrap_or(1);
    format!(
        "global_defs {{\n router_id n{node}\n vrrp_version 3\n vrrp_garp_master_delay 0\n vrrp_garp_master_repeat 1\n \
         vrrp_skip_check_adv_addr\n vrrp_rt_priority 50\n vrrp_no_swap\n}}\n\
         vrrp_instance VI {{\n state BACKUP\n nopreempt\n interface eth0\n virtual_router_id 51\n priority {priority}\n \
         advert_int {}\n virtual_ipaddress {{\n  {SERVICE}/24 dev eth0\n }}\n}}\n",
        ADVERT.as_secs_f64(),
    )
}
