//! One peer heard in two ways: over interfaces with XDP (the kernel's slot) and over sockets (this process's slot).
//! Each way has its own replay window; here they become the one order over all links that the design asks for.

use std::cmp::Ordering;

use agent_common::maps::{LinkSlot, PeerSlot};

/// Joins the two slots of one peer into `out`.
///
/// The higher (incarnation, sequence number) is the newest. A frame counts only above everything heard on *any* link,
/// so a later stamp of a lower number does not count, and of the same number the first stamp does. Each link is
/// heard in one way only: the way that heard it in the newest incarnation speaks for it.
pub fn merge(kernel: &PeerSlot, socket: &PeerSlot, out: &mut PeerSlot) {
    let order = (kernel.incarnation, kernel.seq).cmp(&(socket.incarnation, socket.seq));
    let (newest, other) = match order {
        Ordering::Greater | Ordering::Equal => (kernel, socket),
        Ordering::Less => (socket, kernel),
    };
    *out = *newest;
    out.accepted = kernel.accepted.max(socket.accepted);
    let same_life = kernel.incarnation == socket.incarnation;
    if same_life {
        if order == Ordering::Equal {
            out.heard_ns = first(kernel.heard_ns, socket.heard_ns);
            out.counts_ns = first(kernel.counts_ns, socket.counts_ns);
        } else if newest.acked == 0 {
            // The other way has heard the ack already; the newest frame's own turn comes with the next.
            out.counts_ns = other.counts_ns;
        }
        out.acked = kernel.acked | socket.acked;
    }
    for (link, alternative) in out.links.iter_mut().zip(&other.links) {
        if alternative.stamp_ns > link.stamp_ns {
            *link = *alternative;
            if !same_life {
                // When it was heard, and how often it would be, says something of the path; numbers of an earlier
                // life say nothing, and its clock may have been another.
                let LinkSlot { stamp_ns, keepalive_us, .. } = *alternative;
                *link = LinkSlot { stamp_ns, keepalive_us, ..LinkSlot::EMPTY };
            }
        }
    }
}

/// The earlier of two stamps of which zero means none.
fn first(one: u64, other: u64) -> u64 {
    if one == 0 || other == 0 { one.max(other) } else { one.min(other) }
}

#[cfg(test)]
mod tests {
    use agent_common::maps::{LinkSlot, PeerSlot};

    use super::merge;

    fn slot(incarnation: u64, seq: u64, heard_ns: u64, counts_ns: u64) -> PeerSlot {
        let acked = u64::from(counts_ns != 0);
        PeerSlot { incarnation, seq, heard_ns, counts_ns, acked, accepted: seq, ..PeerSlot::EMPTY }
    }

    fn merged(kernel: &PeerSlot, socket: &PeerSlot) -> PeerSlot {
        let mut out = PeerSlot::EMPTY;
        merge(kernel, socket, &mut out);
        let mut mirrored = PeerSlot::EMPTY;
        merge(socket, kernel, &mut mirrored);
        assert_eq!(
            (out.counts_ns, out.heard_ns, out.seq),
            (mirrored.counts_ns, mirrored.heard_ns, mirrored.seq)
        );
        out
    }

    #[test]
    fn silence_on_one_side_changes_nothing() {
        let heard = slot(5, 20, 1000, 1000);
        let out = merged(&heard, &PeerSlot::EMPTY);
        assert_eq!((out.incarnation, out.seq, out.counts_ns, out.accepted), (5, 20, 1000, 20));
    }

    #[test]
    fn a_lower_number_that_came_later_does_not_count() {
        let out = merged(&slot(5, 20, 1000, 1000), &slot(5, 10, 5000, 5000));
        assert_eq!((out.seq, out.counts_ns), (20, 1000));
    }

    #[test]
    fn of_the_same_number_the_first_stamp_counts() {
        let out = merged(&slot(5, 20, 1000, 1000), &slot(5, 20, 1700, 1700));
        assert_eq!((out.counts_ns, out.heard_ns), (1000, 1000));
    }

    #[test]
    fn the_higher_incarnation_wins_whatever_its_number() {
        let out = merged(&slot(5, 900, 9000, 9000), &slot(6, 1, 1000, 0));
        assert_eq!((out.incarnation, out.seq, out.counts_ns, out.acked), (6, 1, 0, 0));
    }

    #[test]
    fn an_ack_heard_on_either_side_is_an_ack() {
        let out = merged(&slot(5, 20, 2000, 0), &slot(5, 15, 1500, 1500));
        assert_eq!((out.seq, out.acked, out.counts_ns), (20, 1, 1500));
        let out = merged(&slot(5, 20, 2000, 0), &slot(5, 20, 2100, 2100));
        assert_eq!((out.acked, out.counts_ns), (1, 2100));
    }

    #[test]
    fn each_link_keeps_the_way_that_hears_it() {
        let mut kernel = slot(5, 20, 2000, 2000);
        kernel.links[0] =
            LinkSlot { stamp_ns: 2000, seq: 20, frames: 20, first_seq: 1, ..LinkSlot::default() };
        let mut socket = slot(5, 19, 1900, 1900);
        socket.links[1] = LinkSlot {
            stamp_ns: 1900,
            seq: 19,
            frames: 18,
            first_seq: 1,
            sent_ns: 70,
            keepalive_us: 2_000_000,
        };
        let out = merged(&kernel, &socket);
        assert_eq!(out.links[0], kernel.links[0]);
        assert_eq!(out.links[1], socket.links[1]);

        socket.incarnation = 4;
        let out = merged(&kernel, &socket);
        let expected = LinkSlot { stamp_ns: 1900, keepalive_us: 2_000_000, ..LinkSlot::EMPTY };
        assert_eq!(out.links[1], expected, "a send time of an earlier life is of another clock, perhaps");
    }
}
