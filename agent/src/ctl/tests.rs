//! The control thread with a hand-made bridge: the test plays the realtime threads, and real clients ask.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use agent_common::maps::{COUNTERS, Counter, Direction};
use agent_common::{GroupId, LinkId, NodeId, Reject};
use agent_core::config::GateKind;
use agent_core::{
    Change, GroupState, GroupView, Instant, LinkState, NodeView, PeerState, ResourceRef, Snapshot, Transition,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::event::{Event, What};
use super::status::{Sources, Status};
use super::teller::{Teller, Weight};
use super::*;
use crate::bridge::{AddressChange, Command, KernelView, Keyring, Note, Process};
use crate::rt::clock;
use crate::run::Invocation;
use crate::settings::{ReceiveMode, Settings};
use crate::stats::Stats;

const CONFIG: &str = include_str!("../../../configs/two-node.toml");

struct FakeKernel;

impl KernelView for FakeKernel {
    fn counters(&self) -> [u64; COUNTERS] {
        let mut counters = [0; COUNTERS];
        counters[Reject::Digest.index()] = 7;
        counters[Counter::Accepted.index()] = 1000;
        counters
    }

    fn gate_drops(&self, place: u32, direction: Direction) -> u64 {
        u64::from(place == 0 && direction == Direction::Ingress) * 5
    }

    fn set_keys(&mut self, _keys: &Keyring) -> std::io::Result<()> {
        Ok(())
    }
}

fn settings(directory: &std::path::Path) -> Settings {
    let file = directory.join("xbeat.toml");
    let text = CONFIG.replace("\"/etc/xbeat/keys.toml\"", "\"keys.toml\"\nnode = \"alpha\"")
        + "[control]\nsocket = \"xbeat.sock\"\n[metrics]\nlisten = \"127.0.0.1:1\"\n";
    // As an agent that is told to reload reads it.
    std::fs::write(&file, &text).unwrap();
    config(&file, &text)
}

fn config(file: &std::path::Path, text: &str) -> Settings {
    crate::config::parse(&file.display().to_string(), text, "alpha").unwrap().0
}

fn snapshot() -> Snapshot {
    let beta = NodeView {
        state: PeerState::Up,
        incarnation: 5,
        counts_at: Some(clock::now()),
        deadtime: Duration::from_millis(50),
        accepted: 1000,
        ..NodeView::default()
    };
    let mut snapshot = Snapshot { incarnation: 3, quorum: true, ..Snapshot::default() };
    snapshot.nodes = vec![NodeView { state: PeerState::Up, ..NodeView::default() }, beta];
    snapshot.nodes[1].links[0].state = LinkState::Late;
    snapshot.nodes[1].links[0].loss_ppm = 25_000;
    let serving = GroupView {
        state: GroupState::Serving,
        owner: NodeId::new(0),
        epoch: 1 << 8,
        ..GroupView::default()
    };
    snapshot.groups = vec![serving];
    snapshot
}

fn eventfd() -> OwnedFd {
    EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC).unwrap().into()
}

fn raise(descriptor: &OwnedFd) {
    nix::unistd::write(descriptor, &1_u64.to_ne_bytes()).unwrap();
}

/// The realtime half's ends, and the control thread behind them.
struct Agent {
    directory: tempfile::TempDir,
    settings: Arc<Settings>,
    stats: Arc<Stats>,
    notes: rtrb::Producer<Note>,
    notes_ready: OwnedFd,
    commands: rtrb::Consumer<Command>,
    commands_ready: OwnedFd,
    ended: OwnedFd,
    wishes: mpsc::Sender<Wish>,
    thread: JoinHandle<std::io::Result<()>>,
}

fn process(directory: &std::path::Path) -> Process {
    let config = directory.join("xbeat.toml");
    Process::new(Invocation { config, socket: None, binary: "/nowhere/xbeat".into() }, Instant(1))
}

impl Agent {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let settings = Arc::new(settings(directory.path()));
        crate::keys::generate::create(&settings.key_file, agent_common::KeyId::new(1).unwrap()).unwrap();
        let stats = Arc::new(Stats::default());
        let (notes, notes_out) = rtrb::RingBuffer::new(crate::bridge::NOTES);
        let (commands_in, commands) = rtrb::RingBuffer::new(crate::bridge::COMMANDS);
        let (mut input, snapshots) = triple_buffer::TripleBuffer::new(&Snapshot::default()).split();
        input.write(snapshot());
        let (notes_ready, commands_ready, ended) = (eventfd(), eventfd(), eventfd());
        let side = ControlSide {
            settings: Arc::clone(&settings),
            stats: Arc::clone(&stats),
            snapshots,
            notes: vec![notes_out],
            notes_ready: notes_ready.try_clone().unwrap(),
            commands: commands_in,
            commands_ready: commands_ready.try_clone().unwrap(),
            kernel: Box::new(FakeKernel),
            modes: BTreeMap::from([("eth0".to_owned(), ReceiveMode::Native)]),
            interfaces: Vec::new(),
            gate: GateKind::Kernel,
            ended: ended.try_clone().unwrap(),
            process: process(directory.path()),
        };
        let (wishes, wished) = mpsc::channel(WISHES);
        let thread = std::thread::spawn(move || within_runtime(async { serve(side, wished).await }));
        let agent = Self {
            directory,
            settings,
            stats,
            notes,
            notes_ready,
            commands,
            commands_ready,
            ended,
            wishes,
            thread,
        };
        while !socket::answers(&agent.settings.control_socket) {
            assert!(!agent.thread.is_finished(), "the control thread ended");
            std::thread::yield_now();
        }
        agent
    }

    fn connect(&self) -> BufReader<UnixStream> {
        let stream = UnixStream::connect(&self.settings.control_socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        BufReader::new(stream)
    }

    fn ask(&self, request: &str) -> BufReader<UnixStream> {
        let mut stream = self.connect();
        stream.get_mut().write_all(format!("{request}\n").as_bytes()).unwrap();
        stream
    }

    fn note(&mut self, note: Note) {
        self.notes.push(note).unwrap();
        raise(&self.notes_ready);
    }

    fn next_command(&mut self) -> Command {
        let mut ready = [PollFd::new(self.commands_ready.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut ready, PollTimeout::from(30_000_u16)).unwrap(), 1, "no command came");
        nix::unistd::read(&self.commands_ready, &mut [0; 8]).unwrap();
        self.commands.pop().unwrap()
    }

    fn end(self) {
        raise(&self.ended);
        self.thread.join().unwrap().unwrap();
        assert!(!self.settings.control_socket.exists());
        drop(self.directory);
    }
}

fn line(stream: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    line
}

fn address_note(t_ns: u64) -> Note {
    let resource = ResourceRef { group: GroupId::new(0).unwrap(), index: 0 };
    Note::Address { at: Instant(t_ns), resource, done: AddressChange::Added }
}

#[test]
fn status_is_the_interface() {
    let agent = Agent::start();
    let answer = line(&mut agent.ask(r#"{"command":"status"}"#));
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let status = &answer["status"];
    assert_eq!(status["node"], "alpha");
    assert_eq!(status["cluster"], "web");
    assert_eq!(status["quorum"], true);
    assert_eq!(status["gate"], "kernel");
    assert_eq!(status["xdp"]["eth0"], "native");
    let nodes = status["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 2);
    assert_eq!((&nodes[0]["name"], &nodes[0]["state"]), (&"alpha".into(), &"up".into()));
    assert_eq!(nodes[0]["last_heard_ms"], 0);
    assert_eq!(nodes[0]["incarnation"], 3);
    assert_eq!(nodes[1]["state"], "up");
    assert_eq!(nodes[1]["witness"], false);
    assert_eq!(nodes[1]["incarnation"], 5);
    assert!(nodes[1]["last_heard_ms"].is_u64());
    let link = &nodes[1]["links"][0];
    assert_eq!((&link["link"], &link["state"]), (&"ucast:eth0".into(), &"late".into()));
    assert_eq!(link["loss"], 0.025);
    assert!(link["rtt_us"].is_null());
    let group = &status["groups"][0];
    assert_eq!(
        (&group["name"], &group["state"], &group["owner"]),
        (&"web".into(), &"serving".into(), &"alpha".into())
    );
    assert_eq!(group["epoch"], 256);
    assert!(group["lease_ms"].is_null());
    assert_eq!(status["rejected"]["digest"], 7);
    agent.end();
}

#[test]
fn events_are_remembered_and_followed() {
    let mut agent = Agent::start();
    agent.note(address_note(42));
    let mut follower = agent.ask(r#"{"command":"events","follow":true}"#);
    assert!(line(&mut follower).contains("events"));
    assert!(line(&mut follower).contains("\"started\""));
    assert_eq!(
        line(&mut follower),
        "{\"t_ns\":42,\"event\":\"address\",\"address\":\"10.0.0.100\",\"to\":\"added\",\"group\":\"web\"}\n"
    );
    agent.note(address_note(43));
    assert!(line(&mut follower).starts_with("{\"t_ns\":43,"));
    let mut past = agent.ask(r#"{"command":"events","lines":1}"#);
    assert!(line(&mut past).contains("events"));
    assert!(line(&mut past).starts_with("{\"t_ns\":43,"));
    assert_eq!(line(&mut past), "");
    agent.end();
    assert!(line(&mut follower).contains("\"ended\""));
    assert_eq!(line(&mut follower), "");
}

#[test]
fn events_of_one_wakeup_are_told_in_order() {
    let mut agent = Agent::start();
    for t_ns in [52, 50, 51] {
        agent.notes.push(address_note(t_ns)).unwrap();
    }
    let mut follower = agent.ask(r#"{"command":"events","follow":true,"lines":0}"#);
    assert!(line(&mut follower).contains("events"));
    raise(&agent.notes_ready);
    for t_ns in [50, 51, 52] {
        assert!(line(&mut follower).starts_with(&format!("{{\"t_ns\":{t_ns},")));
    }
    agent.end();
}

#[test]
fn what_is_no_request_is_refused_and_the_next_is_served() {
    let agent = Agent::start();
    for request in ["", "status", "{\"command\":\"halt\"}", "{}", &"x".repeat(100_000)] {
        let mut stream = agent.connect();
        // The agent may stop reading an endless request before its end.
        let _ = stream.get_mut().write_all(format!("{request}\n").as_bytes());
        let mut answer = String::new();
        let _ = stream.read_line(&mut answer);
        assert!(answer.is_empty() || answer.contains("refused"), "{request:.20}: {answer}");
        assert!(!answer.is_empty() || request.len() > 4096, "{request:.20} got no answer");
    }
    // A request without an end is refused at its limit, not when patience ends.
    let mut endless = agent.connect();
    endless.get_mut().write_all(&[b'x'; 5000]).unwrap();
    assert!(line(&mut endless).contains("refused"));
    assert!(line(&mut agent.ask(r#"{"command":"status"}"#)).contains("alpha"));
    agent.end();
}

#[test]
fn wishes_leave_and_reload() {
    let mut agent = Agent::start();
    let mut follower = agent.ask(r#"{"command":"events","follow":true,"lines":0}"#);
    assert!(line(&mut follower).contains("events"));

    agent.wishes.blocking_send(Wish::Reload).unwrap();
    assert!(matches!(agent.next_command(), Command::Keys(ring) if ring.sign_with.raw() == 1));
    assert!(line(&mut follower).contains("\"reloaded\""));

    std::fs::write(&agent.settings.key_file, "sign_with = 9\n").unwrap();
    agent.wishes.blocking_send(Wish::Reload).unwrap();
    let refused = line(&mut follower);
    assert!(refused.contains("\"refused\"") && refused.contains("no [[key]]"), "{refused}");
    assert!(agent.commands.pop().is_err(), "bad keys were handed on");

    let file = agent.directory.path().join("xbeat.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("name = \"web\"\nkey_file", "name = \"shop\"\nkey_file")).unwrap();
    for wish in [Wish::Reload, Wish::Restart] {
        agent.wishes.blocking_send(wish).unwrap();
        let refused = line(&mut follower);
        assert!(refused.contains("\"configuration\"") && refused.contains("stop every node"), "{refused}");
    }
    assert!(agent.commands.pop().is_err(), "nothing was begun");

    agent.wishes.blocking_send(Wish::Leave).unwrap();
    assert!(matches!(agent.next_command(), Command::Leave));
    assert!(line(&mut follower).contains("\"leaving\""));
    assert!(!agent.thread.is_finished());
    agent.end();
}

#[test]
fn a_flood_of_notes_is_bounded_and_told() {
    let mut agent = Agent::start();
    for t_ns in 0..10_000 {
        if agent.notes.push(address_note(t_ns)).is_err() {
            agent.stats.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
    raise(&agent.notes_ready);
    let mut past = agent.ask(r#"{"command":"events"}"#);
    let mut text = String::new();
    past.read_to_string(&mut text).unwrap();
    assert!(text.lines().count() <= 1 + followers::HISTORY);
    assert!(agent.stats.dropped.load(Ordering::Relaxed) > 0, "nothing was dropped: the flood is too small");
    assert!(text.contains("\"dropped\":"), "{}", text.lines().last().unwrap_or_default());
    agent.end();
}

fn rendered() -> (String, Settings) {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path());
    let stats = Stats::default();
    stats.lateness.record(Duration::from_micros(150));
    stats.lateness.record(Duration::from_secs(9));
    stats.sent[0].store(12, Ordering::Relaxed);
    stats.scheduling.store(2, Ordering::Relaxed);
    stats.socket[Reject::Digest.index()].store(3, Ordering::Relaxed);
    let modes = BTreeMap::from([("eth0".to_owned(), ReceiveMode::Generic)]);
    let snapshot = snapshot();
    let now = clock::now();
    let sources = Sources {
        settings: &settings,
        stats: &stats,
        kernel: &FakeKernel,
        modes: &modes,
        interfaces: &[],
        gate: GateKind::Kernel,
        process: &process(directory.path()),
        snapshot: &snapshot,
        now,
    };
    (metrics::render(&sources), settings)
}

#[test]
fn metrics_are_open_metrics() {
    let (text, _) = rendered();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut types: BTreeMap<String, String> = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for line in text.lines().take_while(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# ") {
            let words: Vec<&str> = rest.splitn(3, ' ').collect();
            assert!(matches!(words[0], "HELP" | "TYPE"), "{line}");
            if words[0] == "TYPE" {
                assert!(
                    types.insert(words[1].to_owned(), words[2].to_owned()).is_none(),
                    "{line} is there twice"
                );
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        value.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
        assert!(seen.insert(series.to_owned()), "{series} is there twice");
        let name = series.split('{').next().unwrap();
        let known = types.iter().any(|(family, kind)| match kind.as_str() {
            "counter" => name.strip_suffix("_total") == Some(family),
            "histogram" => {
                ["_sum", "_count", "_bucket"].iter().any(|end| name.strip_suffix(end) == Some(family))
            }
            _ => name == family,
        });
        assert!(known, "{line} has no type");
        if let Some(labels) = series.strip_prefix(name).filter(|labels| !labels.is_empty()) {
            assert!(labels.starts_with('{') && labels.ends_with("\"}"), "{line}");
        }
    }
}

#[test]
fn metrics_show_every_reason_and_state() {
    let (text, _) = rendered();
    for reason in Reject::ALL {
        let series = format!("xbeat_heartbeats_rejected_total{{reason=\"{}\"}} ", reason.label());
        assert_eq!(text.matches(&series).count(), 1, "{series}");
    }
    for line in [
        // Kernel and socket path together.
        "xbeat_heartbeats_rejected_total{reason=\"digest\"} 10",
        "xbeat_heartbeats_sent_total{link=\"ucast:eth0\"} 12",
        "xbeat_heartbeats_received_total 1000",
        "xbeat_peer_state{peer=\"beta\",state=\"up\"} 1.0",
        "xbeat_peer_state{peer=\"beta\",state=\"dead\"} 0.0",
        "xbeat_link_state{peer=\"beta\",link=\"ucast:eth0\",state=\"late\"} 1.0",
        "xbeat_link_loss_ratio{peer=\"beta\",link=\"ucast:eth0\"} 0.025",
        "xbeat_group_owner{group=\"web\",owner=\"alpha\"} 1.0",
        "xbeat_group_state{group=\"web\",state=\"serving\"} 1.0",
        "xbeat_receive_mode{interface=\"eth0\",mode=\"generic\"} 1.0",
        "xbeat_scheduling{class=\"deadline\"} 1.0",
        "xbeat_quorum 1.0",
        "xbeat_wakeup_lateness_seconds_count 2",
        "xbeat_wakeup_lateness_seconds_bucket{le=\"0.0002\"} 1",
        "xbeat_wakeup_lateness_seconds_bucket{le=\"1.0\"} 1",
        "xbeat_wakeup_lateness_seconds_bucket{le=\"+Inf\"} 2",
        "xbeat_takeover_duration_seconds_count{stage=\"announce\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("peer=\"alpha\""), "a node is no peer of itself");
}

#[test]
fn metrics_are_served_and_others_are_turned_away() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asks, mut asked) = mpsc::channel(1);
        tokio::spawn(http::serve(listener, asks));
        tokio::spawn(async move {
            while let Some(ask) = asked.recv().await {
                match ask {
                    hub::Ask::Metrics(reply) => reply.send("# EOF\n".to_owned()).unwrap(),
                    hub::Ask::Status(_)
                    | hub::Ask::Events { .. }
                    | hub::Ask::ChangeOver { .. }
                    | hub::Ask::Join { .. }
                    | hub::Ask::Operate { .. } => panic!("not asked for"),
                }
            }
        });
        for (request, expected) in [
            (
                "GET /metrics HTTP/1.1\r\n\r\n",
                "HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text",
            ),
            ("GET /secret HTTP/1.1\r\n\r\n", "HTTP/1.1 404 "),
            ("PUT /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 405 "),
            ("nonsense\r\n\r\n", "HTTP/1.1 400 "),
            (&"x".repeat(9000), "HTTP/1.1 400 "),
        ] {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let _ = stream.write_all(request.as_bytes()).await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.starts_with(expected), "{request:.20}: {answer}");
        }
    });
}

#[test]
fn every_change_is_an_event_of_the_interface() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path());
    let mut teller = Teller::new(&settings);
    let (beta, web, link) = (NodeId::new(1).unwrap(), GroupId::new(0).unwrap(), LinkId::new(0).unwrap());
    let resource = ResourceRef { group: web, index: 0 };
    let silent = Duration::from_micros(51_234);
    let deadtime = Duration::from_millis(50);
    let mut tell = |what| {
        let event = teller.tell(&Note::Transition(Transition { at: Instant(9), what })).remove(0);
        let json = event.to_json();
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
        assert!(!event.to_text().contains('\n'));
        json
    };
    assert_eq!(
        tell(Change::Peer { peer: beta, from: PeerState::Late, to: PeerState::Dead, silent, deadtime }),
        "{\"t_ns\":9,\"event\":\"peer\",\"peer\":\"beta\",\"from\":\"late\",\"to\":\"dead\",\"silent_ms\":51,\
         \"silent_us\":51234,\"deadtime_ms\":50}"
    );
    let restarted = tell(Change::Restarted { peer: beta, incarnation: 6 });
    assert!(
        restarted.contains("\"from\":\"dead\",\"to\":\"dead\"") && restarted.contains("\"incarnation\":6")
    );
    assert_eq!(
        tell(Change::Link { peer: beta, link, from: LinkState::Up, to: LinkState::Dead }),
        "{\"t_ns\":9,\"event\":\"link\",\"peer\":\"beta\",\"link\":\"ucast:eth0\",\"from\":\"up\",\"to\":\"dead\"}"
    );
    let (from, to) = (GroupState::Stopped, GroupState::Starting);
    assert_eq!(
        tell(Change::Group { group: web, from, to, owner: Some(beta), epoch: 7 }),
        "{\"t_ns\":9,\"event\":\"group\",\"group\":\"web\",\"from\":\"stopped\",\"to\":\"starting\",\
         \"owner\":\"beta\",\"epoch\":7}"
    );
    assert!(tell(Change::Group { group: web, from, to, owner: None, epoch: 0 }).contains("\"owner\":null"));
    let failure = agent_core::Failure::Refused(libc::EPERM);
    assert!(tell(Change::Failed { resource, failure, attempts: 2 }).contains("\"to\":\"failed\""));
    assert!(tell(Change::Vanished { resource }).contains("\"to\":\"vanished\""));
    assert_eq!(tell(Change::Quorum { have: false }), "{\"t_ns\":9,\"event\":\"self\",\"quorum\":false}");
    assert_eq!(tell(Change::Late { by: silent }), "{\"t_ns\":9,\"event\":\"self\",\"lateness_us\":51234}");
    assert_eq!(Event { t_ns: 1, what: What::own("ended") }.to_text(), "agent: ended");
}

#[test]
fn a_planned_leave_wakes_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path());
    let mut teller = Teller::new(&settings);
    let (peer, link) = (NodeId::new(1).unwrap(), LinkId::new(0).unwrap());
    let (silent, deadtime) = (Duration::ZERO, Duration::ZERO);
    let mut weigh = |what| {
        let event = teller.tell(&Note::Transition(Transition { at: Instant(1), what })).remove(0);
        teller.weight(&event)
    };
    let change = |from, to| Change::Peer { peer, from, to, silent, deadtime };
    let cut = Change::Link { peer, link, from: LinkState::Late, to: LinkState::Dead };
    assert_eq!(weigh(change(PeerState::Unknown, PeerState::Up)), Weight::Info);
    assert_eq!(weigh(cut), Weight::Warn);
    assert_eq!(weigh(change(PeerState::Late, PeerState::Dead)), Weight::Warn);
    assert_eq!(weigh(Change::Restarted { peer, incarnation: 2 }), Weight::Info);
    assert_eq!(weigh(change(PeerState::Dead, PeerState::Leaving)), Weight::Info);
    assert_eq!(weigh(cut), Weight::Info);
    assert_eq!(weigh(change(PeerState::Leaving, PeerState::Dead)), Weight::Info);
    assert_eq!(weigh(Change::Quorum { have: false }), Weight::Warn);
}

#[test]
fn a_status_before_the_first_snapshot_shows_every_node() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path());
    let (stats, modes, snapshot) = (Stats::default(), BTreeMap::new(), Snapshot::default());
    let kernel = FakeKernel;
    let sources = Sources {
        settings: &settings,
        stats: &stats,
        kernel: &kernel,
        modes: &modes,
        interfaces: &[],
        gate: GateKind::Kernel,
        process: &process(directory.path()),
        snapshot: &snapshot,
        now: Instant(5),
    };
    let status = Status::of(&sources);
    assert_eq!(status.nodes.len(), 2);
    assert_eq!(status.nodes[1].state, "unknown");
    assert_eq!(status.nodes[1].last_heard_ms, None);
    assert_eq!(status.groups[0].owner, None);
}

#[test]
fn a_command_waits_for_what_becomes_of_it() {
    use agent_core::{Answer, Operator, Refusal};

    let mut agent = Agent::start();
    let web = GroupId::new(0);
    let cases = [
        (r#"{"command":"standby","group":"web"}"#, Operator::Standby(web), Answer::Done),
        (r#"{"command":"takeover"}"#, Operator::Takeover(None), Answer::Refused(Refusal::NoQuorum)),
        (r#"{"command":"maintenance","on":true}"#, Operator::Maintenance(true), Answer::Done),
    ];
    for (request, wanted, answer) in cases {
        let mut client = agent.ask(request);
        let Command::Operate { ticket, what } = agent.next_command() else { panic!("another command") };
        assert_eq!(what, wanted);
        // Somebody else's answer is not for this client.
        agent.note(Note::Answer { at: Instant(1), ticket: ticket + 1, answer: Answer::Done });
        agent.note(Note::Answer { at: Instant(2), ticket, answer });
        let said = line(&mut client);
        match answer {
            Answer::Done => assert_eq!(said, "{\"answer\":\"done\"}\n", "{request}"),
            Answer::Refused(refusal) => assert!(said.contains(refusal.text()), "{request}: {said}"),
        }
    }
    let unknown = line(&mut agent.ask(r#"{"command":"standby","group":"mail"}"#));
    assert!(unknown.contains("there is no group mail (there are: web)"), "{unknown}");
    assert!(agent.commands.pop().is_err(), "it was handed on");
    agent.end();
}

#[test]
fn leases_gates_and_votes_are_told_in_plain_words() {
    use agent_core::GateBy;
    use agent_core::snapshot::LeaseReason;

    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path());
    let mut teller = Teller::new(&settings);
    let (beta, group) = (NodeId::new(1).unwrap(), GroupId::new(0).unwrap());
    let mut tell = |what| {
        let events = teller.tell(&Note::Transition(Transition { at: Instant(3), what }));
        let told = events.first().map(|event| (event.to_json(), event.to_text(), teller.weight(event)));
        (events.len(), told.unwrap())
    };
    let (_, (json, text, weight)) = tell(Change::Lease { group, held: true, reason: LeaseReason::Majority });
    assert!(
        json.starts_with("{\"t_ns\":3,\"event\":\"lease\",\"group\":\"web\",\"to\":\"held\",\"reason\":")
    );
    assert_eq!(text, "lease of web: held: a majority promised its votes");
    assert_eq!(weight, Weight::Info);
    let (_, (_, _, weight)) = tell(Change::Lease { group, held: false, reason: LeaseReason::Expired });
    assert_eq!(weight, Weight::Warn);
    let (_, (_, _, weight)) = tell(Change::Lease { group, held: false, reason: LeaseReason::Standby });
    assert_eq!(weight, Weight::Info, "it was wanted");
    let (events, (json, text, weight)) = tell(Change::Gate { group, open: false, by: GateBy::Kernel });
    assert_eq!(events, settings.groups[0].addresses.len(), "one for each address");
    assert!(
        json.starts_with(
            "{\"t_ns\":3,\"event\":\"gate\",\"address\":\"10.0.0.100\",\"to\":\"closed\",\"by\":\"kernel\""
        ),
        "{json}"
    );
    assert_eq!(text, "gate of 10.0.0.100 (web): closed by the kernel");
    assert_eq!(weight, Weight::Warn);
    let (_, (json, _, _)) = tell(Change::Vote { group, epoch: 9, candidate: Some(beta) });
    assert_eq!(json, "{\"t_ns\":3,\"event\":\"vote\",\"group\":\"web\",\"epoch\":9,\"candidate\":\"beta\"}");
    let fenced = teller.tell(&Note::SelfFenced { at: Instant(4), group });
    assert_eq!(teller.weight(&fenced[0]), Weight::Warn);
    assert!(fenced[0].to_text().contains("stop this node"), "{}", fenced[0].to_text());
}

#[test]
fn what_gates_dropped_is_in_status_and_metrics() {
    let (text, _) = rendered();
    let line = "xbeat_gate_dropped_total{address=\"10.0.0.100\",direction=\"ingress\"} 5";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("xbeat_gate_kernel 1"), "{text}");
    let agent = Agent::start();
    let answer = line_of_status(&agent);
    assert_eq!(answer["status"]["gate_drops"][0]["ingress"], 5);
    agent.end();
}

fn line_of_status(agent: &Agent) -> serde_json::Value {
    serde_json::from_str(&line(&mut agent.ask(r#"{"command":"status"}"#))).unwrap()
}
