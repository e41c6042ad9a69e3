//! A process that takes this one's place: judged first, then paused for. The new binary reads the configuration itself and
//! says whether it could go on from here; only then do the peers hear of a longer deadtime.
//!
//! ```text
//! asked ─▶ read and compared ─▶ judged by the new binary ─▶ pausing ─▶ this process ends
//!              │ refused             │ refused                 │ nobody acknowledges it
//!              └─────────────────────┴─────────────────────────┴─▶ all goes on as before
//! ```

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use agent_core::config::GateKind;
use agent_core::{Answer, GroupState, Refusal};
use tokio::process::Command as Program;
use tokio::sync::oneshot;

use super::super::event::What;
use super::super::teller::Weight;
use super::Hub;
use crate::bridge::{Command, Process, Purpose};
use crate::carry::{self, Shape, changes};
use crate::config::Look;
use crate::gate::pins;
use crate::run::{self, Invocation};
use crate::settings::Settings;

/// How long the new binary may take to judge.
const JUDGING: Duration = Duration::from_secs(10);
/// Longest part of what it says that is passed on.
const SAID_MAX: usize = 2_000;

/// What somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ctl) enum Wanted {
    /// The binary on disk, whatever is configured.
    Restart,
    /// What is configured; a new process only if something needs it.
    Reload,
}

/// What it came to, as far as this process can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ctl) enum Outcome {
    /// The keys were read again; nothing else has changed.
    Keys,
    /// A new process comes.
    Replacing(Coming),
}

/// The process that comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ctl) struct Coming {
    /// Where it will answer.
    pub(in crate::ctl) socket: PathBuf,
    /// The parts of the configuration that change.
    pub(in crate::ctl) parts: Vec<&'static str>,
    /// When this process was started, to tell it from that one.
    pub(in crate::ctl) started_ns: u64,
    /// How many restarts this one has given up.
    pub(in crate::ctl) failures: u64,
}

impl Coming {
    fn after(process: &Process, socket: PathBuf, parts: Vec<&'static str>) -> Self {
        Self { socket, parts, started_ns: process.started_at.0, failures: process.failures }
    }
}

/// Who is told; nobody for a signal.
pub(in crate::ctl) type Reply = Option<oneshot::Sender<Result<Outcome, String>>>;

/// A changeover under way: one at a time.
#[derive(Debug)]
pub(in crate::ctl) enum UnderWay {
    /// The new binary judges.
    Judged { coming: Coming, reply: Reply },
    /// The peers are told.
    Pausing { ticket: u32, coming: Coming, reply: Reply },
    /// The same, for a stop in maintenance; leaving in order comes next if it fails.
    Stopping { ticket: u32 },
}

/// What the file says now, if a running node can take it up.
#[derive(Debug)]
pub(in crate::ctl) enum Reading {
    /// Nothing has changed.
    Same,
    /// Something has that a new process takes up.
    Other(Coming),
}

/// Reads the file and compares. `serves` tells whether this node serves the group at a place.
///
/// # Errors
/// Everything that is wrong with it, or that cannot be taken up.
pub(in crate::ctl) fn read(
    settings: &Settings,
    process: &Process,
    serves: impl Fn(usize) -> bool,
) -> Result<Reading, String> {
    let (new, _) =
        process.invocation.settings().map_err(|errors| errors.render(Look::Plain).trim_end().to_owned())?;
    let refused = changes::refused(&Shape::of(settings), &Shape::of(&new), serves);
    if !refused.is_empty() {
        return Err(refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }
    if new == *settings {
        return Ok(Reading::Same);
    }
    let parts = changes::parts(settings, &new);
    Ok(Reading::Other(Coming::after(process, new.control_socket, parts)))
}

/// Asks the binary on disk whether it can go on from here.
///
/// # Errors
/// It cannot, for what it says.
pub(in crate::ctl) async fn judge(
    settings: Arc<Settings>,
    invocation: Arc<Invocation>,
) -> Result<(), String> {
    let program = run::program(&invocation);
    let layout = pins::complete(&settings.runtime.bpffs);
    let mut command = Program::new(&program);
    command.arg("check").arg("--config").arg(&invocation.config).args(["--resumes", &carry::terms(layout)]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let shown = program.display();
    let output = match tokio::time::timeout(JUDGING, command.output()).await {
        Ok(output) => output.map_err(|error| format!("{shown} cannot be run: {error}"))?,
        Err(_) => {
            return Err(format!("{shown} has not judged the configuration within {} s", JUDGING.as_secs()));
        }
    };
    if output.status.success() {
        return Ok(());
    }
    let streams = [output.stderr, output.stdout].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let said = streams.iter().map(|text| text.trim()).find(|text| !text.is_empty()).unwrap_or_default();
    let said: String = said.chars().take(SAID_MAX).collect();
    Err(format!("{shown} cannot take over ({}): {said}", output.status))
}

impl UnderWay {
    /// Whether it is the pause of this ticket.
    pub(in crate::ctl) fn is_pause(&self, of: u32) -> bool {
        match self {
            Self::Judged { .. } => false,
            Self::Pausing { ticket, .. } | Self::Stopping { ticket } => *ticket == of,
        }
    }
}

impl Hub {
    /// Begins what somebody asks for; the reply says what it came to.
    pub(in crate::ctl) fn change_over(&mut self, wanted: Wanted, reply: Reply) {
        match self.prepare(wanted) {
            Ok(Reading::Same) => {
                let result = self.reload_keys().map(|()| Outcome::Keys);
                tell(reply, result);
            }
            Ok(Reading::Other(coming)) => {
                let (settings, invocation) =
                    (Arc::clone(&self.settings), Arc::clone(&self.side.process.invocation));
                let judged = self.judged_in.clone();
                tokio::spawn(async move {
                    let verdict = judge(settings, invocation).await;
                    // Without a hub there is nobody to pause.
                    let _ = judged.send(verdict).await;
                });
                self.under_way = Some(UnderWay::Judged { coming, reply });
            }
            Err(error) => self.refuse(error, reply),
        }
    }

    fn prepare(&mut self, wanted: Wanted) -> Result<Reading, String> {
        if self.leaving {
            return Err("this node is on its way out".to_owned());
        }
        if self.under_way.is_some() {
            return Err("a restart is under way already".to_owned());
        }
        let snapshot = self.side.snapshots.read();
        let serves = |place: usize| {
            snapshot
                .groups
                .get(place)
                .is_some_and(|group| group.state != GroupState::Stopped || group.lease.is_some())
        };
        let reading = read(&self.settings, &self.side.process, serves)?;
        Ok(match (reading, wanted) {
            (Reading::Same, Wanted::Restart) => {
                let socket = self.settings.control_socket.clone();
                Reading::Other(Coming::after(&self.side.process, socket, Vec::new()))
            }
            (reading, Wanted::Restart | Wanted::Reload) => reading,
        })
    }

    /// The binary on disk has judged.
    pub(in crate::ctl) fn judged(&mut self, verdict: Result<(), String>) {
        let Some(UnderWay::Judged { coming, reply }) = self.under_way.take() else { return };
        if let Err(error) = verdict {
            return self.refuse(error, reply);
        }
        let ticket = self.waiting.ticket();
        if self.command(Command::Pause { ticket, purpose: Purpose::Restart }) {
            self.under_way = Some(UnderWay::Pausing { ticket, coming, reply });
        } else {
            self.refuse("the realtime thread does not read its commands".to_owned(), reply);
        }
    }

    /// What became of the pause that is under way.
    pub(in crate::ctl) fn paused(&mut self, answer: Answer) {
        match (self.under_way.take(), result(answer)) {
            (Some(UnderWay::Pausing { coming, reply, .. }), Ok(())) => {
                if !coming.parts.is_empty() {
                    let to = format!("taken up by a restart: {}", coming.parts.join(", "));
                    self.tell(What::config("configuration", &to, None), Weight::Info);
                }
                self.tell(What::own("restarting"), Weight::Info);
                tell(reply, Ok(Outcome::Replacing(coming)));
            }
            (Some(UnderWay::Pausing { reply, .. }), Err(error)) => self.refuse(error, reply),
            (Some(UnderWay::Stopping { .. }), Ok(())) => self.tell(What::own("stopping"), Weight::Info),
            (Some(UnderWay::Stopping { .. }), Err(error)) => {
                tracing::warn!("{error}; so this node leaves in order");
                self.leave_in_order();
            }
            (Some(UnderWay::Judged { .. }) | None, _) => {}
        }
    }

    /// In maintenance, behind a gate in the kernel, an agent may stop for as long as the peers bear it, and what it serves
    /// goes on being served. Whether that is being tried now.
    pub(in crate::ctl) fn stop_in_maintenance(&mut self) -> bool {
        let in_maintenance = self.side.snapshots.read().maintenance;
        let is_kept =
            self.side.gate == GateKind::Kernel && pins::complete(&self.settings.runtime.bpffs).is_some();
        if !in_maintenance || !is_kept || self.under_way.is_some() {
            return false;
        }
        let ticket = self.waiting.ticket();
        let taken = self.command(Command::Pause { ticket, purpose: Purpose::Stop });
        if taken {
            self.under_way = Some(UnderWay::Stopping { ticket });
        }
        taken
    }

    fn refuse(&mut self, error: String, reply: Reply) {
        let reasons = error.replace('\n', "; ");
        self.tell(What::config("configuration", "refused", Some(reasons)), Weight::Warn);
        tell(reply, Err(error));
    }
}

fn tell(reply: Reply, result: Result<Outcome, String>) {
    if let Some(reply) = reply {
        // A client that has gone needs no answer.
        let _ = reply.send(result);
    }
}

/// What became of a pause, in the operator's words.
///
/// # Errors
/// It was given up.
pub(in crate::ctl) fn result(answer: Answer) -> Result<(), String> {
    match answer {
        Answer::Done => Ok(()),
        Answer::Refused(Refusal::TimedOut) => Err(
            "no majority of the nodes has acknowledged the longer deadtime, so a pause would not be borne: \
             try again when the peers are there, or stop the agent and start it"
                .to_owned(),
        ),
        Answer::Refused(refusal) => Err(refusal.text().to_owned()),
    }
}
