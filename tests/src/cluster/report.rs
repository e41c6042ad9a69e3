//! What a run can report: what was violated, and what it exercised.

/// What was violated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// I1: two gates of a group were open at once.
    OneServer,
    /// I4: an epoch was held by two nodes.
    Epoch,
    /// I4: a lease that no majority of promises bears.
    Reason,
    /// A vote went to another while a promise bound it.
    Promise,
    /// I2: a node that is heard was called dead.
    HeardIsDead,
    /// I3: a silent node was not called dead.
    SilentIsAlive,
    /// I5: no single server, or no equal views, in time.
    Liveness,
    /// Served for too little of the time, or by too many epochs.
    Service,
    /// A group moved for connectivity too soon, or without a reason, or not to who reaches most.
    Reach,
    /// A planned restart was noticed.
    Gap,
    /// The core would work without end.
    Runaway,
}

impl Invariant {
    /// For people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::OneServer => "I1 one server",
            Self::Epoch => "I4 epoch used twice",
            Self::Reason => "I4 lease without reason",
            Self::Promise => "promise broken",
            Self::HeardIsDead => "I2 dead while heard",
            Self::SilentIsAlive => "I3 not dead in time",
            Self::Liveness => "I5 liveness",
            Self::Service => "I5 share of service",
            Self::Reach => "move for connectivity",
            Self::Gap => "gap in a planned restart",
            Self::Runaway => "runaway",
        }
    }
}

/// A violation.
#[derive(Clone, Debug)]
pub struct Violation {
    /// True nanoseconds since the run began.
    pub at: u64,
    /// Which invariant.
    pub invariant: Invariant,
    /// Who and what.
    pub text: String,
}

/// What a run exercised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    /// A group was opened by another node than last.
    pub handovers: u64,
    /// Agents that ended while their gate was open.
    pub restarts_in_lease: u64,
    /// Nodes that asked while a voter voted for another, and held the group later.
    pub won_after_refusal: u64,
    /// Overlaps after a clock stood still, within their bound.
    pub standing_overlaps: u64,
    /// Epochs held.
    pub epochs: u64,
    /// Bars raised over an open gate.
    pub shut_by_bar: u64,
    /// Agents that went on with carried state.
    pub carried: u64,
    /// Agents that started over since a peer knew a later life.
    pub outlived: u64,
    /// Verdicts of death.
    pub deaths: u64,
    /// Commands of the operator: done, refused.
    pub done: u64,
    /// Commands that were refused.
    pub refused: u64,
    /// Frames that were replayed, and how many of these were not refused.
    pub replayed: u64,
    /// Replayed frames that were not refused.
    pub replays_taken: u64,
    /// Changes of the votes that a node took.
    pub vote_changes: u64,
    /// Lives with an incarnation that was used before.
    pub went_back: u64,
    /// Leases handed over to who reaches more.
    pub reach_moves: u64,
    /// Leases that ended since the ping group did not answer.
    pub pings_lost: u64,
    /// Agents replaced in turn.
    pub rolled: u64,
}

impl Witness {
    /// Adds what another run exercised.
    pub fn add(&mut self, other: &Self) {
        self.handovers += other.handovers;
        self.restarts_in_lease += other.restarts_in_lease;
        self.won_after_refusal += other.won_after_refusal;
        self.standing_overlaps += other.standing_overlaps;
        self.epochs += other.epochs;
        self.shut_by_bar += other.shut_by_bar;
        self.carried += other.carried;
        self.outlived += other.outlived;
        self.deaths += other.deaths;
        self.done += other.done;
        self.refused += other.refused;
        self.replayed += other.replayed;
        self.replays_taken += other.replays_taken;
        self.vote_changes += other.vote_changes;
        self.went_back += other.went_back;
        self.reach_moves += other.reach_moves;
        self.pings_lost += other.pings_lost;
        self.rolled += other.rolled;
    }
}
