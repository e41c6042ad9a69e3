//! `autojoin` and the host cache: nodes beyond the list, and this node when it is one of them.

use std::path::Path;

use agent_common::NodeId;
use agent_common::ids::MAX_NODES;

use super::cluster::Me;
use super::report::Findings;
use super::section::At;
use crate::hosts::{self, Hosts, HostsError, Listed};
use crate::settings::{Autojoin, Cast, LinkSettings, Medium, Settings};

/// Reads the cache of a state directory.
pub(super) type Cache<'c> = &'c dyn Fn(&Path) -> Result<Hosts, HostsError>;

/// Which node this is, and who has joined.
pub(super) struct Joining {
    pub(super) me: NodeId,
    own: Option<String>,
    hosts: Hosts,
}

pub(super) fn joining(
    me: Me,
    autojoin: &At<Autojoin>,
    names: &[&str],
    links: &[At<LinkSettings>],
    cache: Result<Hosts, HostsError>,
    findings: &mut Findings<'_>,
) -> Option<Joining> {
    let hosts = match cache {
        Ok(hosts) => hosts,
        Err(error) => {
            findings.error(autojoin.span.clone(), error.to_string(), "it holds the nodes that joined");
            return None;
        }
    };
    let casts = || {
        links.iter().filter_map(|link| match &link.value.medium {
            Medium::Network(network) => Some(&network.cast),
            Medium::Serial(_) => None,
        })
    };
    let open = casts().any(|cast| matches!(cast, Cast::Broadcast | Cast::Multicast { .. }));
    let reached = hosts.hosts.iter().any(|host| !host.addresses.is_empty());
    if autojoin.value != Autojoin::None && !open && !reached && !links.is_empty() {
        findings.error(
            autojoin.span.clone(),
            "nobody can join: no [[link]] of type \"bcast\" or \"mcast\" reaches a node that is not listed",
            "add one, or give addresses with `xbeat node add NAME --address LINK=ADDRESS` while `autojoin` is \"none\"",
        );
    }
    let listed: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    match me {
        Me::Listed(me) => Some(Joining { me, own: None, hosts }),
        Me::Unlisted(name) => {
            let kept = hosts.own.filter(|id| usize::from(*id) >= listed.len() && hosts.at(*id).is_none());
            let added = hosts.find(&name.value).map(|host| host.id);
            let id = added.or(kept).or_else(|| hosts.free_id(&name.value, Listed(&listed)));
            let Some(me) = id.and_then(NodeId::new) else {
                let message =
                    format!("this node, `{}`, is not listed, and all {MAX_NODES} ids are taken", name.value);
                findings.error(name.span, message, "list fewer nodes");
                return None;
            };
            Some(Joining { me, own: Some(name.value), hosts })
        }
    }
}

impl Joining {
    /// Puts them into the settings.
    pub(super) fn apply(&self, settings: &mut Settings) {
        let own = self.own.as_deref().map(|name| (self.me, name));
        hosts::let_join(settings, &self.hosts, own);
    }
}
