//! The product's gate under `BPF_PROG_TEST_RUN`: both programs on one set of maps, and packets of every kind that
//! concerns an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use agent_common::maps::{Bar, Direction, Gate, GateAddress, gate_drops, name};
use anyhow::{Context as _, Result};
use aya::{
    TestRun as _,
    maps::{HashMap, PerCpuArray},
    programs::{SchedClassifier, TestRunOptions},
};

use crate::kernel::{DROP, Kernel, PASS, XDP, has_network_header};

/// The program that looks at what leaves.
pub const EGRESS: &str = "xbeat_egress";
/// `TCX_NEXT` as the kernel returns it.
const NEXT: u32 = u32::MAX;
/// `TC_ACT_SHOT`.
const SHOT: u32 = 2;

/// What became of a packet at a gate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Not the gate's, or through it.
    Passed,
    /// Dropped by the gate.
    Dropped,
}

/// Both programs, loaded.
pub struct GateKernel {
    /// The product, with the tests' cluster in its maps.
    pub kernel: Kernel,
}

impl GateKernel {
    /// Loads both programs; no address is gated yet.
    ///
    /// # Errors
    /// The object is not there, or the kernel refuses it.
    pub fn new() -> Result<Self> {
        Self::arriving_at(XDP)
    }

    /// The same with the program of this name for what arrives.
    ///
    /// # Errors
    /// As [`GateKernel::new`].
    pub fn arriving_at(program: &'static str) -> Result<Self> {
        let mut kernel = Kernel::product(program)?;
        load_classifier(&mut kernel, EGRESS)?;
        Ok(Self { kernel })
    }

    /// Puts an address behind the gate of a group.
    ///
    /// # Errors
    /// The map is missing or of another shape.
    pub fn guard(&mut self, address: IpAddr, group: u32, place: u32) -> Result<()> {
        let map = self.kernel.ebpf().map_mut(name::GATE_ADDRESSES).context("no addresses")?;
        let mut addresses: HashMap<_, [u8; 16], GateAddress> = HashMap::try_from(map)?;
        addresses.insert(octets(address), GateAddress { group, place }, 0)?;
        Ok(())
    }

    /// Writes what the agent says of a gate.
    ///
    /// # Errors
    /// As [`GateKernel::guard`].
    pub fn set(&mut self, group: u32, gate: Gate) -> Result<()> {
        Ok(self.kernel.array::<Gate>(name::GATES)?.set(group, gate, 0)?)
    }

    /// Writes a bar, which otherwise only the kernel does.
    ///
    /// # Errors
    /// As [`GateKernel::guard`].
    pub fn set_bar(&mut self, group: u32, epoch: u64) -> Result<()> {
        Ok(self.kernel.array::<Bar>(name::BARS)?.set(group, Bar { epoch }, 0)?)
    }

    /// A group's bar.
    ///
    /// # Errors
    /// As [`GateKernel::guard`].
    pub fn bar(&mut self, group: u32) -> Result<u64> {
        Ok(self.kernel.array::<Bar>(name::BARS)?.get(&group, 0)?.epoch)
    }

    /// How many packets of an address were dropped in a direction.
    ///
    /// # Errors
    /// As [`GateKernel::guard`].
    pub fn drops(&mut self, place: u32, direction: Direction) -> Result<u64> {
        let map = self.kernel.ebpf().map_mut(name::GATE_DROPS).context("no drops")?;
        let drops: PerCpuArray<_, u64> = PerCpuArray::try_from(map)?;
        Ok(drops.get(&gate_drops(place, direction), 0)?.iter().sum())
    }

    /// Lets a packet arrive.
    ///
    /// # Errors
    /// The kernel refuses the test-run, or the verdict is none of a gate.
    pub fn arrive(&self, packet: &[u8]) -> Result<Fate> {
        match self.kernel.run(packet, 1)?.0 {
            PASS => Ok(Fate::Passed),
            DROP => Ok(Fate::Dropped),
            verdict => anyhow::bail!("ingress verdict {verdict}"),
        }
    }

    /// Lets a packet leave. Newer kernels make no test-run of a packet without its network header, in which there is no
    /// address to judge.
    ///
    /// # Errors
    /// As [`GateKernel::arrive`].
    pub fn leave(&mut self, packet: &[u8]) -> Result<Fate> {
        if !has_network_header(packet) {
            return Ok(Fate::Passed);
        }
        match self.leave_often(packet, 1)?.0 {
            NEXT => Ok(Fate::Passed),
            SHOT => Ok(Fate::Dropped),
            verdict => anyhow::bail!("egress verdict {verdict}"),
        }
    }

    /// Lets a packet leave `repeat` times, and returns the verdict and the mean nanoseconds of a repetition.
    ///
    /// # Errors
    /// The kernel refuses the test-run.
    pub fn leave_often(&mut self, packet: &[u8], repeat: u32) -> Result<(u32, u64)> {
        classify(&mut self.kernel, EGRESS, packet, repeat)
    }
}

/// Loads a classifier of an object.
///
/// # Errors
/// There is none of that name, or the kernel refuses it.
pub fn load_classifier(kernel: &mut Kernel, name: &str) -> Result<()> {
    let classifier: &mut SchedClassifier =
        kernel.ebpf().program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?;
    classifier.load().with_context(|| format!("the kernel refuses {name}"))
}

/// Runs a classifier on a packet `repeat` times, and returns its verdict and the mean nanoseconds of a repetition.
///
/// # Errors
/// The kernel refuses the test-run.
pub fn classify(kernel: &mut Kernel, name: &str, packet: &[u8], repeat: u32) -> Result<(u32, u64)> {
    let classifier: &SchedClassifier =
        kernel.ebpf().program(name).with_context(|| format!("no program {name}"))?.try_into()?;
    let options = TestRunOptions { data_in: Some(packet), repeat, ..TestRunOptions::new() };
    let result = classifier.test_run(options)?;
    Ok((result.return_value, result.duration.as_nanos() as u64))
}

/// An address as the maps have it.
pub fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// A frame of `kind` under tags, outermost first.
pub fn ethernet(tags: &[u16], kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x02; 12];
    for tag in tags {
        bytes.extend(tag.to_be_bytes());
        bytes.extend(100u16.to_be_bytes());
    }
    bytes.extend(kind.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// An IPv4 packet with the fragment field given.
pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0];
    bytes.extend((20 + payload.len() as u16).to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([64, protocol, 0, 0]);
    bytes.extend(from.octets());
    bytes.extend(to.octets());
    bytes.extend(payload);
    bytes
}

/// An IPv6 packet.
pub fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend((payload.len() as u16).to_be_bytes());
    bytes.extend([next, 255]);
    bytes.extend(from.octets());
    bytes.extend(to.octets());
    bytes.extend(payload);
    bytes
}

/// An ARP message of operation `op`.
pub fn arp(op: u16, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![0, 1, 8, 0, 6, 4];
    bytes.extend(op.to_be_bytes());
    bytes.extend([2; 6]);
    bytes.extend(sender.octets());
    bytes.extend([0; 6]);
    bytes.extend(target.octets());
    bytes
}

/// A neighbour solicitation (135) or advertisement (136) in its IPv6 packet.
pub fn neighbour(kind: u8, from: Ipv6Addr, to: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    message.extend([1, 1, 2, 2, 2, 2, 2, 2]);
    ipv6(from, to, 58, &message)
}
