//! The cluster of two machines: names, addresses, and the TOML of each agent. Deadtimes are whole seconds, since a machine
//! without acceleration on a busy host may stand still for some hundred milliseconds.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::protocol::{BPFFS, CABLE, INTERFACE};

/// Silence that is death.
pub const DEADTIME: Duration = Duration::from_millis(1500);
/// Between heartbeats.
pub const KEEPALIVE: Duration = Duration::from_millis(250);
/// The service address.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 100);
/// The group that has it.
pub const GROUP: &str = "web";

/// One of the two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// The preferred one.
    Alpha,
    /// The other.
    Beta,
}

impl Node {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Alpha, Self::Beta];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alpha => "alpha",
            Self::Beta => "beta",
        }
    }

    /// The other one.
    pub const fn peer(self) -> Self {
        match self {
            Self::Alpha => Self::Beta,
            Self::Beta => Self::Alpha,
        }
    }

    /// Its address.
    pub const fn address(self) -> Ipv4Addr {
        match self {
            Self::Alpha => Ipv4Addr::new(10, 78, 0, 1),
            Self::Beta => Ipv4Addr::new(10, 78, 0, 2),
        }
    }

    /// Its network card's address: locally administered.
    pub const fn mac(self) -> [u8; 6] {
        match self {
            Self::Alpha => [0x52, 0x54, 0, 0x78, 0, 1],
            Self::Beta => [0x52, 0x54, 0, 0x78, 0, 2],
        }
    }

    /// The same as text.
    pub fn mac_text(self) -> String {
        self.mac().map(|byte| format!("{byte:02x}")).join(":")
    }
}

/// How an agent is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The `xdp` setting.
    pub xdp: &'static str,
    /// Whether it pets the watchdog.
    pub watchdog: bool,
    /// Whether the serial line is a second link.
    pub serial: bool,
}

impl Spec {
    /// The configuration of a node.
    pub fn toml(self, node: Node) -> String {
        let Self { xdp, watchdog, serial } = self;
        let (deadtime, keepalive) = (DEADTIME.as_millis(), KEEPALIVE.as_millis());
        let mut text = format!(
            "[cluster]\nname = \"machines\"\nkey_file = \"/etc/xbeat/keys.toml\"\nnode = \"{}\"\n\
             [timing]\nkeepalive = \"{keepalive}ms\"\ndeadtime = \"{deadtime}ms\"\ninitdead = \"3s\"\n\
             [quorum]\npolicy = \"two-node\"\ntie_break = \"always\"\n",
            node.name()
        );
        for node in Node::BOTH {
            text += &format!("[[node]]\nname = \"{}\"\n", node.name());
        }
        text += &format!(
            "[[link]]\ntype = \"ucast\"\ninterface = \"{INTERFACE}\"\npeers = {{ alpha = \"{}\", beta = \"{}\" }}\n",
            Node::Alpha.address(),
            Node::Beta.address()
        );
        if serial {
            text += &format!("[[link]]\ntype = \"serial\"\ndevice = \"{CABLE}\"\nbaud = 115200\n");
        }
        text += &format!(
            "[[group]]\nname = \"{GROUP}\"\nprefer = [\"alpha\", \"beta\"]\nauto_failback = false\n\
             [[group.resource]]\ntype = \"ip\"\naddress = \"{SERVICE}/24\"\ninterface = \"{INTERFACE}\"\n\
             [control]\nsocket = \"/run/xbeat/xbeat.sock\"\n\
             [runtime]\nstate_dir = \"/var/lib/xbeat\"\nbpffs = \"{BPFFS}\"\nxdp = \"{xdp}\"\n"
        );
        if watchdog {
            text += "[watchdog]\ndevice = \"/dev/watchdog\"\n";
        }
        text
    }
}
