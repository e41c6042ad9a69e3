//! Newtypes for the small integers of the protocol, each with its bound.
//! An id that exists is in range: arrays of the matching `MAX_*` size can be indexed by it.

/// Most nodes of a cluster.
pub const MAX_NODES: usize = 32;
/// Most links of a cluster.
pub const MAX_LINKS: usize = 8;
/// Most groups of a cluster.
pub const MAX_GROUPS: usize = 64;

macro_rules! small_id {
    ($(#[$doc:meta])* $name:ident, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(try_from = "u8", into = "u8"))]
        #[repr(transparent)]
        pub struct $name(u8);

        impl $name {
            /// The first of the configuration.
            pub const FIRST: Self = Self(0);

            /// `None` when `raw` is out of range.
            #[inline(always)]
            pub const fn new(raw: u8) -> Option<Self> {
                if (raw as usize) < $max { Some(Self(raw)) } else { None }
            }

            /// The id as it stands on the wire.
            #[inline(always)]
            pub const fn raw(self) -> u8 {
                self.0
            }

            /// The id as an array index, below the matching `MAX_*`.
            #[inline(always)]
            pub const fn index(self) -> usize {
                self.0 as usize
            }

            /// All ids in order.
            pub fn all() -> impl Iterator<Item = Self> {
                (0..$max as u8).map(Self)
            }
        }

        #[cfg(feature = "serde")]
        impl From<$name> for u8 {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        #[cfg(feature = "serde")]
        impl TryFrom<u8> for $name {
            type Error = &'static str;

            fn try_from(raw: u8) -> Result<Self, Self::Error> {
                Self::new(raw).ok_or(concat!(stringify!($name), " out of range"))
            }
        }
    };
}

small_id!(
    /// A node: its place in the configuration's `[[node]]` list, from 0.
    NodeId,
    MAX_NODES
);
small_id!(
    /// A link: its place in the configuration's `[[link]]` list, from 0.
    LinkId,
    MAX_LINKS
);
small_id!(
    /// A group: its place in the configuration's `[[group]]` list, from 0.
    GroupId,
    MAX_GROUPS
);

/// A key's id, 1..=255. Zero never stands on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct KeyId(core::num::NonZeroU8);

impl KeyId {
    /// `None` when `raw` is zero.
    #[inline(always)]
    pub const fn new(raw: u8) -> Option<Self> {
        match core::num::NonZeroU8::new(raw) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The id as it stands on the wire.
    #[inline(always)]
    pub const fn raw(self) -> u8 {
        self.0.get()
    }
}

/// A set of nodes, one bit for each id.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash, Debug)]
#[repr(transparent)]
pub struct NodeSet(pub u32);

impl NodeSet {
    /// No nodes.
    pub const EMPTY: Self = Self(0);

    /// Whether `node` is in the set.
    #[inline(always)]
    pub const fn contains(self, node: NodeId) -> bool {
        self.0 & (1 << node.raw()) != 0
    }

    /// Adds `node`.
    #[inline(always)]
    pub const fn insert(&mut self, node: NodeId) {
        self.0 |= 1 << node.raw();
    }

    /// Removes `node`.
    #[inline(always)]
    pub const fn remove(&mut self, node: NodeId) {
        self.0 &= !(1 << node.raw());
    }

    /// How many nodes the set holds.
    #[inline(always)]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether the set holds none.
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The nodes in order of id.
    pub fn iter(self) -> impl Iterator<Item = NodeId> {
        NodeId::all().filter(move |node| self.contains(*node))
    }
}
