//! Rules that tests break on purpose, to see that the simulator notices. A build without the feature `mutations` holds
//! nothing of it: [`Mutated`] is empty then and breaks no rule.

/// One broken rule of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// The promise of an older heartbeat outlives a shortened deadtime.
    AcksAfterShortenedDeadtime,
    /// The newest heartbeat is judged for each link (the kernel's side; the core ignores it).
    OrderPerLink,
    /// An ack is taken for a heartbeat of this incarnation whatever its number means: those that the log has lost too.
    MixedSequences,
    /// `t` is read after sending.
    ReadTimeAfterSending,
    /// A changed set of voters counts at once, without the overlap of adjacent numbers.
    MajorityWithoutOverlap,
    /// The next number is taken without having heard the one before for initdead.
    MajorityWithoutWaiting,
    /// A node that starts without state votes at once.
    NoHoldOff,
    /// It waits its own deadtime only.
    HoldOffOwnDeadtimeOnly,
    /// Its own vote counts at once.
    OwnVoteAlwaysAfterRestart,
    /// A peer once dead is dead until reviewed, whatever the newest reading says.
    DeadKeptAsState,
    /// The margin is 1/1000.
    MarginTooSmall,
    /// A node that lost its memory starts with the incarnation it had (the shell's side; the core ignores it).
    SameIncarnationAgain,
    /// A voter's higher incarnation leaves its promises standing.
    PromisesNotForgotten,
    /// Epochs do not carry the node id.
    TwoCandidatesOneEpoch,
    /// Another's ask shuts the holder's gate.
    AskShutsHolderGate,
    /// An ack counts whatever incarnation it names.
    AcksWithoutIncarnation,
    /// A table counts as known by its version alone.
    VersionsWithoutIncarnation,
    /// A node that joined without a vote votes, and its promises count.
    JoinedNodesVote,
    /// A group moves to whom reaches more at once, whether the difference lasts or not.
    MoveWithoutDampening,
    /// What carried on announces its own deadtime before anybody has acked it.
    ShortenBeforeAck,
    /// One of two nodes whose lease ran out goes on with its next heartbeat, whatever the peer has done meanwhile.
    LapsedLeaseRestarts,
}

/// Which rule is broken: none, unless a test says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mutated {
    #[cfg(any(test, feature = "mutations"))]
    which: Option<Mutation>,
}

impl Mutated {
    /// Breaks one rule.
    #[cfg(any(test, feature = "mutations"))]
    pub const fn by(mutation: Mutation) -> Self {
        Self { which: Some(mutation) }
    }

    /// Whether this rule is broken.
    #[cfg(any(test, feature = "mutations"))]
    pub(crate) fn is(self, mutation: Mutation) -> bool {
        self.which == Some(mutation)
    }

    /// No rule is broken in a build for use.
    #[cfg(not(any(test, feature = "mutations")))]
    #[expect(clippy::unused_self, reason = "the same call in both builds")]
    pub(crate) const fn is(self, _mutation: Mutation) -> bool {
        false
    }
}
