//! What the host and the first process of a machine say to each other: JSON, one line each way, over a serial line.
//! An order has a number, and the reply carries it; a machine that has booted says so unasked.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest line either way, in bytes.
pub const LINE_MAX: usize = 1 << 20;
/// The interface that every machine has.
pub const INTERFACE: &str = "eth0";
/// Where the second serial port, the cable between two machines, is in the guest.
pub const CABLE: &str = "/dev/ttyS1";
/// Where the orders arrive in the guest.
pub const ORDERS: &str = "/dev/ttyS2";
/// The agent's bpffs directory in the guest.
pub const BPFFS: &str = "/sys/fs/bpf/xbeat";

/// A line to the guest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Repeated in the reply.
    pub id: u64,
    /// What to do.
    pub order: Order,
}

/// What the guest is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Order {
    /// Load every program of the object: `Vec<Program>`.
    Load,
    /// Run a test binary of the image, whole: [`Tested`].
    Test {
        /// Its name in `/tests`.
        name: String,
        /// What it may take.
        limit_s: u64,
    },
    /// Start the agent with a configuration.
    Start {
        /// TOML.
        config: String,
    },
    /// `xbeat status --json`.
    Status,
    /// Events since a time of the guest's clock: an array of objects.
    Events {
        /// CLOCK_MONOTONIC of the guest.
        since_ns: u64,
    },
    /// CLOCK_MONOTONIC of the guest, in nanoseconds.
    Now,
    /// SIGTERM to the agent, and wait for its orderly end.
    Stop,
    /// SIGKILL to the agent.
    Kill,
    /// Ask a machine by ARP for an address, all the time, and note what else it says from there.
    Watch {
        /// The machine.
        mac: [u8; 6],
        /// The address.
        address: std::net::Ipv4Addr,
        /// This node's own.
        own: std::net::Ipv4Addr,
    },
    /// What the watch saw until now: [`Watched`].
    Watched,
    /// Say something from one address to another, all the time.
    Talk {
        /// From here; the address must be on this machine.
        from: std::net::Ipv4Addr,
        /// To there.
        to: std::net::Ipv4Addr,
    },
    /// End the watch and the talk.
    Quiet,
    /// The state of the watchdog as the kernel tells it: `active` or `inactive`.
    Watchdog,
    /// How the interface carries the classifier: `tcx`, `clsact`, or `none`.
    Classifier {
        /// What leaves, else what arrives.
        egress: bool,
    },
    /// Panic, at once. No reply.
    Panic,
    /// Switch the machine off. No reply.
    Off,
}

/// A line from the guest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// The machine has booted and takes orders.
    Ready {
        /// `uname -r`.
        release: String,
        /// Another at each boot.
        boot: String,
    },
    /// An order was carried out.
    Done {
        /// Which.
        id: u64,
        /// What it gives, by [`Order`].
        value: Value,
    },
    /// It was not.
    Failed {
        /// Which.
        id: u64,
        /// Why not.
        why: String,
    },
}

/// What the kernel made of a program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Instructions that the verifier walked, where it tells.
    pub verified: Option<u32>,
    /// What it said if it refused.
    pub refused: Option<String>,
}

/// How a test binary ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tested {
    /// Whether all tests passed.
    pub passed: bool,
    /// The last lines that it printed.
    pub tail: Vec<String>,
}

impl Tested {
    /// How many tests passed, by the test runner's own summary.
    pub fn count(&self) -> u32 {
        let summary = self.tail.iter().find_map(|line| line.strip_prefix("test result: ok. "));
        summary.and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap_or(0)
    }
}

/// What a watch saw, in nanoseconds of the watching machine's CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Requests sent.
    pub asked: u64,
    /// ARP replies.
    pub answers: u64,
    /// The last of them, 0 for none.
    pub last_answer_ns: u64,
    /// Datagrams from the address.
    pub heard: u64,
    /// The last of them, 0 for none.
    pub last_heard_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_counted_and_a_failure_is_not() {
        let tested = |line: &str| Tested { passed: true, tail: vec!["x".to_owned(), line.to_owned()] };
        let passed = "test result: ok. 17 passed; 0 failed; 0 ignored; finished in 0.12s";
        assert_eq!(tested(passed).count(), 17);
        assert_eq!(tested("test result: FAILED. 16 passed; 1 failed").count(), 0);
    }

    #[test]
    fn lines_are_read_as_they_were_written() {
        let order = Order::Watch {
            mac: [2, 0, 0, 0, 0, 1],
            address: [10, 0, 0, 9].into(),
            own: [10, 0, 0, 1].into(),
        };
        let request = Request { id: 7, order };
        let line = serde_json::to_string(&request).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
    }
}
