//! Where service addresses may be put: what the follower says, read by the takeover thread without a lock.
//! An address never comes to an interface that the kernel's gate, if there is one, does not guard.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::gate::guard;
use crate::settings::Settings;

/// One interface of service addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// It is not there.
    Absent,
    /// It is there, and its gate is not: nothing may be served on it.
    Unguarded,
    /// Addresses may be put on the interface with this index.
    Ready(u32),
}

/// All interfaces of service addresses that this node may own.
#[derive(Debug)]
pub struct Grounds {
    names: Vec<String>,
    states: Vec<AtomicU64>,
    changes: AtomicU32,
}

/// Of a state: the index below, or this.
const UNGUARDED: u64 = 1 << 32;

impl Grounds {
    /// None of them is there yet.
    pub fn new(settings: &Settings) -> Self {
        let names: Vec<String> = guard::interfaces(settings).into_iter().map(str::to_owned).collect();
        let states = names.iter().map(|_| AtomicU64::new(0)).collect();
        Self { names, states, changes: AtomicU32::new(0) }
    }

    /// What may be done on the interface; `None` when it is none of them.
    pub fn of(&self, name: &str) -> Option<Ground> {
        let state = self.state(name)?.load(Ordering::Acquire);
        Some(match u32::try_from(state) {
            Ok(0) => Ground::Absent,
            Ok(index) => Ground::Ready(index),
            Err(_) => Ground::Unguarded,
        })
    }

    /// Says what may be done on the interface from now on.
    pub fn set(&self, name: &str, ground: Ground) {
        let Some(state) = self.state(name) else { return };
        let value = match ground {
            Ground::Absent => 0,
            Ground::Unguarded => UNGUARDED,
            Ground::Ready(index) => u64::from(index),
        };
        if state.swap(value, Ordering::AcqRel) != value {
            self.changes.fetch_add(1, Ordering::Release);
        }
    }

    /// How often something has changed.
    pub fn changes(&self) -> u32 {
        self.changes.load(Ordering::Acquire)
    }

    fn state(&self, name: &str) -> Option<&AtomicU64> {
        self.names.iter().zip(&self.states).find(|(known, _)| *known == name).map(|(_, state)| state)
    }
}

#[cfg(test)]
mod tests {
    use super::{Ground, Grounds};
    use crate::config;

    #[test]
    fn what_is_said_of_an_interface_is_read_back_and_changes_are_counted() {
        let text = "[cluster]\nname = \"m\"\nnode = \"a\"\n[[node]]\nname = \"a\"\n[[link]]\ntype = \"bcast\"\n\
                    interface = \"eth0\"\n[[group]]\nname = \"g\"\n[[group.resource]]\n\
                    address = \"10.0.0.1\"\ninterface = \"eth1\"\n";
        let (settings, _) = config::parse("m.toml", text, "a").unwrap();
        let grounds = Grounds::new(&settings);
        assert_eq!(grounds.of("eth0"), None, "it has no address");
        assert_eq!(grounds.of("eth1"), Some(Ground::Absent));
        for ground in [Ground::Ready(7), Ground::Unguarded, Ground::Ready(u32::MAX), Ground::Absent] {
            let before = grounds.changes();
            grounds.set("eth1", ground);
            grounds.set("eth1", ground);
            assert_eq!((grounds.of("eth1"), grounds.changes()), (Some(ground), before + 1));
        }
    }
}
