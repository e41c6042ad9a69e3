//! Time of chosen frames in the product's programs, as a multiple of what a reference program takes beside them: it does the same
//! arithmetic on every machine. Both run in turns in many short test-runs, and the least of each counts: a stall of the machine
//! makes some longer, never shorter.

use std::net::Ipv4Addr;

use agent_common::{Reject, maps::Gate};
use agent_tests::{
    frames::{PEER, Packet, beat, frame, screened},
    gate::{Fate, GateKernel, ethernet, ipv4},
    kernel::{Kernel, Outcome},
};
use anyhow::{Context as _, Result, ensure};

use super::{Class, Measured};

const OBJECT: &str = "xbeat-bench.bpf.o";
/// Test-runs of each frame.
const BATCHES: usize = 200;
/// Repetitions in each: a fraction of a millisecond.
const REPEAT: u32 = 500;
const GROUP: u32 = 3;
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);

/// Everything loaded, and the least that was ever seen of each.
pub struct Ratios {
    product: GateKernel,
    accepting: Kernel,
    reference: Kernel,
    probes: Vec<Probe>,
    least_reference_ns: u64,
}

struct Probe {
    name: &'static str,
    packet: Vec<u8>,
    path: Path,
    least_ns: u64,
}

/// How a frame is run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Path {
    /// By the program that takes the sender's window back first: a new heartbeat each time.
    Accepted,
    /// Arriving at the product.
    Arriving(Outcome),
    /// Arriving for an address behind a gate that is open, or shut.
    In(GateIs),
    /// Leaving from it.
    Out(GateIs),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum GateIs {
    Open,
    Shut,
}

impl GateIs {
    const fn fate(self) -> Fate {
        match self {
            Self::Open => Fate::Passed,
            Self::Shut => Fate::Dropped,
        }
    }
}

impl Ratios {
    /// Loads the programs, and sees each frame come to what it should.
    ///
    /// # Errors
    /// An object is not there, the kernel refuses it, or a frame comes to something else.
    pub fn new() -> Result<Self> {
        let mut product = GateKernel::new()?;
        product.guard(ADDRESS.into(), GROUP, 0)?;
        let mut accepting = Kernel::unconfigured(OBJECT, "bench_accepted")?;
        accepting.configure()?;
        let reference = Kernel::unconfigured(OBJECT, "bench_reference")?;
        // Whoever refuses by sequence must have heard something.
        product.kernel.submit(&Packet::on(0, frame(&beat(PEER, 5, 1000), 0)).bytes())?;
        let mut ratios =
            Self { product, accepting, reference, probes: probes(), least_reference_ns: u64::MAX };
        ratios.check()?;
        Ok(ratios)
    }

    fn check(&mut self) -> Result<()> {
        for probe in &self.probes {
            let (packet, name) = (&probe.packet, probe.name);
            match probe.path {
                Path::Accepted => {
                    // The first is news, the others are steady.
                    self.accepting.submit(packet)?;
                    let outcome = self.accepting.submit(packet)?;
                    ensure!(outcome == Outcome::Newest { news: false }, "{name}: {outcome:?}");
                }
                Path::Arriving(expected) => {
                    let outcome = self.product.kernel.submit(packet)?;
                    ensure!(outcome == expected, "{name}: {outcome:?} instead of {expected:?}");
                }
                Path::In(gate) => {
                    set(&mut self.product, gate)?;
                    let fate = self.product.arrive(packet)?;
                    ensure!(fate == gate.fate(), "{name}: {fate:?}");
                }
                Path::Out(gate) => {
                    set(&mut self.product, gate)?;
                    let fate = self.product.leave(packet)?;
                    ensure!(fate == gate.fate(), "{name}: {fate:?}");
                }
            }
        }
        Ok(())
    }

    /// Times all frames in turns with the reference, and adds what is the least by now: calling it again lets figures that a
    /// stall has spoilt recover.
    ///
    /// # Errors
    /// The kernel refuses a test-run.
    pub fn measure(&mut self, measured: &mut Measured) -> Result<()> {
        let Self { product, accepting, reference, probes, least_reference_ns } = self;
        for _ in 0..BATCHES {
            for probe in &mut *probes {
                let took_ns = match probe.path {
                    Path::Accepted => accepting.run(&probe.packet, REPEAT)?.1,
                    Path::Arriving(_) => product.kernel.run(&probe.packet, REPEAT)?.1,
                    Path::In(gate) => {
                        set(product, gate)?;
                        product.kernel.run(&probe.packet, REPEAT)?.1
                    }
                    Path::Out(gate) => {
                        set(product, gate)?;
                        product.leave_often(&probe.packet, REPEAT)?.1
                    }
                };
                probe.least_ns = probe.least_ns.min(took_ns);
            }
            *least_reference_ns = (*least_reference_ns).min(reference.run(&[0; 64], REPEAT)?.1);
        }
        ensure!(*least_reference_ns > 0, "the reference took no time");
        for probe in probes {
            // A test-run tells whole nanoseconds.
            let ratio = probe.least_ns.max(1) as f64 / *least_reference_ns as f64;
            measured.add(Class::Ratio, probe.name, ratio);
        }
        Ok(())
    }

    /// For people: what the ratios are multiples of.
    pub fn reference_ns(&self) -> u64 {
        self.least_reference_ns
    }
}

fn set(product: &mut GateKernel, gate: GateIs) -> Result<()> {
    let expiry_ns = match gate {
        GateIs::Open => u64::MAX,
        GateIs::Shut => 0,
    };
    product.set(GROUP, Gate { epoch: 1, expiry_ns }).context("cannot set the gate")
}

fn probes() -> Vec<Probe> {
    let mut tcp = Packet::on(0, vec![0; 20]);
    tcp.protocol = 6;
    let mut udp = Packet::on(0, vec![0; 100]);
    udp.port = 53;
    let next = || frame(&beat(PEER, 5, 1001), 0);
    let mut forged = next();
    forged[agent_common::wire::at::SENT] ^= 1;
    let refused = |reason| Path::Arriving(Outcome::Refused(reason));
    let ip = |from, to| ethernet(&[], 0x0800, &ipv4(from, to, 6, 0, &[0; 40]));
    let probe = |name, packet, path| Probe { name, packet, path, least_ns: u64::MAX };
    let on = |payload| Packet::on(0, payload).bytes();
    vec![
        probe("heartbeat, accepted", on(frame(&beat(PEER, 5, 1000), 0)), Path::Accepted),
        probe("heartbeat, heard before", on(frame(&beat(PEER, 5, 1000), 0)), refused(Reject::Duplicate)),
        probe("heartbeat, forged without a key", on(forged), refused(Reject::Screen)),
        probe(
            "heartbeat, forged past the screen",
            on(screened(next(), |frame| frame[100] ^= 1)),
            refused(Reject::Digest),
        ),
        probe("foreign TCP", tcp.bytes(), Path::Arriving(Outcome::Foreign)),
        probe("foreign UDP", udp.bytes(), Path::Arriving(Outcome::Foreign)),
        probe("gate, in, open", ip(OTHER, ADDRESS), Path::In(GateIs::Open)),
        probe("gate, in, shut", ip(OTHER, ADDRESS), Path::In(GateIs::Shut)),
        probe("gate, out, open", ip(ADDRESS, OTHER), Path::Out(GateIs::Open)),
        probe("gate, out, shut", ip(ADDRESS, OTHER), Path::Out(GateIs::Shut)),
    ]
}
