//! Where service addresses may be put, and where a carrier came back: what the follower says, read by the takeover thread
//! without a lock. An address never comes to an interface that the kernel's gate, if there is one, does not guard.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nix::sys::eventfd::EventFd;

use crate::gate::guard;
use crate::settings::Settings;
use crate::takeover;

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
    returns: Vec<AtomicU32>,
    changes: AtomicU32,
    reader: Arc<EventFd>,
}

/// Of a state: the index below, or this.
const UNGUARDED: u64 = 1 << 32;

impl Grounds {
    /// None of them is there yet. `reader` wakes the takeover thread.
    pub fn new(settings: &Settings, reader: Arc<EventFd>) -> Self {
        let names: Vec<String> = guard::interfaces(settings).into_iter().map(str::to_owned).collect();
        let states = names.iter().map(|_| AtomicU64::new(0)).collect();
        let returns = names.iter().map(|_| AtomicU32::new(0)).collect();
        Self { names, states, returns, changes: AtomicU32::new(0), reader }
    }

    /// What may be done on the interface; `None` when it is none of them.
    pub fn of(&self, name: &str) -> Option<Ground> {
        let state = self.states.get(self.place(name)?)?.load(Ordering::Acquire);
        Some(match u32::try_from(state) {
            Ok(0) => Ground::Absent,
            Ok(index) => Ground::Ready(index),
            Err(_) => Ground::Unguarded,
        })
    }

    /// Says what may be done on the interface from now on.
    pub fn set(&self, name: &str, ground: Ground) {
        let Some(state) = self.place(name).and_then(|place| self.states.get(place)) else { return };
        let value = match ground {
            Ground::Absent => 0,
            Ground::Unguarded => UNGUARDED,
            Ground::Ready(index) => u64::from(index),
        };
        if state.swap(value, Ordering::AcqRel) != value {
            self.changed();
        }
    }

    /// The interface's carrier is back: whoever asked for an address meanwhile got no answer, and a switch may have
    /// forgotten the port.
    pub fn carrier_back(&self, name: &str) {
        let Some(returns) = self.place(name).and_then(|place| self.returns.get(place)) else { return };
        returns.fetch_add(1, Ordering::Release);
        self.changed();
    }

    /// How often the interface's carrier came back; 0 when it has no addresses.
    pub fn returns(&self, name: &str) -> u32 {
        let returns = self.place(name).and_then(|place| self.returns.get(place));
        returns.map_or(0, |returns| returns.load(Ordering::Acquire))
    }

    /// How often something has changed.
    pub fn changes(&self) -> u32 {
        self.changes.load(Ordering::Acquire)
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
        takeover::wake(&self.reader);
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nix::sys::eventfd::{EfdFlags, EventFd};

    use super::{Ground, Grounds};
    use crate::config;

    #[test]
    fn what_is_said_of_an_interface_is_read_back_and_changes_are_counted() {
        let text = "[cluster]\nname = \"m\"\nnode = \"a\"\n[[node]]\nname = \"a\"\n[[link]]\ntype = \"bcast\"\n\
                    interface = \"eth0\"\n[[group]]\nname = \"g\"\n[[group.resource]]\n\
                    address = \"10.0.0.1\"\ninterface = \"eth1\"\n";
        let (settings, _) = config::parse("m.toml", text, "a").unwrap();
        let reader = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap());
        let grounds = Grounds::new(&settings, Arc::clone(&reader));
        assert_eq!(grounds.of("eth0"), None, "it has no address");
        assert_eq!(grounds.of("eth1"), Some(Ground::Absent));
        for ground in [Ground::Ready(7), Ground::Unguarded, Ground::Ready(u32::MAX), Ground::Absent] {
            let before = grounds.changes();
            grounds.set("eth1", ground);
            grounds.set("eth1", ground);
            assert_eq!((grounds.of("eth1"), grounds.changes()), (Some(ground), before + 1));
            assert_eq!(reader.read(), Ok(1), "the reader is woken once");
        }
        let before = grounds.changes();
        grounds.carrier_back("eth0");
        assert_eq!((grounds.returns("eth0"), grounds.changes()), (0, before), "it has no address");
        grounds.carrier_back("eth1");
        assert_eq!((grounds.returns("eth1"), grounds.changes()), (1, before + 1));
        assert_eq!(reader.read(), Ok(1));
    }
}
