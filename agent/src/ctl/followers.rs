//! What happened, for those who ask later and for those who watch. Both are bounded: the oldest is forgotten,
//! and a watcher who is too slow misses events and is told how many.

use std::collections::VecDeque;
use std::sync::Arc;

use agent_core::Instant;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::event::{Event, What};

/// Events that are remembered.
pub(super) const HISTORY: usize = 2048;
/// Events that wait for one follower.
pub(super) const BACKLOG: usize = 1024;
/// Most followers at once.
pub(super) const FOLLOWERS: u32 = 16;

/// One event as JSON, shared by all who get it.
pub(super) type Line = Arc<str>;

/// The past and the watchers.
#[derive(Default)]
pub(super) struct Followers {
    history: VecDeque<Line>,
    list: Vec<Follower>,
}

struct Follower {
    lines: mpsc::Sender<Line>,
    missed: u64,
}

impl Followers {
    /// Remembers an event, and hands it to all who watch.
    pub(super) fn tell(&mut self, event: &Event) {
        let line: Line = event.to_json().into();
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(Arc::clone(&line));
        self.list.retain_mut(|follower| follower.tell(Instant(event.t_ns), &line));
    }

    /// The last `lines` events, or all.
    pub(super) fn past(&self, lines: Option<u32>) -> Vec<Line> {
        let count = lines.and_then(|lines| usize::try_from(lines).ok()).unwrap_or(usize::MAX);
        let skip = self.history.len().saturating_sub(count);
        self.history.iter().skip(skip).cloned().collect()
    }

    /// Events from now on; `None` when there are too many who watch.
    pub(super) fn follow(&mut self) -> Option<mpsc::Receiver<Line>> {
        self.list.retain(|follower| !follower.lines.is_closed());
        if self.list.len() >= FOLLOWERS as usize {
            return None;
        }
        let (lines, receiver) = mpsc::channel(BACKLOG);
        self.list.push(Follower { lines, missed: 0 });
        Some(receiver)
    }
}

impl Follower {
    /// Whether the follower is still there.
    fn tell(&mut self, at: Instant, line: &Line) -> bool {
        if self.missed > 0 {
            let notice: Line = Event::at(at, What::dropped(self.missed)).to_json().into();
            // The notice needs a place of its own besides the event's.
            if self.lines.capacity() < 2 {
                self.missed += 1;
                return !self.lines.is_closed();
            }
            if self.lines.try_send(notice).is_ok() {
                self.missed = 0;
            }
        }
        match self.lines.try_send(Arc::clone(line)) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.missed += 1;
                true
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(t_ns: u64) -> Event {
        Event { t_ns, what: What::own("started") }
    }

    #[test]
    fn the_past_is_bounded_and_the_newest_stay() {
        let mut followers = Followers::default();
        for t_ns in 0..HISTORY as u64 + 10 {
            followers.tell(&event(t_ns));
        }
        let past = followers.past(None);
        assert_eq!(past.len(), HISTORY);
        assert!(past[0].contains("\"t_ns\":10,"), "{}", past[0]);
        assert_eq!(followers.past(Some(3)).len(), 3);
        assert_eq!(followers.past(Some(0)).len(), 0);
    }

    #[test]
    fn a_slow_follower_misses_and_is_told() {
        let mut followers = Followers::default();
        let (mut slow, mut quick) = (followers.follow().unwrap(), followers.follow().unwrap());
        let mut quick_count = 0;
        for t_ns in 0..BACKLOG as u64 + 5 {
            followers.tell(&event(t_ns));
            while quick.try_recv().is_ok() {
                quick_count += 1;
            }
        }
        assert_eq!(quick_count, BACKLOG + 5);
        for _ in 0..BACKLOG {
            assert!(!slow.try_recv().unwrap().contains("dropped"));
        }
        assert!(slow.try_recv().is_err());
        followers.tell(&event(7777));
        assert!(slow.try_recv().unwrap().contains("\"dropped\":5"));
        assert!(slow.try_recv().unwrap().contains("7777"));
    }

    #[test]
    fn followers_are_bounded_and_leave() {
        let mut followers = Followers::default();
        let mut watching: Vec<_> = (0..FOLLOWERS).map(|_| followers.follow().unwrap()).collect();
        assert!(followers.follow().is_none());
        watching.pop();
        assert!(followers.follow().is_some());
    }
}
