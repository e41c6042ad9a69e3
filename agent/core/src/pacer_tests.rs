//! Tests of `pacer`: the schedule has no drift and no bursts, slow links go slowly, news goes early but not in floods.

use core::time::Duration;

use agent_common::LinkId;

use super::{Due, NEWS_SPACING, Pacer};
use crate::config::LinkConfig;
use crate::test_config;
use crate::time::Instant;

const KEEPALIVE: Duration = Duration::from_millis(10);

const fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

/// A pacer with a fast link and one that is `slow` milliseconds.
fn pacer(slow: Option<u64>) -> Pacer {
    let mut config = test_config(2);
    if let Some(slow) = slow {
        config.links.push(LinkConfig { id: LinkId::new(1).unwrap(), keepalive: Duration::from_millis(slow) });
    }
    Pacer::new(&config, at(1000))
}

#[test]
fn the_schedule_does_not_drift() {
    let mut pacer = pacer(None);
    // Each wake is 3 ms late; the beats stay where they were.
    for step in 0..1000_u64 {
        assert_eq!(pacer.wake(), at(1000 + 10 * step));
        assert_eq!(pacer.take(at(1003 + 10 * step)), Due { links: 1, beat: true });
    }
}

#[test]
fn a_stall_is_not_made_up_for() {
    let mut pacer = pacer(None);
    pacer.take(at(1000));
    assert_eq!(pacer.take(at(1555)), Due { links: 1, beat: true });
    assert_eq!(pacer.wake(), at(1560));
    assert_eq!(pacer.take(at(1555)), Due::default());
}

#[test]
fn a_slow_link_is_due_less_often() {
    let mut pacer = pacer(Some(25));
    let mut sent = [0, 0];
    let mut now = at(1000);
    while now < at(2000) {
        let due = pacer.take(now);
        sent[0] += u32::from(due.links & 1 != 0);
        sent[1] += u32::from(due.links & 2 != 0);
        now = pacer.wake();
    }
    assert_eq!(sent, [100, 40]);
}

#[test]
fn news_goes_at_once_but_not_in_floods() {
    let mut pacer = pacer(Some(100));
    pacer.take(at(1000));
    pacer.tell();
    assert_eq!(pacer.wake(), at(1000).after(NEWS_SPACING));
    assert_eq!(pacer.take(at(1000)), Due::default());
    let mut sent = 0;
    let mut now = at(1000);
    while now < at(2000) {
        pacer.tell();
        let due = pacer.take(now);
        sent += u32::from(due.links & 1 != 0);
        assert!(due.beat || due.links & 2 == 0, "a slow link is spared");
        now = now.after(Duration::from_micros(100));
    }
    let bound = u32::try_from(Duration::from_secs(1).as_nanos() / NEWS_SPACING.as_nanos()).unwrap();
    assert!(sent > bound / 2 && sent <= bound + 1, "{sent} sent");
}

#[test]
fn news_does_not_move_the_schedule() {
    let mut pacer = pacer(None);
    pacer.take(at(1000));
    pacer.tell();
    assert_eq!(pacer.take(at(1004)), Due { links: 1, beat: false });
    assert_eq!(pacer.wake(), at(1000).after(KEEPALIVE));
}

#[test]
fn without_a_fast_link_news_waits_for_the_slow_one() {
    let mut config = test_config(2);
    config.links[0].keepalive = Duration::from_millis(100);
    let mut pacer = Pacer::new(&config, at(1000));
    assert_eq!(pacer.take(at(1000)), Due { links: 1, beat: true });
    pacer.tell();
    assert_eq!(pacer.wake(), at(1010));
    assert_eq!(pacer.take(at(1010)), Due { links: 0, beat: true });
    assert_eq!(pacer.take(at(1100)), Due { links: 1, beat: true });
}
