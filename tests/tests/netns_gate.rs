//! One server, seen from outside: an observer asks every node that may serve, at its own MAC address, while agents are
//! killed, stopped, cut off and told to move. At most one answers at any time, and somebody answers again within bounds.
//!
//! Heartbeats travel on a bridge of their own where the cluster is partitioned, so that the observer still reaches every
//! node: a node that cannot be reached proves nothing by its silence.

use std::time::Duration;

use agent_tests::lab::clock;
use agent_tests::lab::cluster::{Cluster, SETTLE, STOP, scenario};
use agent_tests::lab::config::{GROUP, LinkSpec, Policy, Spec, Xdp};
use agent_tests::lab::network::Port;
use agent_tests::lab::observer::{Observer, Turn};
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(15);
/// Heartbeats have a bridge of their own.
const HEARTBEATS: usize = 1;
const WITNESS: usize = 2;
/// What the machine may add to a time that the kernel keeps.
const SLACK: Duration = Duration::from_millis(150);

/// Two owners and a witness; heartbeats on the bridges given.
fn three(bridges: &[usize]) -> Spec {
    let links = bridges.iter().map(|bridge| LinkSpec { bridge: *bridge, ..LinkSpec::default() }).collect();
    Spec { nodes: 3, witnesses: 1, links, policy: Policy::Majority, ..Spec::default() }
}

/// An observed cluster.
struct Watched<'a> {
    cluster: &'a mut Cluster,
    observer: Observer,
    from_ns: u64,
}

impl<'a> Watched<'a> {
    /// Starts the cluster and the observer; says who serves.
    fn start(cluster: &'a mut Cluster) -> Result<(Self, usize)> {
        let observer = cluster.observer()?;
        let holder = cluster.start()?;
        for node in 0..cluster.spec().owners() {
            let status = cluster.agent(node)?.status()?;
            ensure!(status["gate"] == "kernel", "no gate in the kernel: {status}");
        }
        let from_ns = clock::now_ns();
        let watched = Self { cluster, observer, from_ns };
        watched.wait_turn(holder)?;
        Ok((watched, holder))
    }

    fn turns(&self) -> Vec<Turn> {
        self.observer.turns(self.from_ns)
    }

    /// Waits until the newest answer is of `node`.
    fn wait_turn(&self, node: usize) -> Result<Turn> {
        let what = format!("an answer of {} to the observer", self.cluster.name(node));
        clock::wait_for(&what, LIMIT, || Ok(self.turns().last().copied().filter(|turn| turn.node == node)))
            .with_context(|| format!("{:?}", self.turns()))
    }

    /// How often an agent has said that it was granted the lease.
    fn grants(&self) -> Result<usize> {
        let said = format!("lease of {GROUP}: held");
        let mut grants = 0;
        for node in 0..self.cluster.spec().owners() {
            grants += self.cluster.agent(node)?.log().iter().filter(|line| line.contains(&said)).count();
        }
        Ok(grants)
    }

    /// At most one node served at any time: exactly these, one after the other.
    fn expect_turns(&self, nodes: &[usize]) -> Result<Vec<Turn>> {
        let turns = self.turns();
        let served: Vec<usize> = turns.iter().map(|turn| turn.node).collect();
        ensure!(served == nodes, "{} turns: {turns:?}", turns.len());
        self.expect_witnesses(&turns)?;
        Ok(turns)
    }

    /// At most one node served at any time: no more turns than leases were granted.
    fn expect_granted_turns(&self) -> Result<Vec<Turn>> {
        let (turns, grants) = (self.turns(), self.grants()?);
        ensure!(turns.len() <= grants, "{} turns and {grants} grants: {turns:?}", turns.len());
        self.expect_witnesses(&turns)?;
        Ok(turns)
    }

    /// Every node was asked all the time, and somebody did answer.
    fn expect_witnesses(&self, turns: &[Turn]) -> Result<()> {
        for node in 0..self.cluster.spec().owners() {
            let asked = self.observer.asked(node);
            ensure!(asked > 500, "{} was asked {asked} times only", self.cluster.name(node));
        }
        let answers = self.observer.answers_since(self.from_ns).len();
        ensure!(!turns.is_empty() && answers > 200, "{answers} answers only");
        Ok(())
    }

    /// The longest time without an answer since `from_ns`, up to now.
    fn longest_silence(&self, from_ns: u64) -> Duration {
        let mut last = from_ns;
        let mut longest = 0;
        for answer in self.observer.answers_since(from_ns) {
            longest = longest.max(answer.answered_ns.saturating_sub(last));
            last = answer.answered_ns;
        }
        Duration::from_nanos(longest.max(clock::now_ns().saturating_sub(last)))
    }

    fn drops(&self, node: usize) -> Result<u64> {
        let status = self.cluster.agent(node)?.status()?;
        let drops = status["gate_drops"].as_array().context("status counts no drops")?;
        Ok(drops.iter().filter_map(|drops| drops["ingress"].as_u64()).sum())
    }

    /// A rule of the bridges' packet filter, in which frames of heartbeats are dropped on their way.
    fn filter(&self, rule: &str) -> Result<()> {
        let rules = format!(
            "add table bridge lab\nflush table bridge lab\n\
             add chain bridge lab cut {{ type filter hook forward priority 0; }}\n{rule}\n"
        );
        let switch = self.cluster.network().switch();
        let output =
            switch.command("nft").arg(rules).output().context("cannot run nft (package nftables)")?;
        ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn heal(&self) -> Result<()> {
        self.filter("")
    }

    /// Waits until all agents agree again.
    fn wait_whole(&mut self) -> Result<usize> {
        clock::pause(self.cluster.spec().deadtime)?;
        self.cluster.wait_whole()
    }
}

fn port(node: usize) -> String {
    Port { host: node, bridge: HEARTBEATS }.name()
}

/// Those of all nodes, as a set of the packet filter's.
fn ports() -> String {
    format!("{{ {} }}", (0..=WITNESS).map(port).collect::<Vec<_>>().join(", "))
}

#[test]
fn the_kernel_shuts_the_address_of_an_agent_that_was_killed() -> Result<()> {
    scenario(three(&[0]), |cluster| {
        let (mut watched, holder) = Watched::start(cluster)?;
        let survivor = watched.cluster.other(holder);
        let killed_ns = clock::now_ns();
        watched.cluster.agent(holder)?.kill()?;
        watched.cluster.agent_mut(holder)?.reap(LIMIT)?;
        let turn = watched.wait_turn(survivor)?;
        let deadtime = watched.cluster.spec().deadtime;
        let gone = Duration::from_nanos(turn.first_ns - killed_ns);
        ensure!(gone < deadtime * 2 + SLACK * 4, "served again after {gone:?}");
        // The address is still there; that nobody answers for it is the gate's work.
        ensure!(watched.cluster.holders()?.contains(&holder), "somebody removed the address");
        clock::pause(Duration::from_secs(3))?;
        let turns = watched.expect_turns(&[holder, survivor])?;
        let last = turns.first().context("no turn")?.last_ns;
        ensure!(
            last < killed_ns + clock::ns(deadtime + SLACK),
            "answered for {} ms after the kill",
            clock::ms_between(killed_ns, last)
        );

        // The next agent finds the gate shut and says nothing before it has given the address up.
        watched.cluster.start_agent(holder)?;
        assert_eq!(watched.wait_whole()?, survivor);
        watched.expect_turns(&[holder, survivor])?;
        assert_eq!(watched.cluster.holders()?, [survivor]);
        assert!(watched.drops(holder)? > 100, "the witness: the gate did drop");
        Ok(())
    })
}

#[test]
fn an_agent_that_was_stopped_wakes_up_behind_a_shut_gate() -> Result<()> {
    scenario(three(&[0]), |cluster| {
        let (mut watched, holder) = Watched::start(cluster)?;
        let survivor = watched.cluster.other(holder);
        watched.cluster.agent(holder)?.signal(Signal::SIGSTOP)?;
        watched.wait_turn(survivor)?;
        clock::pause(Duration::from_secs(5))?;
        watched.cluster.agent(holder)?.signal(Signal::SIGCONT)?;
        assert_eq!(watched.wait_whole()?, survivor);
        clock::pause(Duration::from_secs(1))?;
        watched.expect_turns(&[holder, survivor])?;
        assert_eq!(watched.cluster.holders()?, [survivor]);
        Ok(())
    })
}

/// Nobody is left to say anything to the holder's kernel: no agent, and no heartbeat that would raise its bar. Its lease
/// ends by the clock alone.
fn silenced_and_cut_off(signal: Signal) -> Result<()> {
    scenario(three(&[HEARTBEATS]), |cluster| {
        let (mut watched, holder) = Watched::start(cluster)?;
        let survivor = watched.cluster.other(holder);
        let port = port(holder);
        let cut_ns = clock::now_ns();
        watched.cluster.agent(holder)?.signal(signal)?;
        watched.filter(&format!(
            "add rule bridge lab cut iifname {port} drop\nadd rule bridge lab cut oifname {port} drop\n"
        ))?;
        watched.wait_turn(survivor)?;
        clock::pause(Duration::from_secs(3))?;
        assert_eq!(watched.cluster.holders()?, [0, 1], "both have the address");
        let turns = watched.expect_turns(&[holder, survivor])?;
        let last = turns.first().context("no turn")?.last_ns;
        let deadtime = watched.cluster.spec().deadtime;
        ensure!(last < cut_ns + clock::ns(deadtime + SLACK), "answered for longer than its lease");
        watched.heal()?;
        if signal == Signal::SIGKILL {
            watched.cluster.agent_mut(holder)?.reap(LIMIT)?;
            watched.cluster.start_agent(holder)?;
        } else {
            watched.cluster.agent(holder)?.signal(Signal::SIGCONT)?;
        }
        assert_eq!(watched.wait_whole()?, survivor);
        watched.expect_turns(&[holder, survivor])?;
        Ok(())
    })
}

#[test]
fn an_agent_that_was_killed_is_cut_off_too() -> Result<()> {
    silenced_and_cut_off(Signal::SIGKILL)
}

#[test]
fn an_agent_that_was_stopped_is_cut_off_too() -> Result<()> {
    silenced_and_cut_off(Signal::SIGSTOP)
}

#[test]
fn one_link_of_two_is_enough() -> Result<()> {
    scenario(three(&[0, HEARTBEATS]), |cluster| {
        let (watched, holder) = Watched::start(cluster)?;
        let cut = Port { host: holder, bridge: HEARTBEATS };
        watched.cluster.network().cut(cut)?;
        clock::pause(watched.cluster.spec().deadtime * 4)?;
        watched.cluster.network().heal(cut)?;
        clock::pause(watched.cluster.spec().deadtime * 2)?;
        watched.expect_turns(&[holder])?;
        let silence = watched.longest_silence(watched.from_ns);
        ensure!(silence < watched.cluster.spec().deadtime, "no answer for {silence:?}");
        Ok(())
    })
}

/// The holder loses its majority: the other owner takes over with the witness.
fn the_holder_is_cut_off(rules: impl Fn(usize) -> String) -> Result<()> {
    scenario(three(&[HEARTBEATS]), |cluster| {
        let (mut watched, holder) = Watched::start(cluster)?;
        let survivor = watched.cluster.other(holder);
        let cut_ns = clock::now_ns();
        watched.filter(&rules(holder))?;
        let turn = watched.wait_turn(survivor)?;
        let gone = Duration::from_nanos(turn.first_ns - cut_ns);
        let deadtime = watched.cluster.spec().deadtime;
        ensure!(gone < deadtime * 3 + SLACK * 4, "served again after {gone:?}");
        clock::pause(Duration::from_secs(2))?;
        watched.expect_turns(&[holder, survivor])?;
        watched.heal()?;
        let owner = watched.wait_whole()?;
        assert_eq!(owner, survivor, "healing moves nothing");
        clock::pause(Duration::from_secs(1))?;
        watched.expect_turns(&[holder, survivor])?;
        Ok(())
    })
}

#[test]
fn the_holder_is_cut_off_both_ways() -> Result<()> {
    the_holder_is_cut_off(|holder| {
        let port = port(holder);
        format!("add rule bridge lab cut iifname {port} drop\nadd rule bridge lab cut oifname {port} drop\n")
    })
}

#[test]
fn the_holder_is_not_heard() -> Result<()> {
    the_holder_is_cut_off(|holder| format!("add rule bridge lab cut iifname {} drop\n", port(holder)))
}

/// It goes on sending: everybody hears it, and it hears nobody. It loses the lease and gives the group up.
#[test]
fn the_holder_is_deaf() -> Result<()> {
    the_holder_is_cut_off(|holder| format!("add rule bridge lab cut oifname {} drop\n", port(holder)))
}

/// Whoever is cut off, as long as it is not the holder, nothing moves.
fn another_is_cut_off(node: impl Fn(usize) -> usize) -> Result<()> {
    scenario(three(&[HEARTBEATS]), |cluster| {
        let (mut watched, holder) = Watched::start(cluster)?;
        let port = port(node(holder));
        for rule in [
            format!(
                "add rule bridge lab cut iifname {port} drop\nadd rule bridge lab cut oifname {port} drop\n"
            ),
            format!("add rule bridge lab cut iifname {port} drop\n"),
            format!("add rule bridge lab cut oifname {port} drop\n"),
        ] {
            watched.filter(&rule)?;
            clock::pause(watched.cluster.spec().deadtime * 4)?;
            watched.heal()?;
            assert_eq!(watched.wait_whole()?, holder);
        }
        watched.expect_turns(&[holder])?;
        let silence = watched.longest_silence(watched.from_ns);
        ensure!(silence < watched.cluster.spec().deadtime, "no answer for {silence:?}");
        Ok(())
    })
}

#[test]
fn the_other_owner_is_cut_off() -> Result<()> {
    another_is_cut_off(|holder| usize::from(holder == 0))
}

#[test]
fn the_witness_is_cut_off() -> Result<()> {
    another_is_cut_off(|_| WITNESS)
}

#[test]
fn everybody_is_alone() -> Result<()> {
    scenario(three(&[HEARTBEATS]), |cluster| {
        let (mut watched, holder) = Watched::start(cluster)?;
        let cut_ns = clock::now_ns();
        watched.filter(&format!("add rule bridge lab cut iifname {} drop\n", ports()))?;
        clock::pause(watched.cluster.spec().deadtime * 6)?;
        let turns = watched.expect_turns(&[holder])?;
        let last = turns.last().context("no turn")?.last_ns;
        let deadtime = watched.cluster.spec().deadtime;
        ensure!(last < cut_ns + clock::ns(deadtime + SLACK), "a minority of one goes on serving");
        watched.heal()?;
        let owner = watched.wait_whole()?;
        watched.wait_turn(owner)?;
        watched.expect_granted_turns()?;
        Ok(())
    })
}

/// Heartbeats are lost on their way to everybody, in the given pattern; says how much of the time somebody served.
fn lossy(pattern: &str, while_lossy: Duration) -> Result<()> {
    scenario(three(&[HEARTBEATS]), |cluster| {
        let (mut watched, _) = Watched::start(cluster)?;
        watched.filter(&format!("add rule bridge lab cut iifname {} {pattern} drop\n", ports()))?;
        let lossy_ns = clock::now_ns();
        clock::pause(while_lossy)?;
        let answered = watched.observer.answers_since(lossy_ns).len();
        let silence = watched.longest_silence(lossy_ns);
        watched.heal()?;
        let owner = watched.wait_whole()?;
        watched.wait_turn(owner)?;
        let turns = watched.expect_granted_turns()?;
        println!("{answered} answers in {while_lossy:?}, longest silence {silence:?}, {} turns", turns.len());
        ensure!(answered > 100, "hardly served: {answered} answers");
        Ok(())
    })
}

#[test]
fn a_fifth_of_all_frames_is_lost() -> Result<()> {
    lossy("numgen random mod 100 < 20", Duration::from_secs(6))
}

#[test]
fn half_of_all_frames_is_lost() -> Result<()> {
    lossy("numgen random mod 100 < 50", Duration::from_secs(8))
}

/// Of a hundred frames the first thirty are lost: about two keepalives of everybody, one after the other.
#[test]
fn frames_are_lost_in_bursts() -> Result<()> {
    lossy("numgen inc mod 100 < 30", Duration::from_secs(6))
}

#[test]
fn an_agent_that_crashes_again_and_again_serves_alone_or_not_at_all() -> Result<()> {
    scenario(three(&[0]), |cluster| {
        let (mut watched, holder) = Watched::start(cluster)?;
        for round in 0..8u32 {
            watched.cluster.agent(holder)?.kill()?;
            watched.cluster.agent_mut(holder)?.reap(LIMIT)?;
            watched.cluster.start_agent(holder)?;
            clock::pause(Duration::from_millis(u64::from(100 + 150 * (round % 4))))?;
        }
        let owner = watched.wait_whole()?;
        watched.wait_turn(owner)?;
        watched.expect_granted_turns()?;
        Ok(())
    })
}

#[test]
fn operators_move_the_group_under_load() -> Result<()> {
    scenario(three(&[0]), |cluster| {
        let (watched, mut holder) = Watched::start(cluster)?;
        let mut expected = vec![holder];
        for round in 0..6 {
            let other = watched.cluster.other(holder);
            let moved_ns = clock::now_ns();
            if round % 2 == 0 {
                watched.cluster.agent(holder)?.ask(&["standby", GROUP])?;
            } else {
                watched.cluster.agent(other)?.ask(&["takeover", "--all"])?;
            }
            watched.wait_turn(other)?;
            clock::pause(Duration::from_millis(300))?;
            let silence = watched.longest_silence(moved_ns);
            let deadtime = watched.cluster.spec().deadtime;
            ensure!(silence < deadtime, "move {round} took {silence:?}: slower than a deadtime");
            expected.push(other);
            holder = other;
        }
        watched.expect_turns(&expected)?;
        Ok(())
    })
}

#[test]
fn commands_report_what_became_of_them() -> Result<()> {
    scenario(three(&[0]), |cluster| {
        let (watched, holder) = Watched::start(cluster)?;
        let other = watched.cluster.other(holder);
        let refused = |node: usize, args: &[&str]| -> Result<String> {
            let answer = watched.cluster.agent(node)?.ask(args);
            Ok(answer.err().with_context(|| format!("{args:?} was not refused"))?.to_string())
        };
        let unknown = refused(holder, &["standby", "nothing"])?;
        ensure!(unknown.contains("there is no group nothing (there are: web)"), "{unknown}");
        let elsewhere = refused(WITNESS, &["takeover", GROUP])?;
        ensure!(elsewhere.contains("not an owner"), "{elsewhere}");
        let usage = refused(holder, &["standby"])?;
        ensure!(usage.contains("--all"), "{usage}");

        watched.cluster.agent(holder)?.ask(&["maintenance", "on"])?;
        let status = watched.cluster.agent(holder)?.status()?;
        assert_eq!(status["maintenance"], Value::Bool(true));
        clock::pause(watched.cluster.spec().deadtime * 2)?;
        watched.cluster.agent(holder)?.ask(&["maintenance", "off"])?;
        let status = watched.cluster.agent(holder)?.status()?;
        assert_eq!(status["maintenance"], Value::Bool(false));
        let group = &status["groups"][0];
        ensure!(group["lease_ms"].as_u64().is_some_and(|ms| ms > 0), "{group}");
        ensure!(group["epoch"].as_u64().is_some_and(|epoch| epoch > 0), "{group}");
        ensure!(group["votes"].as_array().is_some_and(|votes| votes.len() >= 2), "{group}");
        watched.expect_turns(&[holder])?;
        let _ = other;
        Ok(())
    })
}

/// Nothing is left of the gate after an orderly stop, and a new start finds nothing to adopt.
#[test]
fn an_orderly_stop_takes_the_gate_away() -> Result<()> {
    scenario(three(&[0]), |cluster| {
        let (watched, holder) = Watched::start(cluster)?;
        let name = watched.cluster.name(holder);
        let pins = watched.cluster.scratch().bpffs().context("no bpffs")?.join(name);
        let entries = || std::fs::read_dir(&pins).map_or(0, Iterator::count);
        assert!(entries() >= 3, "the witness: maps and links are pinned");
        watched.cluster.agent_mut(holder)?.stop(STOP)?;
        assert_eq!(entries(), 0, "pins are left");
        let links = watched.cluster.host(holder)?.ip_output(&["-d", "link", "show", "eth0"])?;
        ensure!(!links.contains("prog/xdp"), "a program is left: {links}");
        watched.cluster.start_agent(holder)?;
        clock::wait_for("the cluster to be whole", SETTLE, || Ok(watched.cluster.owner_if_whole().ok()))?;
        watched.expect_granted_turns()?;
        Ok(())
    })
}

/// Without XDP the agent withdraws the address itself, and says that this is all there is.
#[test]
fn without_xdp_the_agent_withdraws_the_address() -> Result<()> {
    scenario(Spec { xdp: Xdp::Off, ..three(&[HEARTBEATS]) }, |cluster| {
        let observer = cluster.observer()?;
        let holder = cluster.start()?;
        let watched = Watched { cluster, observer, from_ns: clock::now_ns() };
        let survivor = watched.cluster.other(holder);
        let agent = watched.cluster.agent(holder)?;
        assert_eq!(agent.status()?["gate"], "userspace");
        ensure!(agent.has_logged("the gate is in userspace only"), "not logged");
        watched.wait_turn(holder)?;
        let port = port(holder);
        watched.filter(&format!(
            "add rule bridge lab cut iifname {port} drop\nadd rule bridge lab cut oifname {port} drop\n"
        ))?;
        watched.wait_turn(survivor)?;
        clock::wait_for("the address to be withdrawn", LIMIT, || {
            Ok((watched.cluster.holders()? == [survivor]).then_some(()))
        })?;
        watched.heal()?;
        clock::pause(Duration::from_secs(1))?;
        let turns = watched.turns();
        let last = turns.last().context("no turn")?;
        ensure!(last.node == survivor, "{turns:?}");
        Ok(())
    })
}
