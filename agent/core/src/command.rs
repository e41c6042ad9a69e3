//! The operator's commands: each is carried out by the groups' claims, and answered when its result is there.

use core::time::Duration;

use agent_common::GroupId;

use crate::action::Action;
use crate::answer::{Answer, Refusal};
use crate::group::Phase;
use crate::groups::{Entry, Groups};
use crate::lease::Leases;
use crate::life::Life;
use crate::peer::Peer;
use crate::queue::Actions;
use crate::time::Instant;

/// A command that has not had its effect after this is given up.
pub(crate) const COMMAND_MAX: Duration = Duration::from_secs(10);
/// Commands that wait for their effect at one time; one more takes the place of the oldest.
pub(crate) const PENDING_MAX: usize = 8;

/// What a waiting command waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Another holds each of the groups.
    Standby,
    /// Each of the groups is served here.
    Takeover,
    /// The longest deadtime is announced and borne.
    Pause,
    /// This node has said that it goes.
    Leave,
}

/// A command whose effect is not there yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    ticket: u32,
    wait: Wait,
    /// Bit for each group that it is about.
    groups: u64,
    until: Instant,
}

/// What commands are judged by.
#[derive(Clone, Copy)]
pub(crate) struct Setting<'a> {
    /// The peers.
    pub(crate) peers: &'a [Peer],
    /// Heartbeats and promises.
    pub(crate) leases: &'a Leases,
    /// Where this node is in its life.
    pub(crate) life: Life,
    /// Whether decisions are suspended.
    pub(crate) maintenance: bool,
    /// The round's time.
    pub(crate) now: Instant,
}

/// The commands that wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commands {
    pending: [Option<Pending>; PENDING_MAX],
    /// A majority bears a pause that begins now.
    pub(crate) is_paused: bool,
}

impl Commands {
    /// Hands `group` (or all that this node serves) over.
    pub(crate) fn standby(
        &mut self,
        ticket: u32,
        group: Option<GroupId>,
        groups: &mut Groups,
        setting: Setting<'_>,
        out: &mut Actions,
    ) {
        let answer = chosen(group, groups, setting, |entry| match (group, entry.tenure.lease()) {
            (Some(_), None) => Err(Refusal::NotServing),
            (Some(_), Some(_)) if entry.facts.eligible.is_empty() => Err(Refusal::NobodyElse),
            (None, Some(_)) => Ok(!entry.facts.eligible.is_empty()),
            (Some(_), Some(_)) | (None, None) => Ok(true),
        });
        let (about, held) = match answer {
            Err(refusal) => return refuse(ticket, refusal, out),
            Ok(about) => (about, groups.mask(|entry| entry.tenure.lease().is_some())),
        };
        if about == 0 {
            return refuse(ticket, Refusal::NobodyElse, out);
        }
        self.supersede(about, out);
        groups.each(about, |entry| (entry.tenure.standby, entry.tenure.takeover) = (true, false));
        self.wait(ticket, Wait::Standby, about & held, setting.now, out);
    }

    /// Takes `group` (or all that this node may own) from its holder.
    pub(crate) fn takeover(
        &mut self,
        ticket: u32,
        group: Option<GroupId>,
        groups: &mut Groups,
        setting: Setting<'_>,
        out: &mut Actions,
    ) {
        let is_alone = setting.leases.two_node().is_some();
        if setting.life == Life::Joining {
            return refuse(ticket, Refusal::Joining, out);
        }
        if !is_alone && !setting.leases.is_heard(setting.now) {
            return refuse(ticket, Refusal::NoQuorum, out);
        }
        let about = match chosen(group, groups, setting, |_| Ok(true)) {
            Err(refusal) => return refuse(ticket, refusal, out),
            Ok(0) => return refuse(ticket, Refusal::NotAnOwner, out),
            Ok(about) => about,
        };
        self.supersede(about, out);
        groups.each(about, |entry| {
            (entry.tenure.standby, entry.tenure.takeover) = (false, true);
            entry.group.retry();
        });
        self.wait(ticket, Wait::Takeover, about, setting.now, out);
    }

    /// Waits until the longest deadtime is borne; true when it must be announced. One pause takes the place of another that
    /// waits; where one stands already there is nothing to wait for.
    pub(crate) fn pause(&mut self, ticket: u32, setting: Setting<'_>, out: &mut Actions) -> bool {
        let has_tie_break = setting.leases.two_node().is_some();
        let refusal = match setting.life {
            Life::Joining => Some(Refusal::Joining),
            Life::Yielding { .. } | Life::Telling { .. } | Life::Gone => Some(Refusal::Leaving),
            Life::Up if !has_tie_break && !setting.leases.is_heard(setting.now) => Some(Refusal::NoQuorum),
            Life::Up => None,
        };
        if let Some(refusal) = refusal {
            refuse(ticket, refusal, out);
            return false;
        }
        if self.is_paused {
            out.push(Action::Answer { ticket, answer: Answer::Done });
            return false;
        }
        self.supersede_pauses(out);
        self.wait(ticket, Wait::Pause, 0, setting.now, out);
        true
    }

    /// Whether a pause waits or stands.
    pub(crate) fn wants_pause(&self) -> bool {
        self.is_paused || self.pending.iter().flatten().any(|pending| pending.wait == Wait::Pause)
    }

    /// No pause is wanted any more.
    pub(crate) fn take_back_pause(&mut self, out: &mut Actions) {
        self.is_paused = false;
        self.supersede_pauses(out);
    }

    /// Waits for the end.
    pub(crate) fn leave(&mut self, ticket: u32, now: Instant, out: &mut Actions) {
        self.supersede(u64::MAX, out);
        self.wait(ticket, Wait::Leave, 0, now, out);
    }

    /// Answers what has had its effect, or will not. True when a pause was given up.
    pub(crate) fn review(&mut self, groups: &mut Groups, setting: Setting<'_>, out: &mut Actions) -> bool {
        let mut gave_up_pause = false;
        for slot in &mut self.pending {
            let Some(pending) = *slot else { continue };
            let Some(answer) = pending.result(groups, setting) else { continue };
            *slot = None;
            match pending.wait {
                Wait::Pause => {
                    self.is_paused = answer == Answer::Done;
                    gave_up_pause = !self.is_paused;
                }
                Wait::Takeover => groups.each(pending.groups, |entry| entry.tenure.takeover = false),
                Wait::Standby if answer != Answer::Done => {
                    groups.each(pending.groups, |entry| entry.tenure.standby = false);
                }
                Wait::Standby | Wait::Leave => {}
            }
            out.push(Action::Answer { ticket: pending.ticket, answer });
        }
        gave_up_pause
    }

    /// Answers who waits for this node's end.
    pub(crate) fn end(&mut self, out: &mut Actions) {
        for pending in self.pending.iter_mut().filter_map(Option::take) {
            let answer = match pending.wait {
                Wait::Leave => Answer::Done,
                Wait::Standby | Wait::Takeover | Wait::Pause => Answer::Refused(Refusal::Leaving),
            };
            out.push(Action::Answer { ticket: pending.ticket, answer });
        }
    }

    /// When one is given up.
    pub(crate) fn wake(&self) -> Instant {
        self.pending.iter().flatten().map(|pending| pending.until).fold(Instant::NEVER, Instant::min)
    }

    fn wait(&mut self, ticket: u32, wait: Wait, groups: u64, now: Instant, out: &mut Actions) {
        let until = if wait == Wait::Leave { Instant::NEVER } else { now.after(COMMAND_MAX) };
        let pending = Some(Pending { ticket, wait, groups, until });
        if let Some(slot) = self.pending.iter_mut().find(|slot| slot.is_none()) {
            *slot = pending;
        } else if let Some(oldest) = self.pending.first_mut()
            && let Some(before) = core::mem::replace(oldest, pending)
        {
            refuse(before.ticket, Refusal::Superseded, out);
        }
    }

    fn supersede_pauses(&mut self, out: &mut Actions) {
        for slot in &mut self.pending {
            if let Some(pending) = slot.filter(|pending| pending.wait == Wait::Pause) {
                refuse(pending.ticket, Refusal::Superseded, out);
                *slot = None;
            }
        }
    }

    /// An earlier command about one of these groups has lost its purpose.
    fn supersede(&mut self, groups: u64, out: &mut Actions) {
        for slot in &mut self.pending {
            if let Some(pending) = slot.filter(|pending| pending.groups & groups != 0) {
                refuse(pending.ticket, Refusal::Superseded, out);
                *slot = None;
            }
        }
    }
}

impl Pending {
    fn result(&self, groups: &Groups, setting: Setting<'_>) -> Option<Answer> {
        let about = |of: &dyn Fn(&Entry) -> bool| groups.mask(of) & self.groups == self.groups;
        let is_done = match self.wait {
            Wait::Standby => about(&|entry| entry.facts.holder.is_some() && entry.tenure.lease().is_none()),
            Wait::Takeover => {
                about(&|entry| entry.tenure.lease().is_some() && entry.group.phase() == Phase::Serving)
            }
            Wait::Pause => is_borne(groups, setting),
            Wait::Leave => false,
        };
        let has_failed = self.wait == Wait::Takeover
            && groups.mask(|entry| entry.group.phase() == Phase::Failed) & self.groups != 0;
        if is_done {
            Some(Answer::Done)
        } else if has_failed {
            Some(Answer::Refused(Refusal::Failed))
        } else if setting.now >= self.until {
            Some(Answer::Refused(Refusal::TimedOut))
        } else {
            None
        }
    }
}

/// Whether the node may stop for as long as it announces: enough know it, and every lease goes as far. Of two nodes one may be
/// alone, and its leases then go as far as the tie-break lets them.
fn is_borne(groups: &Groups, setting: Setting<'_>) -> bool {
    let leases = setting.leases;
    let until = if leases.two_node().is_some() { Instant::ZERO } else { leases.borne_until() };
    leases.announced() == leases.initdead()
        && leases.is_borne(setting.peers)
        && groups.entries.iter().all(|entry| entry.tenure.lease().is_none_or(|lease| lease >= until))
}

/// The groups that a command is about.
fn chosen(
    group: Option<GroupId>,
    groups: &Groups,
    setting: Setting<'_>,
    of: impl Fn(&Entry) -> Result<bool, Refusal>,
) -> Result<u64, Refusal> {
    if setting.life.is_leaving() {
        return Err(Refusal::Leaving);
    }
    if setting.maintenance {
        return Err(Refusal::Maintenance);
    }
    let me = setting.leases.me();
    if let Some(group) = group {
        let entry = groups.entries.get(group.index()).ok_or(Refusal::NoSuchGroup)?;
        if !entry.group.owners.contains(me) {
            return Err(Refusal::NotAnOwner);
        }
        return of(entry).map(|_| 1 << group.index());
    }
    Ok(groups.mask(|entry| entry.group.owners.contains(me) && of(entry) == Ok(true)))
}

fn refuse(ticket: u32, refusal: Refusal, out: &mut Actions) {
    out.push(Action::Answer { ticket, answer: Answer::Refused(refusal) });
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
