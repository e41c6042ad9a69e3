//! The closed forms against simulations of the same losses, seeded, with losses frequent enough to be counted.

use std::time::Duration;

use super::{Loss, LossError, burst, deadly_run, expectation, false_deaths, lost_leases, part};
use crate::config;

const KEEPALIVE: Duration = Duration::from_millis(10);

/// Randomness from a seed: SplitMix64 (Steele, Lea, Flood, 2014).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        f64::from(u32::try_from(bits >> 32).unwrap()) / f64::from(u32::MAX)
    }
}

/// One link of a simulation: every how many heartbeats it carries one, and whether it is in a burst.
struct Lossy {
    every: u64,
    phase: u64,
    loss: Loss,
    lost: bool,
}

impl Lossy {
    /// Whether it delivers this heartbeat.
    fn delivers(&mut self, beat: u64, rng: &mut Rng) -> bool {
        if !(beat + self.phase).is_multiple_of(self.every) {
            return false;
        }
        // The chain of Gilbert whose stationary loss is `part` and whose losses go on with `again`.
        let first = self.loss.part * (1.0 - self.loss.again) / (1.0 - self.loss.part);
        self.lost = rng.next() < if self.lost { self.loss.again } else { first };
        !self.lost
    }
}

/// Silences longer than the deadtime in so many heartbeats, by the clock: a tie is a death.
fn counted(deadtime: Duration, every: &[u64], loss: Loss, beats: u64) -> u64 {
    let mut rng = Rng(7);
    let (mut deaths, mut heard, mut dead) = (0, 0, false);
    let mut links: Vec<Lossy> =
        every.iter().map(|every| Lossy { every: *every, phase: 0, loss, lost: false }).collect();
    for beat in 0..beats {
        // Phases are drawn anew now and then, so that the mean over them is seen.
        if beat.is_multiple_of(1000) {
            for link in &mut links {
                link.phase = (rng.next() * 1000.0) as u64;
            }
        }
        let mut delivered = false;
        for link in &mut links {
            delivered |= link.delivers(beat, &mut rng);
        }
        let silence = KEEPALIVE * u32::try_from(beat - heard).unwrap();
        if silence >= deadtime && !dead {
            dead = true;
            deaths += 1;
        }
        if delivered {
            (heard, dead) = (beat, false);
        }
    }
    deaths
}

#[track_caller]
fn agrees(deadtime: Duration, every: &[u64], loss: Loss) {
    let beats = 2_000_000;
    let paces: Vec<Duration> = every.iter().map(|every| KEEPALIVE * u32::try_from(*every).unwrap()).collect();
    let days = KEEPALIVE.as_secs_f64() * beats as f64 / 86_400.0;
    let expected = false_deaths(KEEPALIVE, deadtime, &paces, loss) * days;
    let found = counted(deadtime, every, loss, beats) as f64;
    assert!(expected > 100.0, "too rare to be counted: {expected}");
    // Six standard deviations, were the deaths independent.
    let tolerance = 6.0 * expected.sqrt() + 0.03 * expected;
    assert!((found - expected).abs() < tolerance, "{every:?} {loss:?}: {found} of {expected}");
}

#[test]
fn false_deaths_are_as_often_as_simulated() {
    let ms = Duration::from_millis;
    agrees(ms(50), &[1], Loss::independent(0.1));
    agrees(ms(45), &[1], Loss::independent(0.12));
    agrees(ms(30), &[1], Loss::independent(0.05));
    agrees(ms(51), &[1], Loss::independent(0.2));
    agrees(ms(50), &[1, 1], Loss::independent(0.3));
    agrees(ms(80), &[1, 4], Loss::independent(0.4));
    agrees(ms(70), &[1, 4], Loss::independent(0.4));
    agrees(ms(80), &[1], Loss::bursts(0.01, 3.0));
    agrees(ms(50), &[1, 1], Loss::bursts(0.2, 4.0));
}

#[test]
fn one_link_is_the_textbook_formula() {
    // p^n (1 - p) / keepalive, with n = 4 lost heartbeats of 10 ms for 50 ms.
    let expected = 0.01_f64.powi(4) * 0.99 * 100.0 * 86_400.0;
    let found = false_deaths(KEEPALIVE, KEEPALIVE * 5, &[KEEPALIVE], Loss::independent(0.01));
    assert!((found / expected - 1.0).abs() < 1e-9, "{found} {expected}");
}

#[test]
fn a_tie_counts_as_too_late() {
    let us = Duration::from_micros;
    assert_eq!(deadly_run(us(10_000), us(50_000)), 4);
    assert_eq!(deadly_run(us(10_000), us(50_001)), 5);
    assert_eq!(deadly_run(us(10_000), us(49_999)), 4);
    assert_eq!(deadly_run(us(10_000), us(20_001)), 2);
}

/// A holder whose heartbeats and their answers are lost: how often its lease runs out, by the clock.
fn leases_lost(deadtime: Duration, loss: f64, needed: usize, others: usize, beats: u64) -> u64 {
    let mut rng = Rng(11);
    // In steps of a twentieth of a keepalive: when each voter answers, what it heard, and the holder's promises.
    let phase: Vec<u64> = (0..others).map(|_| 1 + (rng.next() * 18.0) as u64).collect();
    let lease = (deadtime.as_secs_f64() * super::LEASE_PART / KEEPALIVE.as_secs_f64() * 20.0) as u64;
    let (mut heard, mut promised) = (vec![0_u64; others], vec![0_u64; others]);
    let (mut lost, mut held) = (0, true);
    for step in 0..beats * 20 {
        for voter in 0..others {
            if step.is_multiple_of(20) && rng.next() >= loss {
                heard[voter] = step;
            }
            if step % 20 == phase[voter] && rng.next() >= loss {
                promised[voter] = heard[voter];
            }
        }
        let good = promised.iter().filter(|sent| step < **sent + lease).count();
        if good < needed && held {
            lost += 1;
        }
        held = good >= needed;
    }
    lost
}

#[test]
fn leases_are_lost_no_more_often_than_said_and_not_much_less() {
    for (deadtime, loss, needed, others) in
        [(50, 0.4, 1, 2), (50, 0.2, 2, 2), (35, 0.2, 2, 4), (60, 0.3, 1, 1)]
    {
        let deadtime = Duration::from_millis(deadtime);
        let beats = 100_000;
        let days = KEEPALIVE.as_secs_f64() * beats as f64 / 86_400.0;
        let bound = lost_leases(KEEPALIVE, deadtime, loss, needed, others) * days;
        let found = leases_lost(deadtime, loss, needed as usize, others as usize, beats) as f64;
        assert!(found > 50.0, "too rare to be counted: {found}");
        assert!(found <= bound * 1.1, "{found} of at most {bound}");
        assert!(found > bound / 4.0, "{found} of at most {bound}");
    }
}

#[test]
fn the_configuration_says_which_links_a_pair_has() {
    let text = "[cluster]\nname = \"x\"\nnode = \"a\"\n[[node]]\nname = \"a\"\n[[node]]\nname = \"b\"\n[[node]]\nname = \"c\"\n\
                [[link]]\ntype = \"bcast\"\ninterface = \"e0\"\n\
                [[link]]\ntype = \"ucast\"\ninterface = \"e1\"\npeers = { a = \"10.0.0.1\", b = \"10.0.0.2\", c = \"none\" }\n";
    let (settings, _) = config::parse("x.toml", text, "a").unwrap();
    let loss = Loss::independent(0.01);
    let expected = expectation(&settings, loss);
    assert_eq!(expected.run, 4);
    let one = false_deaths(KEEPALIVE, KEEPALIVE * 5, &[KEEPALIVE], loss);
    let two = false_deaths(KEEPALIVE, KEEPALIVE * 5, &[KEEPALIVE; 2], loss);
    assert_eq!(expected.alone, [(0, one), (1, one)]);
    assert!(two < one / 1e6);
    // a and b share both links, c has one with each of them.
    assert!((expected.cluster - (2.0 * two + 4.0 * one)).abs() < 1e-9);
    assert_eq!(expected.pair, one);
    assert!(expected.leases.is_some());
}

#[test]
fn losses_are_read_as_people_write_them() {
    assert_eq!(part("1%"), Ok(0.01));
    assert_eq!(part(" 2.5 % "), Ok(0.025));
    assert_eq!(part("0.01"), Ok(0.01));
    for text in ["", "%", "0", "0%", "1", "100%", "-1%", "many", "nan", "inf%"] {
        assert_eq!(part(text), Err(LossError::Loss(text.to_owned())), "{text}");
    }
    assert_eq!(burst("3"), Ok(3.0));
    for text in ["0.5", "x", "1001", "nan"] {
        assert_eq!(burst(text), Err(LossError::Burst(text.to_owned())), "{text}");
    }
}
