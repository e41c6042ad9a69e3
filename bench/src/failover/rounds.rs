//! Rounds: all that take part are struck one after the other, then all recover at the same time. So each is measured while
//! nothing else is started or stopped, and a noisy minute of the machine is shared by all.

use std::time::Duration;

use agent_tests::lab::bpf::HeldPrograms;
use agent_tests::lab::clock;
use anyhow::{Context as _, Result, anyhow};

use super::stalls::Stalls;
use super::stand::{Outcome, Stand, measure};
use super::{Fault, Run, Series, Subject, phase};
use crate::progress::Progress;

/// Between all being whole and the first fault.
const SETTLE: Duration = Duration::from_millis(300);
/// After so many failures in a row nothing more is tried.
const FAILURES_MAX: usize = 3;

/// One that takes part.
struct Place {
    series: Series,
    /// `None`: must be started anew.
    stand: Option<Box<dyn Stand>>,
    /// Who serves, and when that was seen; `None`: nothing can be measured in this round.
    holder: Option<(usize, u64)>,
    in_a_row: usize,
}

/// How long a round takes, for the forecast: by `subjects`, most of it is following and recovering.
pub fn round_seconds(subjects: &[Subject], fault: Fault) -> f64 {
    let quick = subjects.iter().filter(|subject| !subject.is_slow()).count() as f64;
    let slow = subjects.len() as f64 - quick;
    let (each, recovery, more) = match fault {
        Fault::Kill | Fault::KillAndCut => (0.55, 2.8, 4.0),
        Fault::Cut => (1.6, 1.2, 4.0),
        Fault::Freeze => (1.0, 1.2, 4.0),
        Fault::Move => (0.5, 1.2, 4.0),
    };
    quick.mul_add(each, recovery) + slow * more
}

/// Strikes each of them `runs` times, or less often when `until_ns` comes before. A failover that fails is counted with its reason, and the series goes on.
///
/// # Errors
/// The user interrupted.
pub fn measure_all(
    subjects: &[Subject],
    fault: Fault,
    runs: usize,
    until_ns: u64,
    stalls: &Stalls,
    progress: &mut Progress,
) -> Result<Vec<Series>> {
    let mut places: Vec<Place> = subjects.iter().map(|subject| Place::new(*subject, fault)).collect();
    for number in (0..runs).take_while(|_| clock::now_ns() < until_ns) {
        progress.at(format!("{}: round {} of {runs}", fault.label(), number + 1));
        round(&mut places, fault, number, stalls)?;
        progress.step();
    }
    Ok(places.into_iter().map(|place| place.series).collect())
}

fn round(places: &mut [Place], fault: Fault, number: usize, stalls: &Stalls) -> Result<()> {
    // The slow ones first: their time runs meanwhile.
    places.sort_by_key(|place| !place.series.subject.is_slow());
    for place in places.iter_mut() {
        place.mend(number)?;
    }
    let (slow, quick): (Vec<&mut Place>, Vec<&mut Place>) =
        places.iter_mut().partition(|place| place.series.subject.is_slow());
    let mut quick = quick;
    for place in &mut quick {
        place.wait_whole(number)?;
    }
    clock::pause(SETTLE)?;
    // Until all is measured: to detach a dead agent's programs holds a lock that only its own machine would hold.
    let _held = HeldPrograms::hold();
    let count = quick.len().max(1);
    // Each follows another one each time.
    quick.rotate_left(number % count);
    for place in quick {
        place.measure(fault, number, stalls)?;
    }
    for place in slow {
        place.wait_whole(number)?;
        place.measure(fault, number, stalls)?;
    }
    Ok(())
}

impl Place {
    fn new(subject: Subject, fault: Fault) -> Self {
        Self { series: Series::new(subject, fault), stand: None, holder: None, in_a_row: 0 }
    }

    fn mend(&mut self, number: usize) -> Result<()> {
        self.holder = None;
        if self.in_a_row >= FAILURES_MAX {
            self.series.failures.push(format!("run {number}: given up"));
            return Ok(());
        }
        let outcome = match self.stand.as_mut() {
            Some(stand) => stand.mend().context("not mended"),
            None => self.series.subject.start().map(|stand| self.stand = Some(stand)).context("not started"),
        };
        if let Err(error) = outcome { self.fail(number, &error, true) } else { Ok(()) }
    }

    fn wait_whole(&mut self, number: usize) -> Result<()> {
        let Some(stand) = self.stand.as_mut() else { return Ok(()) };
        stand.client().rest(false);
        match stand.wait_whole() {
            Ok(holder) => {
                stand.client().rest(true);
                self.holder = Some((holder, clock::now_ns()));
                Ok(())
            }
            Err(error) => self.fail(number, &error.context("not whole"), true),
        }
    }

    fn measure(&mut self, fault: Fault, number: usize, stalls: &Stalls) -> Result<()> {
        let mut tried = self.try_once(fault, number, stalls);
        if let (Ok(None), Some(_)) = (&tried, self.holder) {
            // The service moved by itself: where it is now, it can be measured as well.
            self.wait_whole(number)?;
            tried = self.try_once(fault, number, stalls);
            if let (Ok(None), Some(_)) = (&tried, self.holder) {
                tried = Err(anyhow!("the service moved twice before the fault"));
            }
        }
        match tried {
            Ok(Some(run)) => {
                self.in_a_row = 0;
                self.series.runs.push(run);
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => self.fail(number, &error, false),
        }
    }

    /// `None`: there was nothing to measure.
    fn try_once(&mut self, fault: Fault, number: usize, stalls: &Stalls) -> Result<Option<Run>> {
        let (Some(stand), Some(holder)) = (self.stand.as_mut(), self.holder) else { return Ok(None) };
        let outcome = measure(stand.as_mut(), holder, fault, phase(number), stalls);
        stand.client().rest(true);
        match outcome? {
            Outcome::Measured(run) => Ok(Some(run)),
            Outcome::Unasked(stall_ms) => {
                self.series.unasked_ms.push(stall_ms);
                Ok(None)
            }
        }
    }

    /// Counts it. One that did not recover is taken away and started anew.
    fn fail(&mut self, number: usize, error: &anyhow::Error, is_lost: bool) -> Result<()> {
        // An interrupt looks like a failure of whatever was waited for.
        clock::check_interrupt()?;
        let what = format!("run {number}: {error:#}");
        eprintln!("{}, {}: {what}", self.series.subject.title(), self.series.fault.label());
        self.series.failures.push(what);
        self.in_a_row += 1;
        self.holder = None;
        if is_lost {
            self.stand = None;
        }
        Ok(())
    }
}
