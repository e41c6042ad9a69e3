//! What an agent tells of itself: the event `self`.

use serde::{Deserialize, Serialize};

use crate::io::rival::Sighting;
use crate::settings::Settings;

/// [`Own::to`]: another node uses this one's id.
pub const RIVAL: &str = "rival";

/// Something about this agent itself; one of the fields is there, with those that belong to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Own {
    /// `started`, `resumed`, `restarting`, `stopping`, `leaving`, `ended` or [`RIVAL`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<String>,
    /// Quorum was gained or lost.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub quorum: Option<bool>,
    /// Its thread ran this late.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lateness_us: Option<u64>,
    /// Events that this reader was too slow for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dropped: Option<u64>,
    /// Where the rival is; nothing over a serial line.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<String>,
    /// The interface on which it was heard, or the serial link.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub interface: Option<String>,
    /// Its incarnation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub incarnation: Option<u64>,
}

impl Own {
    /// Another node uses this one's id.
    pub fn rival(sighting: &Sighting, settings: &Settings) -> Self {
        let heard_on = sighting.link.and_then(|id| settings.links.iter().find(|link| link.id == id));
        let interface = heard_on.map(|link| match link.network() {
            Some(network) => network.interface.clone(),
            None => settings.link_name(link.id),
        });
        Self {
            to: Some(RIVAL.to_owned()),
            address: sighting.address.map(|address| address.to_string()),
            interface,
            incarnation: Some(sighting.incarnation),
            ..Self::default()
        }
    }

    /// Whether it is worth waking somebody.
    pub fn is_bad(&self) -> bool {
        self.quorum == Some(false) || self.dropped.is_some() || self.to.as_deref() == Some(RIVAL)
    }

    /// For people.
    pub fn to_text(&self) -> String {
        match self {
            Self { to: Some(to), address, interface, .. } if to == RIVAL => {
                let at = address.as_ref().map_or_else(String::new, |address| format!(" at {address}"));
                let on = interface.as_ref().map_or_else(String::new, |interface| format!(" on {interface}"));
                format!(
                    "agent: another node uses this node's id{at}{on}: give each its own [[node]], or look for a copy of \
                     this machine"
                )
            }
            Self { to: Some(to), .. } => format!("agent: {to}"),
            Self { quorum: Some(true), .. } => "quorum: gained".to_owned(),
            Self { quorum: Some(false), .. } => "quorum: lost".to_owned(),
            Self { lateness_us: Some(us), .. } => {
                format!("agent: its realtime thread woke {} ms late", super::text::decimal_ms(*us))
            }
            Self { dropped: Some(count), .. } => format!("agent: {count} events are missing here"),
            Self { .. } => "agent".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Own, RIVAL};

    #[test]
    fn a_rival_is_told_with_its_place() {
        let own = Own {
            to: Some(RIVAL.to_owned()),
            address: Some("10.0.0.9".to_owned()),
            interface: Some("eth0".to_owned()),
            incarnation: Some(7),
            ..Own::default()
        };
        let json = serde_json::to_string(&own).expect("plain data");
        assert_eq!(json, r#"{"to":"rival","address":"10.0.0.9","interface":"eth0","incarnation":7}"#);
        assert!(own.to_text().starts_with("agent: another node uses this node's id at 10.0.0.9 on eth0: "));
        assert!(own.is_bad());
        assert!(!Own { to: Some("started".to_owned()), ..Own::default() }.is_bad());
    }
}
