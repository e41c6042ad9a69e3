//! The laboratory measures itself: a client must see the gap that a cut link makes, no more and no less, a capture must
//! see announcements, and nothing may be left behind.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use agent_tests::lab::capture::{Capture, Direction};
use agent_tests::lab::client::Client;
use agent_tests::lab::clock;
use agent_tests::lab::echo::Echo;
use agent_tests::lab::frame::Kind;
use agent_tests::lab::inject::Injector;
use agent_tests::lab::network::{Network, Port};
use agent_tests::lab::scratch::Scratch;
use agent_tests::privileged;
use anyhow::{Context as _, Result};

const SERVICE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 100));
const LIMIT: Duration = Duration::from_secs(5);
const NODE: Port = Port { host: 0, bridge: 0 };

fn network_with_service() -> Result<(Network, Echo, Client)> {
    let network = Network::new(&["node", "client"], 1)?;
    network.host(0)?.ip("addr add 10.77.0.100/24 dev eth0")?;
    let echo = Echo::start(network.host(0)?, 3)?;
    let client = Client::start(network.host(1)?, SERVICE)?;
    Ok((network, echo, client))
}

#[test]
fn a_client_sees_the_gap_that_a_cut_makes() -> Result<()> {
    if privileged::skip() {
        return Ok(());
    }
    let (network, echo, client) = network_with_service()?;
    let from_ns = clock::now_ns();
    clock::wait_for("a hundred answers", LIMIT, || {
        Ok((client.answers_since(from_ns).len() >= 100).then_some(()))
    })?;
    let cut_ns = clock::now_ns();
    network.cut(NODE)?;
    clock::pause(Duration::from_millis(300))?;
    network.heal(NODE)?;
    let healed_ns = clock::now_ns();
    clock::wait_for("answers after healing", LIMIT, || Ok(client.answers_since(healed_ns).first().copied()))?;

    let gap = client.longest_gap(from_ns).context("no gap")?;
    // Probes are sent each millisecond; only delays of the machine can make the gap longer, none can make it shorter.
    assert!(gap.ms() >= clock::ms_between(cut_ns, healed_ns) - 5.0, "{gap:?}");
    assert!(gap.last.sent_ns <= cut_ns + 5_000_000, "{gap:?}");
    assert_eq!(gap.first.node, 3);
    assert!(echo.answered() >= 100);
    Ok(())
}

#[test]
fn a_capture_sees_frames_of_both_directions_in_time() -> Result<()> {
    if privileged::skip() {
        return Ok(());
    }
    let (network, _echo, _client) = network_with_service()?;
    let capture = Capture::start(&network, NODE)?;
    let injector = Injector::new(&network, NODE)?;
    let mut announcement = vec![0xff; 6];
    announcement.extend([2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    announcement.extend([2, 0, 0, 0, 0, 9, 10, 77, 0, 99, 0, 0, 0, 0, 0, 0, 10, 77, 0, 99]);
    let before_ns = clock::now_ns();
    injector.send(&announcement)?;
    let wanted = Kind::Announcement(Ipv4Addr::new(10, 77, 0, 99).into());
    let seen = clock::wait_for("the injected frame", LIMIT, || {
        Ok(capture.frames(0, |frame| frame.kind == wanted).first().cloned())
    })?;
    let after_ns = clock::now_ns();
    assert_eq!(seen.direction, Direction::ToHost);
    assert_eq!(seen.bytes, announcement);
    // The conversion between the clocks may be off by the time of three readings.
    assert!(seen.at_ns + 1_000_000 >= before_ns && seen.at_ns <= after_ns + 1_000_000, "{seen:?}");
    Ok(())
}

#[test]
fn scratch_files_are_seen_by_children_and_by_nobody_else() -> Result<()> {
    if privileged::skip() {
        return Ok(());
    }
    let outside = std::fs::read_dir("/run")?.count();
    let path = std::thread::spawn(|| -> Result<std::path::PathBuf> {
        let scratch = Scratch::new()?;
        let path = scratch.root().join("file");
        std::fs::write(&path, "here")?;
        let seen = std::process::Command::new("cat").arg(&path).output()?;
        assert_eq!(seen.stdout, b"here");
        assert!(scratch.bpffs().is_some());
        Ok(path)
    })
    .join();
    let path = path.map_err(|_| anyhow::anyhow!("panicked"))??;
    assert!(!path.exists());
    assert_eq!(std::fs::read_dir("/run")?.count(), outside);
    Ok(())
}
