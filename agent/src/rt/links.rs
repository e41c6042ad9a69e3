//! What the follower of the interfaces found: sockets that come and go, carriers. Nothing is opened or closed here.

use std::os::fd::AsFd;

use agent_core::{Event, Instant};

use super::Rt;
use super::waker::Source;
use crate::links::Wire;

impl Rt {
    /// Takes what the follower has handed over since the last round.
    pub(super) fn drain_links(&mut self, now: Instant) {
        while let Ok(wire) = self.parts.queues.links.wires.pop() {
            match wire {
                Wire::Carrier { link, up } => {
                    self.node.handle(Event::Carrier { link, up }, now);
                    self.perform(now);
                }
                Wire::Part { place, part } => {
                    for socket in part.iter().flat_map(|part| part.receiving()) {
                        // Should it not be watched, it is still read in every round: at each own heartbeat at the latest.
                        let _ = self.waker.watch(socket.channel.as_fd(), Source::Receive, false);
                    }
                    if let Some(old) = self.parts.paths.put(place, part) {
                        for socket in old.receiving() {
                            self.waker.forget(socket.channel.as_fd());
                        }
                        self.parts.queues.links.give_back(old);
                    }
                    self.changed = true;
                }
            }
        }
    }
}
