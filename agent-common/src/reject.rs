//! Why a frame did not count: one enum from which the counter's index, the metric's label and the log's text come.
//! The order of the variants is the order of the checks, cheapest first.

macro_rules! rejects {
    ($($(#[$doc:meta])* $name:ident = $index:literal, $label:literal, $text:literal;)*) => {
        /// The reason for which a frame addressed to this cluster's port was refused.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum Reject {
            $($(#[$doc])* $name = $index,)*
        }

        impl Reject {
            /// Every reason, in order of [`Reject::index`].
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// How many reasons there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The metric's label, snake case.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// The log's text: what was seen, for an operator.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

rejects! {
    /// The payload is not 55 + 64k + 16 bytes, or more than the largest frame.
    Length = 0, "length", "the datagram's length is not that of a heartbeat";
    /// No magic: something else uses this port.
    Magic = 1, "magic", "the datagram is not a heartbeat: something else uses this port";
    /// The magic of another version.
    Version = 2, "version", "the heartbeat has another protocol version: upgrade the older side";
    /// Another cluster's name.
    Cluster = 3, "cluster", "the heartbeat is of another cluster on the same port: give each its own port or network";
    /// A node that the configuration does not list.
    Node = 4, "node", "the sender is not in the configuration: compare [[node]] on both sides";
    /// A link that does not exist, or not on this interface, port or address.
    Link = 5, "link", "the heartbeat was sent for another link than the one it arrived on";
    /// A key id that the key file does not list.
    Key = 6, "key", "the key id is not in the key file: roll keys out to all nodes before signing with a new one";
    /// Zero, or a deadtime above initdead.
    Timing = 7, "timing", "the announced keepalive or deadtime is zero or above initdead";
    /// An incarnation below the newest heard.
    Incarnation = 8, "incarnation", "the heartbeat is of an earlier life of its sender: a replay, or a generation file that went back";
    /// Below the replay window.
    TooOld = 9, "too_old", "the sequence number is below the replay window";
    /// Already heard on this link.
    Duplicate = 10, "duplicate", "the sequence number was already heard on this link";
    /// The keyed screen does not match.
    Screen = 11, "screen", "the screen does not match: wrong key, damaged, or forged";
    /// The tag does not match.
    Digest = 12, "digest", "the screen matches and the authentication tag does not: forged by one who guessed, or a sender that is broken";
    /// Authentic, but its sections do not parse.
    Sections = 13, "sections", "the heartbeat is authentic but its sections are malformed: a sender of another build";
    /// Authentic, and carries our own node id: the last of all checks, so that nothing else can be why it was refused.
    OwnNode = 14, "own_node", "the heartbeat carries this node's own id: it was looped back, or another node uses the id";
}

impl Reject {
    /// The counter's index, below [`Reject::COUNT`].
    #[inline(always)]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether the frame may belong to somebody else, so that the stack must get it (invariant I7).
    #[inline(always)]
    pub const fn passes(self) -> bool {
        match self {
            Self::Length | Self::Magic | Self::Version | Self::Cluster => true,
            Self::Node
            | Self::Link
            | Self::Key
            | Self::Timing
            | Self::Incarnation
            | Self::TooOld
            | Self::Duplicate
            | Self::Screen
            | Self::Digest
            | Self::Sections
            | Self::OwnNode => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Reject;

    #[test]
    fn indices_are_dense_and_labels_unique() {
        for (place, reason) in Reject::ALL.iter().enumerate() {
            assert_eq!(reason.index(), place);
            assert!(!reason.text().is_empty());
            let same = Reject::ALL.iter().filter(|other| other.label() == reason.label()).count();
            assert_eq!(same, 1, "{} is used twice", reason.label());
        }
    }
}
