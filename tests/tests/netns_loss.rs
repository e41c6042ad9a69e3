//! The loss injector of the benchmarks: what it says it did is what the receiver saw, frame by frame; the rates and the lengths
//! of bursts are those that were asked for; and it touches nothing of who is spared, and nothing once it is gone.

use std::os::fd::{AsRawFd as _, OwnedFd};

use agent_tests::lab::capture::packet_socket;
use agent_tests::lab::loss::{Channel, Counts, Lossy};
use agent_tests::lab::network::{Network, Port};
use agent_tests::privileged;
use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};

/// For local experiments (IEEE 802, table 14): nobody answers it.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];
/// Frames of one measurement.
const FRAMES: u32 = 100_000;
/// Sent before the receiver is read: less than its buffer has room for.
const BATCH: u32 = 500;
const TO: Port = Port { host: 1, bridge: 0 };
const SPARED: [u8; 6] = [2, 0, 0, 0, 0, 9];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 8];

/// A sender and a receiver on one bridge.
struct Wire {
    network: Network,
    sender: OwnedFd,
    receiver: OwnedFd,
}

impl Wire {
    fn new() -> Result<Self> {
        let network = Network::new(&["sender", "receiver"], 1)?;
        // Nothing but the test's own frames is to be counted.
        for namespace in [network.switch(), network.host(0)?, network.host(1)?] {
            namespace.sysctl("ipv6/conf/all/disable_ipv6", "1")?;
        }
        let sender = network.host(0)?.run(|| packet_socket("eth0"))?;
        let receiver = network.host(1)?.run(|| packet_socket("eth0"))?;
        Ok(Self { network, sender, receiver })
    }

    fn lossy(&self, channel: Channel) -> Result<Lossy> {
        Lossy::start(&self.network, TO, channel, SPARED)
    }

    /// Sends numbered frames from a MAC address; says of each whether it arrived.
    fn send(&self, from: [u8; 6], frames: u32) -> Result<Vec<bool>> {
        let mut arrived = vec![false; usize::try_from(frames)?];
        for number in 0..frames {
            let mut frame = [[0xff; 6], from].concat();
            frame.extend(ETHERTYPE);
            frame.extend(number.to_be_bytes());
            frame.resize(60, 0);
            send(self.sender.as_raw_fd(), &frame, MsgFlags::empty()).context("cannot send")?;
            if (number + 1) % BATCH == 0 || number + 1 == frames {
                self.receive(&mut arrived)?;
            }
        }
        Ok(arrived)
    }

    /// All that there is: on a bridge of this machine a frame has arrived when its sending returns.
    fn receive(&self, arrived: &mut [bool]) -> Result<()> {
        let mut frame = [0; 64];
        loop {
            match recv(self.receiver.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
                Ok(_) if frame[12..14] == ETHERTYPE => {
                    let number = u32::from_be_bytes([frame[14], frame[15], frame[16], frame[17]]);
                    arrived[usize::try_from(number)?] = true;
                }
                Ok(_) => {}
                // The soft interrupt may have been left to its thread.
                Err(Errno::EAGAIN) if self.waits()? => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(error) => return Err(error).context("cannot receive"),
            }
        }
    }

    /// Whether something comes within a millisecond or so.
    fn waits(&self) -> Result<bool> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd as _;
        let mut fds = [PollFd::new(self.receiver.as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut fds, PollTimeout::from(2_u8))? > 0)
    }
}

fn part_lost(arrived: &[bool]) -> f64 {
    arrived.iter().filter(|arrived| !**arrived).count() as f64 / arrived.len() as f64
}

/// Lengths of the times in which nothing arrived, in frames.
fn bursts(arrived: &[bool]) -> Vec<usize> {
    arrived.split(|arrived| *arrived).map(<[bool]>::len).filter(|length| *length > 0).collect()
}

fn mean(values: &[usize]) -> f64 {
    values.iter().sum::<usize>() as f64 / values.len().max(1) as f64
}

/// Within five standard deviations: one run of a million is outside by chance.
fn assert_near(what: &str, seen: f64, expected: f64, deviation: f64) {
    println!("{what}: {seen:.5}, expected {expected:.5} +- {deviation:.5}");
    assert!((seen - expected).abs() <= 5.0 * deviation, "{what}: {seen}, expected {expected} +- {deviation}");
}

#[test]
fn what_it_counts_is_what_the_receiver_saw() -> Result<()> {
    if privileged::skip() {
        return Ok(());
    }
    let wire = Wire::new()?;
    let lossy = wire.lossy(Channel::Independent(0.3))?;
    let before = lossy.counts()?;
    let arrived = wire.send(OTHER, FRAMES)?;
    let spared = wire.send(SPARED, 10_000)?;
    let after = lossy.counts()?;
    let seen = u64::try_from(arrived.iter().filter(|arrived| **arrived).count())?;
    assert!(spared.iter().all(|arrived| *arrived), "a frame of the spared address was lost");
    let expected = Counts {
        passed: before.passed + seen,
        lost: before.lost + u64::from(FRAMES) - seen,
        spared: before.spared + 10_000,
    };
    assert_eq!(after, expected);
    assert!(seen > 0 && seen < u64::from(FRAMES));
    Ok(())
}

#[test]
fn frames_are_lost_independently_at_the_rate_that_was_asked_for() -> Result<()> {
    if privileged::skip() {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut lossy = wire.lossy(Channel::Independent(0.0))?;
    assert!(wire.send(OTHER, 5_000)?.iter().all(|arrived| *arrived), "no loss was asked for");
    for loss in [0.01, 0.1, 0.5] {
        lossy.set(Channel::Independent(loss))?;
        let arrived = wire.send(OTHER, FRAMES)?;
        let binomial = |of: f64| (loss * (1.0 - loss) / of).sqrt();
        assert_near("lost", part_lost(&arrived), loss, binomial(f64::from(FRAMES)));
        // Of the frames behind a lost one as many are lost as of all.
        let behind: Vec<bool> = arrived.windows(2).filter(|pair| !pair[0]).map(|pair| pair[1]).collect();
        assert_near("lost behind a lost one", part_lost(&behind), loss, binomial(behind.len() as f64));
    }
    lossy.set(Channel::Independent(1.0))?;
    assert!(wire.send(OTHER, 5_000)?.iter().all(|arrived| !*arrived), "all is lost");
    Ok(())
}

#[test]
fn bursts_have_the_length_and_the_part_that_were_asked_for() -> Result<()> {
    if privileged::skip() {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut lossy = wire.lossy(Channel::Independent(1.0))?;
    for (loss, length) in [(0.1, 5.0), (0.3, 20.0)] {
        lossy.set(Channel::Bursts { loss, length })?;
        let arrived = wire.send(OTHER, FRAMES)?;
        let bursts = bursts(&arrived);
        let number = bursts.len() as f64;
        // Both are geometric: of the bursts, and of what is between them.
        let between = length * (1.0 - loss) / loss;
        let deviation = (length * (length - 1.0) / number).sqrt();
        assert_near("mean length", mean(&bursts), length, deviation);
        let gap_deviation = (between * (between - 1.0) / number).sqrt();
        let part = (1.0 - loss) * loss * (deviation / length).hypot(gap_deviation / between);
        assert_near("lost", part_lost(&arrived), loss, part);
    }
    // Whatever state the burst left, independent losses are independent again.
    lossy.set(Channel::Independent(0.2))?;
    assert_near("lost after bursts", part_lost(&wire.send(OTHER, FRAMES)?), 0.2, (0.16_f64 / 1e5).sqrt());
    Ok(())
}

#[test]
fn nothing_is_lost_once_it_is_gone() -> Result<()> {
    if privileged::skip() {
        return Ok(());
    }
    let wire = Wire::new()?;
    let lossy = wire.lossy(Channel::Independent(1.0))?;
    assert!(wire.send(OTHER, 100)?.iter().all(|arrived| !*arrived));
    drop(lossy);
    assert!(wire.send(OTHER, 5_000)?.iter().all(|arrived| *arrived));
    Ok(())
}
