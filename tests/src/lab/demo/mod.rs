//! The demonstration: a cluster of two nodes loses the one that holds the service address, the other takes it over before
//! the client's eyes, and the cluster heals. It fails when the takeover did not really happen.

mod report;
mod screen;
mod unprivileged;

use std::time::Duration;

use anyhow::{Result, bail, ensure};

pub use report::Report;
pub use unprivileged::become_root_inside;

use super::cluster::Cluster;
use super::config::{Spec, Xdp};
use super::failover::{Kill, Stages, fail_over, mend};
use super::{client::Gap, clock};
use screen::Screen;

/// How long the steady state is shown before the fault.
const BEFORE: Duration = Duration::from_millis(1500);
/// And after each change.
const AFTER: Duration = Duration::from_millis(1500);
/// More than any takeover may take.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(10);

/// What to show.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Between two heartbeats.
    pub keepalive: Duration,
    /// Silence that is death.
    pub deadtime: Duration,
    /// What the holder loses.
    pub kill: Kill,
    /// Whether only JSON goes to standard output.
    pub json: bool,
    /// Whether this runs in a user namespace, on the socket path.
    pub unprivileged: bool,
}

/// Runs the demonstration and says what happened.
///
/// # Errors
/// The takeover did not happen, the cluster did not heal, or the user interrupted.
pub fn run(options: Options) -> Result<Report> {
    let screen = Screen::new(options.json);
    screen.title(&options);
    let mut cluster = Cluster::new(spec(&options))?;
    let outcome = show(&mut cluster, options, &screen);
    if outcome.is_err() && !clock::is_interrupted() {
        cluster.print_logs();
    }
    outcome
}

fn spec(options: &Options) -> Spec {
    Spec {
        cluster: "demo".to_owned(),
        keepalive: options.keepalive,
        deadtime: options.deadtime,
        initdead: (options.deadtime * 2).max(Duration::from_secs(1)),
        xdp: if options.unprivileged { Xdp::Off } else { Xdp::Auto },
        ..Spec::default()
    }
}

fn show(cluster: &mut Cluster, options: Options, screen: &Screen) -> Result<Report> {
    screen.step("starting two agents, a service on each node, and a client");
    let holder = cluster.start()?;
    let survivor = cluster.other(holder);
    let modes = report::modes(cluster)?;
    screen.started(cluster, &modes);
    screen.watch(cluster, BEFORE)?;

    screen.fault(cluster, holder, options.kill);
    let events = cluster.events(survivor)?;
    let stages = fail_over(cluster, holder, survivor, options.kill, &events, TAKEOVER_LIMIT)?;
    check_takeover(cluster, survivor, &stages)?;
    screen.watch(cluster, AFTER)?;
    screen.stages(&stages, &options);

    screen.step(match options.kill {
        Kill::Agent => "healing: the agent is started again",
        Kill::Link => "healing: the link comes back",
        Kill::Both => "healing: the link comes back, the agent is started again",
    });
    mend(cluster, holder, options.kill)?;
    let healed = heal(cluster, screen)?;
    let report = Report {
        holder_before: cluster.name(holder),
        holder_after: cluster.name(survivor),
        holder_healed: cluster.name(healed.owner),
        modes,
        options,
        stages,
        healed_gap: healed.gap,
    };
    screen.end(&report);
    Ok(report)
}

/// The address is where it is said to be, and the client was served from there.
fn check_takeover(cluster: &Cluster, survivor: usize, stages: &Stages) -> Result<()> {
    let (address, name) = (cluster.address()?, cluster.name(survivor));
    ensure!(cluster.host(survivor)?.has_address(address)?, "{name} does not have {address}");
    ensure!(usize::from(stages.gap.first.node) == survivor, "the client was not answered by {name}");
    ensure!(stages.dead_ns >= stages.last_heartbeat_ns, "the verdict came before the last heartbeat");
    Ok(())
}

/// The cluster after healing.
struct Healed {
    owner: usize,
    /// The longest time without an answer since.
    gap: Option<Gap>,
}

/// Waits until the cluster is whole, then watches that one node alone has and serves the address.
fn heal(cluster: &mut Cluster, screen: &Screen) -> Result<Healed> {
    let mended_ns = clock::now_ns();
    let owner = cluster.wait_whole()?;
    let whole_ns = clock::now_ns();
    screen.watch(cluster, AFTER)?;
    let answers = cluster.client().answers_since(whole_ns);
    ensure!(!answers.is_empty(), "the client gets no answers after healing");
    if let Some(other) = answers.iter().find(|answer| usize::from(answer.node) != owner) {
        bail!("after healing node {} still answers besides {}", other.node, cluster.name(owner));
    }
    let address = cluster.address()?;
    for node in 0..cluster.spec().nodes {
        let has = cluster.host(node)?.has_address(address)?;
        ensure!(
            has == (node == owner),
            "after healing {} {} {address}",
            cluster.name(node),
            if has { "still has" } else { "lacks" }
        );
    }
    Ok(Healed { owner, gap: cluster.client().longest_gap(mended_ns) })
}
