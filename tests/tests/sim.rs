//! Two and three nodes under a virtual clock: takeovers, orderly moves, pauses, partitions, loss, restarts.
//! Whatever a test does, the world checks every verdict against what the kernels received (I2, I3).

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

use agent_common::{GroupId, LinkId, NodeId};
use agent_core::config::{GateKind, Mutated, Policy, TieBreak};
use agent_core::mutation::Mutation;
use agent_core::{GroupState, PeerState};
use agent_tests::sim::{Loss, Rng, Setup, Witness, World};

const SEEDS: [u64; 8] = [1, 2, 3, 5, 8, 13, 21, 34];
const RANDOM_SEEDS: u64 = 200;
/// Longer than it takes to join, to learn all tables, and to move a group.
const SETTLE: Duration = Duration::from_millis(200);
/// Wake-up, frames, effects and the extra rounds of a takeover, beyond the deadtime.
const SLACK: Duration = Duration::from_millis(15);

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn id(raw: u8) -> NodeId {
    NodeId::new(raw).unwrap()
}

fn group() -> GroupId {
    GroupId::new(0).unwrap()
}

fn pair() -> Setup {
    Setup::new(2, Policy::TwoNode(TieBreak::Always))
}

fn three() -> Setup {
    Setup::new(3, Policy::Majority)
}

/// A world that has settled with node 0 serving.
fn serving(setup: &Setup, seed: u64) -> World {
    let mut world = World::new(setup, seed);
    world.run(SETTLE);
    assert_eq!(world.holders(group()), [id(0)], "the first of prefer serves");
    assert_eq!(world.witness.deaths, 0);
    world
}

/// All running agents agree that `owner` serves every group, and it does.
fn assert_settled(world: &World, owner: NodeId) {
    assert_eq!(world.holders(group()), [owner]);
    for node in world.nodes() {
        let Some(view) = world.view(node) else { continue };
        assert_eq!(view.groups[0].owner, Some(owner), "in the view of {node:?}");
        let serves = view.groups[0].state == GroupState::Serving;
        assert_eq!(serves, node == owner, "{node:?} is {:?}", view.groups[0].state);
    }
}

#[test]
fn a_crashed_holder_is_replaced_within_deadtime_and_little_more() {
    for setup in [pair(), three()] {
        for seed in SEEDS {
            let mut world = serving(&setup, seed);
            world.run(Duration::from_micros(seed * 977));
            world.crash(id(0));
            let took = world.run_until(ms(1000), |world| world.holders(group()) == [id(1)]).unwrap();
            let least = setup.timing.deadtime - setup.timing.keepalive - ms(1);
            assert!(took >= least && took <= setup.timing.deadtime + SLACK, "{took:?}");
            assert_eq!(world.witness.doubles, 0);
        }
    }
}

#[test]
fn an_orderly_leave_moves_the_address_without_waiting() {
    for setup in [pair(), three()] {
        for seed in SEEDS {
            let mut world = serving(&setup, seed);
            world.leave(id(0));
            let took = world.run_until(ms(1000), |world| world.holders(group()) == [id(1)]).unwrap();
            assert!(took < setup.timing.deadtime / 2, "{took:?}");
            world.run(SETTLE);
            assert_eq!((world.witness.finished, world.witness.doubles), (1, 0));
            assert_settled(&world, id(1));
        }
    }
}

#[test]
fn a_paused_observer_calls_nobody_dead() {
    for seed in SEEDS {
        let mut world = serving(&pair(), seed);
        for _ in 0..10 {
            world.pause(id(1), ms(400));
            world.run(ms(450));
        }
        assert!(world.witness.long_pauses == 10 && world.witness.late_rounds == 10, "{:?}", world.witness);
        // Node 0 may call the paused one dead; that changes nothing. Node 1 never calls node 0 dead.
        assert_eq!(world.witness.acquired, 1, "the address never moved");
        assert_settled(&world, id(0));
    }
}

#[test]
fn a_paused_holder_is_replaced_and_gives_way_when_it_wakes() {
    for seed in SEEDS {
        let mut world = serving(&pair(), seed);
        world.pause(id(0), ms(500));
        world.run(ms(200));
        assert_eq!(world.holders(group()), [id(0), id(1)], "without a gate the paused one still has it");
        world.run(ms(300) + SETTLE);
        assert_settled(&world, id(1));
    }
}

/// Two nodes with gates and few heartbeats in a deadtime. The holder stands still for a deadtime and up to three keepalives more;
/// for how long two gates were open afterwards, in steps of 50 us, with a fresh world for each of several moments to go on.
fn open_twice(mutated: Mutated, seed: u64) -> u32 {
    let mut setup = pair();
    (setup.gate, setup.mutated) = (GateKind::Kernel, mutated);
    (setup.timing.keepalive, setup.timing.deadtime) = (ms(20), ms(60));
    let mut both = 0;
    for step in 0..40 {
        let mut world = serving(&setup, seed);
        world.run(Duration::from_micros(seed * 977));
        assert_eq!(world.open(group()), [id(0)]);
        world.pause(id(0), ms(60) + Duration::from_micros(1500 * step));
        let mut moved = false;
        for _ in 0..4000 {
            world.run(Duration::from_micros(50));
            let open = world.open(group());
            both += u32::from(open.len() > 1);
            moved |= open == [id(1)];
        }
        assert_eq!(world.witness.long_pauses, u64::from(step > 0));
        assert!(moved || step < 2, "it stood still for long enough: {step}");
        assert_eq!(world.open(group()).len(), 1, "one of them serves in the end");
    }
    both
}

#[test]
fn who_stood_still_for_a_deadtime_opens_no_gate_beside_the_new_holder() {
    let mut broken = 0;
    for seed in SEEDS {
        assert_eq!(open_twice(Mutated::default(), seed), 0, "seed {seed}");
        broken += open_twice(Mutated::by(Mutation::LapsedLeaseRestarts), seed);
    }
    assert!(broken > 0, "the witness: with the rule broken both were open");
}

#[test]
fn a_healed_partition_ends_with_one_holder_that_announces_again() {
    for seed in SEEDS {
        let mut world = serving(&pair(), seed);
        world.cut(id(0), id(1), true);
        world.cut(id(1), id(0), true);
        world.run(SETTLE);
        assert_eq!(world.holders(group()).len(), 2, "two-node always has two servers in a partition");
        let announced = world.witness.announced;
        world.heal();
        world.run(SETTLE);
        assert_settled(&world, id(1));
        assert!(world.witness.announced > announced && world.witness.doubles == 1);
    }
}

#[test]
fn a_minority_lets_go() {
    for seed in SEEDS {
        let mut world = serving(&three(), seed);
        for peer in [1, 2] {
            world.cut(id(0), id(peer), true);
            world.cut(id(peer), id(0), true);
        }
        world.run(SETTLE);
        assert_eq!(world.holders(group()), [id(1)]);
        assert!(!world.view(id(0)).unwrap().quorum);
        world.heal();
        world.run(SETTLE);
        assert_settled(&world, id(1));
    }
}

#[test]
fn one_way_silence_ends_with_one_holder_after_healing() {
    for seed in SEEDS {
        for (from, to) in [(0, 1), (1, 0)] {
            let mut world = serving(&pair(), seed);
            world.cut(id(from), id(to), true);
            world.run(ms(500));
            assert!(world.witness.deaths > 0);
            world.heal();
            world.run(SETTLE);
            assert_eq!(world.holders(group()).len(), 1);
        }
    }
}

#[test]
fn one_of_two_links_is_enough() {
    for seed in SEEDS {
        let mut world = serving(&pair(), seed);
        for link in [0, 1, 0, 1] {
            let link = LinkId::new(link).unwrap();
            let lost = world.witness.lost;
            world.cut_link(id(0), id(1), link, true);
            world.cut_link(id(1), id(0), link, true);
            world.run(ms(300));
            assert!(world.witness.lost > lost);
            let states = world.view(id(1)).unwrap().nodes[0].links;
            assert_eq!(states[link.index()].state, agent_core::LinkState::Dead);
            world.heal();
            world.run(ms(300));
            let states = world.view(id(1)).unwrap().nodes[0].links;
            assert_eq!(states[link.index()].state, agent_core::LinkState::Up);
        }
        assert_eq!((world.witness.deaths, world.witness.acquired), (0, 1));
    }
}

#[test]
fn loss_below_the_deadtime_ratio_never_kills() {
    for seed in SEEDS {
        let mut setup = pair();
        setup.links = 1;
        let mut world = serving(&setup, seed);
        // Of every four frames one arrives: 40 ms of silence, below the deadtime of 50 ms.
        world.lose(Loss::Runs { run: 3 });
        let frames = world.witness.frames;
        world.run(ms(3000));
        assert!(world.witness.lost > 300 && world.witness.frames > frames + 100, "{:?}", world.witness);
        assert_eq!((world.witness.deaths, world.witness.acquired), (0, 1));
        let loss = world.view(id(1)).unwrap().nodes[0].links[0].loss_ppm;
        assert!((600_000..=760_000).contains(&loss), "{loss}");
        // One more, and it must die: the figure above is the limit.
        world.lose(Loss::Runs { run: 5 });
        world.run(ms(300));
        assert!(world.witness.deaths > 0);
    }
}

#[test]
fn a_restarted_holder_forgets_its_claim_and_the_group_is_served_again() {
    for seed in SEEDS {
        let mut world = serving(&pair(), seed);
        world.kill(id(0));
        world.run(ms(20));
        world.start(id(0));
        assert_eq!(world.holders(group()), [], "its leftovers are removed at start");
        let took = world.run_until(ms(500), |world| world.holders(group()).len() == 1).unwrap();
        assert!(took < ms(100), "{took:?}");
        assert_eq!(world.witness.deaths, 0, "it restarted within its deadtime");
        world.run(SETTLE);
        assert_eq!((world.holders(group()).len(), world.witness.doubles), (1, 0));
    }
}

#[test]
fn a_node_that_is_alone_serves_after_initdead() {
    let mut world = World::new(&pair(), 1);
    world.crash(id(1));
    let took = world.run_until(ms(2000), |world| world.holders(group()) == [id(0)]).unwrap();
    assert!(took >= ms(500) && took <= ms(500) + SLACK, "{took:?}");
}

#[test]
fn a_group_with_failback_returns_in_order() {
    for seed in SEEDS {
        let mut setup = pair();
        setup.auto_failback = true;
        let mut world = serving(&setup, seed);
        world.crash(id(0));
        world.run(SETTLE);
        assert_settled(&world, id(1));
        world.start(id(0));
        world.run(SETTLE);
        assert_settled(&world, id(0));
        assert_eq!(world.witness.doubles, 0, "it is released before it is taken");
    }
}

#[test]
fn a_removed_address_is_put_back() {
    let mut world = serving(&pair(), 1);
    for _ in 0..5 {
        world.meddle(id(0));
        assert_eq!(world.holders(group()), []);
        world.run(ms(100));
        assert_eq!(world.holders(group()), [id(0)]);
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = |seed| {
        let mut world = World::new(&three(), seed);
        storm(&mut world, seed);
        (world.witness, world.now_ns())
    };
    assert_eq!(history(42), history(42));
    assert_ne!(history(42), history(43));
}

/// Breaks and mends things at random for a while.
fn storm(world: &mut World, seed: u64) {
    let mut rng = Rng::new(seed ^ 0x5707);
    let nodes: Vec<NodeId> = world.nodes().collect();
    for _ in 0..25 {
        let node = nodes[usize::try_from(rng.below(nodes.len() as u64)).unwrap()];
        let other = nodes[usize::try_from(rng.below(nodes.len() as u64)).unwrap()];
        match rng.below(12) {
            0 => world.crash(node),
            1 => world.kill(node),
            2..=4 => world.start(node),
            5 => world.pause(node, ms(rng.below(300))),
            6 => world.cut(node, other, true),
            7 => world.cut_link(node, other, LinkId::new(u8::from(rng.chance(500))).unwrap(), true),
            8 => world.lose(Loss::Random { permille: rng.below(400) }),
            9 => world.leave(node),
            10 => world.meddle(node),
            _ => world.heal(),
        }
        world.run(ms(rng.below(120)));
    }
}

/// After any storm and some quiet there is one server, and all agree (I5).
fn weather(setup: &Setup, seed: u64) -> Witness {
    let mut world = World::new(setup, seed);
    storm(&mut world, seed);
    world.heal();
    world.run(ms(400));
    let nodes: Vec<NodeId> = world.nodes().collect();
    for node in nodes.into_iter().filter(|node| !world.is_running(*node)).collect::<Vec<_>>() {
        world.start(node);
    }
    world.run(setup.timing.initdead + setup.timing.keepalive * 20);
    let holders = world.holders(group());
    assert_eq!(holders.len(), 1, "holders {holders:?}");
    assert_settled(&world, holders[0]);
    for node in world.nodes() {
        let view = world.view(node).unwrap();
        let others = world.nodes().filter(|other| *other != node);
        for other in others {
            assert_eq!(view.nodes[other.index()].state, PeerState::Up, "{other:?} in the view of {node:?}");
        }
    }
    world.witness
}

#[test]
fn after_any_storm_there_is_one_server() {
    let first = std::env::var("XBEAT_SEED").ok().and_then(|seed| seed.parse().ok());
    let random = RandomState::new().hash_one(0);
    let fixed = SEEDS.into_iter();
    let seeds: Vec<u64> = match first {
        Some(seed) => vec![seed],
        None => fixed.chain((0..RANDOM_SEEDS).map(|step| random.wrapping_add(step) >> 1)).collect(),
    };
    let mut failback = three();
    failback.auto_failback = true;
    let setups = [pair(), three(), failback];
    let (mut deaths, mut doubles, mut finished, mut pauses) = (0, 0, 0, 0);
    for (seed, setup) in seeds.iter().zip(setups.iter().cycle()) {
        println!("XBEAT_SEED={seed} ({} nodes, failback {})", setup.nodes, setup.auto_failback);
        let witness = weather(setup, *seed);
        deaths += witness.deaths;
        doubles += witness.doubles;
        finished += witness.finished;
        pauses += witness.long_pauses;
    }
    if first.is_none() {
        assert!(deaths > 100 && doubles > 0 && finished > 10 && pauses > 100);
    }
}

#[test]
fn round_trips_are_measured_on_every_link_of_real_frames() {
    let mut world = serving(&three(), 7);
    world.run(Duration::from_secs(3));
    for node in world.nodes() {
        let view = world.view(node).unwrap();
        let peers = world.nodes().filter(|peer| *peer != node);
        for (peer, link) in peers.flat_map(|peer| [(peer, 0), (peer, 1)]) {
            let rtt = view.nodes[peer.index()].links[link].rtt;
            let rtt = rtt.unwrap_or_else(|| panic!("{node:?} knows none to {peer:?} over {link}"));
            assert!(rtt > Duration::from_micros(50) && rtt < ms(1), "{node:?} to {peer:?}: {rtt:?}");
        }
    }
}
