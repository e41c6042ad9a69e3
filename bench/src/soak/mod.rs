//! `cargo xtask bench soak`: random faults on a cluster of five in namespaces, round after round until the time is over. Each
//! round is one fault or two, the mending, the time until everything is whole, and two seconds of quiet; all is watched all the time.

pub mod epochs;
pub mod excuse;
pub mod fault;
pub mod memory;
pub mod outage;
pub mod report;
pub mod stall;
pub mod stream;
pub mod strike;
pub mod turns;
pub mod verdict;
pub mod watch;

use std::net::Ipv4Addr;
use std::time::Duration;

use agent_tests::lab::clock;
use agent_tests::lab::cluster::Cluster;
use agent_tests::lab::config::{LinkSpec, Policy, Spec};
use anyhow::{Context as _, Result};

use crate::progress::Progress;
use fault::{Draw, Drawn, Fault, Kind, LINKS, NODES};
use outage::Round;
use strike::Strikes;
use watch::Watch;

/// After this time something is wrong for good.
pub const RECOVERY_MAX: Duration = Duration::from_secs(10);
/// And after this the soak is given up.
const GIVE_UP: Duration = Duration::from_secs(20);
/// So long somebody may be late while nothing is wrong.
const MOMENT: Duration = Duration::from_millis(100);
/// All whole, and nothing is done.
const QUIET: Duration = Duration::from_secs(2);
/// Between two looks at what is watched.
const LOOK: Duration = Duration::from_millis(20);
/// No round begins that could last longer than this beyond the end.
const LAST_ROUND: Duration = Duration::from_secs(10);

/// What to do.
#[derive(Clone, Debug)]
pub struct Setting {
    /// For how long.
    pub length: Duration,
    /// Of the generator.
    pub seed: u64,
    /// Between heartbeats.
    pub keepalive: Duration,
    /// Silence that is death.
    pub deadtime: Duration,
    /// The first deadtime after start.
    pub initdead: Duration,
    /// Kinds of faults; all if empty.
    pub only: Vec<Kind>,
}

/// A soak: what was done and what was found.
#[derive(Debug)]
pub struct Soak {
    /// What was to be done.
    pub setting: Setting,
    /// When it began.
    pub from_ns: u64,
    /// When it ended.
    pub to_ns: u64,
    /// In order.
    pub rounds: Vec<Round>,
    /// What happens now, in words.
    pub now: String,
    /// When busy loops had the processors.
    pub hogs: Vec<(u64, u64)>,
    /// How often each kind was done, also as one of two.
    pub done: Vec<Kind>,
    /// Commands that were refused while something else was wrong.
    pub refused: Vec<String>,
    /// What must not happen and is not found in the watch.
    pub wrong: Vec<String>,
    /// What was seen.
    pub watch: Watch,
    /// The last events of each node, where something was wrong.
    pub recent: Vec<String>,
    /// By node: how often the observer asked it.
    pub asked: Vec<u64>,
    /// The client's worst delay.
    pub late_client_ms: f64,
}

/// Runs it.
///
/// # Errors
/// The cluster did not come up, or the laboratory failed.
pub fn run(setting: Setting) -> Result<Soak> {
    let links = LINKS.map(|bridge| LinkSpec { bridge, ..LinkSpec::default() }).to_vec();
    let mut cluster = Cluster::new(Spec {
        nodes: NODES,
        links,
        policy: Policy::Majority,
        keepalive: setting.keepalive,
        deadtime: setting.deadtime,
        initdead: setting.initdead,
        addresses: vec![Ipv4Addr::new(10, 77, 0, 100).into()],
        ..Spec::default()
    })?;
    // Nobody looks at the wire, and the captures would see every probe.
    cluster.stop_captures();
    let watch = Watch::start(&cluster)?;
    let holder = cluster.start()?;
    cluster.client().forget_lateness();
    let from_ns = clock::now_ns();
    let seconds = usize::try_from(setting.length.as_secs())?;
    let soak = Soak {
        from_ns,
        to_ns: from_ns + clock::ns(setting.length),
        setting,
        rounds: Vec::new(),
        now: "start".to_owned(),
        hogs: Vec::new(),
        done: Vec::new(),
        refused: Vec::new(),
        wrong: Vec::new(),
        watch,
        recent: Vec::new(),
        asked: Vec::new(),
        late_client_ms: 0.0,
    };
    let progress = Progress::new("soak", seconds);
    let mut running = Running { cluster, soak, strikes: Strikes::default(), progress, stepped: 0 };
    let outcome = running.all(holder);
    let Running { cluster, mut soak, .. } = running;
    if let Err(error) = outcome {
        soak.wrong.push(format!("given up: {error:#}"));
    }
    soak.to_ns = clock::now_ns();
    soak.asked = (0..NODES).map(|node| soak.watch.observer.asked(node)).collect();
    soak.late_client_ms = cluster.client().late_max_ms();
    if !verdict::of(&soak).is_clean() {
        soak.recent = soak.watch.recent(&cluster);
    }
    Ok(soak)
}

struct Running {
    cluster: Cluster,
    soak: Soak,
    strikes: Strikes,
    progress: Progress,
    stepped: u64,
}

/// Something to do in a round.
#[derive(Clone, Copy, Debug)]
struct Step {
    due_ns: u64,
    drawn: Drawn,
    is_end: bool,
}

impl Running {
    fn all(&mut self, holder: usize) -> Result<()> {
        let mut draw = Draw::new(self.soak.setting.seed, &self.soak.setting.only);
        self.look()?;
        self.soak.watch.begin();
        let mut holder = holder;
        self.quiet()?;
        while clock::now_ns() + clock::ns(LAST_ROUND) < self.soak.to_ns {
            let drawn = draw.round(holder);
            holder = self.round(&drawn, holder)?;
            self.quiet()?;
        }
        while clock::now_ns() < self.soak.to_ns {
            self.look()?;
        }
        // What was asked last is answered, and what happened last is told.
        self.quiet()
    }

    fn round(&mut self, drawn: &[Drawn], holder: usize) -> Result<usize> {
        let what = drawn.iter().map(|one| one.fault.describe()).collect::<Vec<_>>().join("; and ");
        self.soak.now.clone_from(&what);
        self.progress.at(what.clone());
        let from_ns = clock::now_ns();
        let mut steps: Vec<Step> = drawn
            .iter()
            .map(|one| Step { due_ns: from_ns + clock::ns(one.after), drawn: *one, is_end: false })
            .collect();
        while let Some(place) = (0..steps.len()).min_by_key(|place| steps.get(*place).map(|step| step.due_ns))
        {
            let step = steps.swap_remove(place);
            while clock::now_ns() < step.due_ns {
                self.look_until(step.due_ns)?;
            }
            self.step(step, &mut steps, holder, drawn.len() == 1)?;
        }
        let mended_ns = clock::now_ns();
        let (holder, whole_ns) = self.wait_whole(mended_ns, &what)?;
        let kind = match drawn {
            [one] => one.fault.kind(),
            _ => Kind::Two,
        };
        self.soak.done.extend(drawn.iter().map(|one| one.fault.kind()));
        let is_in_time = whole_ns - mended_ns <= clock::ns(RECOVERY_MAX);
        self.soak.rounds.push(Round {
            kind,
            what,
            from_ns,
            mended_ns,
            whole_ns: Some(whole_ns),
            outage_ms: 0.0,
        });
        if !is_in_time {
            let late = clock::ms_between(mended_ns, whole_ns);
            self.soak.wrong.push(format!("whole again only {late:.0} ms after: {}", self.soak.now));
        }
        Ok(holder)
    }

    fn step(&mut self, step: Step, steps: &mut Vec<Step>, holder: usize, is_alone: bool) -> Result<()> {
        let fault = step.drawn.fault;
        let refused = if step.is_end {
            let refused = self.strikes.end(&mut self.cluster, fault).context(fault.describe())?;
            self.soak.watch.excuses.end(fault, clock::now_ns());
            refused
        } else {
            self.soak.watch.excuses.begin(fault, clock::now_ns());
            let lasts = step.drawn.lasts;
            let refused =
                self.strikes.begin(&mut self.cluster, fault, lasts, holder).context(fault.describe())?;
            steps.push(Step { due_ns: clock::now_ns() + clock::ns(lasts), is_end: true, ..step });
            refused
        };
        if matches!(fault, Fault::HogFifo | Fault::HogBusy) && !step.is_end {
            let now_ns = clock::now_ns();
            self.soak.hogs.push((now_ns, now_ns + clock::ns(step.drawn.lasts)));
        }
        let goes_on = matches!(fault, Fault::Restart(_) | Fault::Retime(_));
        let is_new = if step.is_end { matches!(fault, Fault::Kill(_)) } else { goes_on };
        if let Some(node) = fault.node().filter(|_| is_new) {
            self.soak.watch.new_life(node);
        }
        if let Some(refused) = refused {
            let list = if is_alone { &mut self.soak.wrong } else { &mut self.soak.refused };
            list.push(format!("{}: {refused}", self.soak.now));
        }
        self.look()
    }

    /// The owner, and when all agreed.
    fn wait_whole(&mut self, from_ns: u64, what: &str) -> Result<(usize, u64)> {
        loop {
            for node in 0..NODES {
                if let Some(status) = self.cluster.agent_mut(node)?.has_ended()? {
                    let name = self.cluster.name(node);
                    self.soak.wrong.push(format!("the agent of {name} ended with {status}: {what}"));
                    self.cluster.agent_mut(node)?.reap(GIVE_UP)?;
                    self.cluster.start_agent(node)?;
                    self.soak.watch.new_life(node);
                }
            }
            match Watch::whole(&self.cluster) {
                Ok(owner) => return Ok((owner, clock::now_ns())),
                Err(error) if clock::now_ns() - from_ns > clock::ns(GIVE_UP) => {
                    return Err(error)
                        .with_context(|| format!("not whole {} s after: {what}", GIVE_UP.as_secs()));
                }
                Err(_) => self.look()?,
            }
        }
    }

    /// Nothing is done, and everything stays whole.
    fn quiet(&mut self) -> Result<()> {
        let mut last = None;
        let end_ns = clock::now_ns() + clock::ns(QUIET);
        while clock::now_ns() < end_ns {
            self.look_until(end_ns)?;
        }
        // Who is late at this very moment is heard at the next. Deaths are events, and judged by themselves.
        let whole =
            clock::wait_for("a cluster that is whole", MOMENT, || match Watch::whole(&self.cluster) {
                Ok(_) => Ok(Some(())),
                Err(error) => {
                    last = Some(error);
                    Ok(None)
                }
            });
        if let (Err(_), Some(error)) = (whole, last) {
            self.soak
                .wrong
                .push(format!("not whole at the end of a quiet time: {error:#}; before: {}", self.soak.now));
            self.wait_whole(clock::now_ns(), "a quiet time")?;
        }
        self.soak.watch.judge(&self.cluster)?;
        "quiet".clone_into(&mut self.soak.now);
        Ok(())
    }

    fn look(&mut self) -> Result<()> {
        self.look_until(u64::MAX)
    }

    fn look_until(&mut self, end_ns: u64) -> Result<()> {
        clock::check_interrupt()?;
        self.soak.watch.look(&self.cluster)?;
        let done = (clock::now_ns() - self.soak.from_ns) / 1_000_000_000;
        while self.stepped < done.min(self.soak.setting.length.as_secs()) {
            self.stepped += 1;
            self.progress.step();
        }
        clock::sleep_until(end_ns.min(clock::now_ns() + clock::ns(LOOK)));
        Ok(())
    }
}
