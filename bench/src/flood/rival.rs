//! keepalived under the same flood: advertisements of another virtual router, and UDP that is nobody's.

use std::time::Duration;

use agent_tests::lab::capture::Direction;
use agent_tests::lab::clock;
use agent_tests::lab::frame::Kind as Captured;
use agent_tests::lab::network::Port;
use anyhow::{Context as _, Result, ensure};

use super::generator::{Generator, Sent};
use super::subject::{DEADTIME, KEEPALIVE, Row, Target};
use super::taken::Taken;
use super::{Load, frames};
use crate::cost::programs::Runs;
use crate::failover::stalls::Stalls;
use crate::peers::{Name, Pair, Setting};
use crate::progress::Progress;

/// As for xbeat.
const CALM: Duration = Duration::from_millis(500);
/// Ethernet and the IP header, as keepalived sends it, up to the id of the virtual router (RFC 5798, 5.2.3).
const ROUTER_AT: usize = 14 + 20 + 1;

/// How many floods there are.
pub const FLOODS: usize = 3;

/// Floods the waiting node of a pair at the same intervals.
///
/// # Errors
/// It does not come up.
pub fn measure(span: Duration, stalls: &Stalls, progress: &mut Progress) -> Result<Vec<Row>> {
    let setting =
        Setting { interval: KEEPALIVE, count: u32::try_from(DEADTIME.as_millis() / KEEPALIVE.as_millis())? };
    let pair = Pair::start(Name::Keepalived, setting)?;
    let holder = pair.wait_whole()?;
    let mut rows = Vec::new();
    for load in loads(&pair, holder)? {
        progress.at(format!("keepalived: {}", load.label));
        rows.push(flood(&pair, holder, load, span, stalls)?);
        progress.step();
    }
    Ok(rows)
}

fn loads(pair: &Pair, holder: usize) -> Result<Vec<Load>> {
    let source = Port { host: holder, bridge: 0 }.ipv4();
    let capture = pair.bed.captures.get(holder).context("no capture")?;
    let model = clock::wait_for("an advertisement", CALM * 10, || {
        let sent = capture.frames(0, |frame| {
            frame.direction == Direction::FromHost && frame.kind == Captured::Vrrp(source.into())
        });
        Ok(sent.last().map(|frame| frame.bytes.clone()))
    })?;
    let another = (1..=32).filter(|id| model.get(ROUTER_AT) != Some(id)).map(|id| {
        let mut frame = model.clone();
        if let Some(place) = frame.get_mut(ROUTER_AT) {
            *place = id;
        }
        frame
    });
    let another: Vec<Vec<u8>> = another.collect();
    let target = pair.bed.network.interface(Port { host: usize::from(holder == 0), bridge: 0 })?.1;
    Ok(vec![
        Load { label: "none".to_owned(), frames: Vec::new() },
        Load { label: "VRRP of another router id".to_owned(), frames: another },
        Load {
            label: "UDP to another port".to_owned(),
            frames: frames::foreign(&datagram(&target, holder)?)?,
        },
    ])
}

/// UDP of the holder to the other node, as large as a heartbeat of xbeat.
fn datagram(mac: &str, holder: usize) -> Result<Vec<u8>> {
    const PAYLOAD: usize = 135;
    let mut bytes = Vec::new();
    for part in mac.split(':') {
        bytes.push(u8::from_str_radix(part, 16).context("no MAC address")?);
    }
    ensure!(bytes.len() == 6, "no MAC address");
    bytes.extend([2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0]);
    bytes.extend(Port { host: holder, bridge: 0 }.ipv4().octets());
    bytes.extend(Port { host: usize::from(holder == 0), bridge: 0 }.ipv4().octets());
    bytes.extend([2, 0xb6, 0, 9, 0, 0, 0, 0]);
    bytes.extend([0; PAYLOAD]);
    Ok(bytes)
}

fn flood(pair: &Pair, holder: usize, load: Load, span: Duration, stalls: &Stalls) -> Result<Row> {
    let node = usize::from(holder == 0);
    let port = Port { host: node, bridge: 0 };
    pair.bed.client.forget_lateness();
    let from_ns = clock::now_ns();
    let taken = Taken::until_now(&pair.bed.network, port)?;
    let sent = if load.frames.is_empty() {
        clock::pause(span)?;
        Sent::default()
    } else {
        Generator::start(&pair.bed.network, port, load.frames, span)?.finish()?
    };
    let to_ns = clock::now_ns();
    clock::pause(CALM)?;
    let taken_after = Taken::until_now(&pair.bed.network, port)?;
    let deaths: Vec<u64> = (0..2).flat_map(|node| pair.verdicts(node, from_ns)).collect();
    let half_ms = DEADTIME.as_secs_f64() * 1e3 / 2.0;
    let excused = |at_ns: u64| stalls.worst_ms(at_ns.saturating_sub(clock::ns(DEADTIME)), at_ns) >= half_ms;
    let row = Row {
        subject: "keepalived",
        target: Target::Backup,
        label: load.label,
        kind: None,
        sent,
        counted: f64::NAN,
        dropped: taken_after.dropped - taken.dropped,
        heartbeats_lost: f64::NAN,
        runs: Runs::default(),
        deaths: deaths.len(),
        deaths_unexcused: deaths.iter().filter(|at_ns| !excused(**at_ns)).count(),
        late_ms: f64::NAN,
        probes_lost: pair.bed.client.lost(from_ns, to_ns).1,
        gap_ms: pair.bed.client.longest_gap(from_ns).map_or(f64::NAN, |gap| gap.ms()),
        softirq_seconds: taken_after.softirq_seconds - taken.softirq_seconds,
        stall_ms: stalls.worst_ms(from_ns, to_ns),
    };
    // Two that serve at once come to their senses before the next flood.
    pair.wait_whole_since(to_ns)?;
    Ok(row)
}
