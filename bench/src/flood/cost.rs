//! What a forgery costs in the program alone, by `BPF_PROG_TEST_RUN`, by its length and beside a heartbeat that is accepted.

use agent_common::maps::Counter;
use agent_common::wire::{TAG_LEN, at};
use agent_common::{Beat, Claim, NodeId, Reject};
use agent_tests::frames::{PEER, Packet, beat, frame};
use agent_tests::kernel::{Kernel, Outcome};
use anyhow::{Context as _, Result, ensure};

/// Heard before all others.
const FIRST: u64 = 1000;
/// Test-runs of each frame; the machine may be busy during some.
const RUNS: usize = 15;
/// Repetitions in each.
const REPEAT: u32 = 20_000;
/// Groups and peers of which a heartbeat speaks, and the length of its body.
const SIZES: [(usize, usize, usize); 6] =
    [(0, 1, 119), (5, 1, 183), (10, 1, 247), (37, 1, 503), (64, 12, 1015), (64, 31, 1399)];

/// One length.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Of the body, bytes.
    pub body: usize,
    /// A forgery with a screen that is made up.
    pub forged: Time,
    /// A forgery behind the header of a true heartbeat.
    pub captured: Time,
    /// A heartbeat that was heard before.
    pub replayed: Time,
    /// A true heartbeat.
    pub accepted: Time,
}

/// Nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// Of the quickest test-run.
    pub least: f64,
    /// Of the middle one.
    pub median: f64,
}

/// Measures all lengths.
///
/// # Errors
/// A frame has not the verdict that it is measured for.
pub fn measure() -> Result<Vec<Cost>> {
    let mut product = Kernel::new()?;
    let mut accepting = Kernel::unconfigured("xbeat-bench.bpf.o", "bench_accepted")?;
    accepting.configure()?;
    let mut costs = Vec::new();
    for (groups, peers, body) in SIZES {
        let heard = sized(groups, peers, FIRST, body)?;
        // Whoever refuses by number must have heard something.
        product.submit(&packet(heard.clone()))?;
        let mut forged = sized(groups, peers, FIRST + 1, body)?;
        let mut captured = forged.clone();
        change(&mut forged, at::SCREEN);
        change(&mut captured, body);
        costs.push(Cost {
            body,
            forged: refused(&mut product, &packet(forged), Reject::Screen)?,
            captured: refused(&mut product, &packet(captured), Reject::Screen)?,
            replayed: refused(&mut product, &packet(heard.clone()), Reject::Duplicate)?,
            accepted: accepted(&accepting, &packet(heard))?,
        });
    }
    Ok(costs)
}

fn packet(payload: Vec<u8>) -> Vec<u8> {
    Packet::on(0, payload).bytes()
}

fn change(bytes: &mut [u8], at: usize) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
}

fn sized(groups: usize, peers: usize, seq: u64, body: usize) -> Result<Vec<u8>> {
    let mut beat: Beat = beat(PEER, 5, seq);
    beat.has_claims = groups > 0;
    for claim in beat.claims.iter_mut().take(groups) {
        *claim = Claim { epoch: 1, candidate: 1, flags: Claim::HELD };
    }
    let sender = beat.node;
    for node in NodeId::all().filter(|node| *node != sender).take(peers) {
        beat.acked.insert(node);
    }
    let frame = frame(&beat, 0);
    ensure!(frame.len() == body + TAG_LEN, "a body of {} bytes instead of {body}", frame.len() - TAG_LEN);
    Ok(frame)
}

fn refused(product: &mut Kernel, packet: &[u8], reason: Reject) -> Result<Time> {
    let outcome = product.submit(packet)?;
    ensure!(outcome == Outcome::Refused(reason), "{outcome:?} instead of {reason:?}");
    Time::of(|| Ok(product.run(packet, REPEAT)?.1))
}

fn accepted(accepting: &Kernel, packet: &[u8]) -> Result<Time> {
    // The first is news; all others must be steady.
    accepting.run(packet, 1)?;
    let before = accepting.counters()?;
    let time = Time::of(|| Ok(accepting.run(packet, REPEAT)?.1))?;
    let after = accepting.counters()?;
    let moved = |counter: Counter| after[counter.index()] - before[counter.index()];
    ensure!(moved(Counter::Accepted) == RUNS as u64 * u64::from(REPEAT), "not all were accepted");
    ensure!(moved(Counter::News) + moved(Counter::NewsLost) == 0, "not steady");
    Ok(time)
}

impl Time {
    fn of(mut run: impl FnMut() -> Result<u64>) -> Result<Self> {
        let mut times = (0..RUNS).map(|_| run()).collect::<Result<Vec<_>>>()?;
        times.sort_unstable();
        let at = |place: usize| times.get(place).copied().context("no runs");
        Ok(Self { least: at(0)? as f64, median: at(RUNS / 2)? as f64 })
    }
}
