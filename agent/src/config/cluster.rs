//! `[cluster]` and `[[node]]`: what the cluster is called, who belongs to it, and which of them this node is.

use std::ops::Range;
use std::path::{Path, PathBuf};

use agent_common::NodeId;
use agent_common::ids::MAX_NODES;

use super::report::Findings;
use super::section::{At, Section, advice};
use super::value;
use crate::settings::{Autojoin, NodeSettings};

/// Where the keys are unless the file says otherwise.
pub const KEY_FILE: &str = "/etc/xbeat/keys.toml";

/// `[cluster]`, resolved.
pub(super) struct Cluster {
    pub(super) name: String,
    pub(super) me: Me,
    pub(super) key_file: PathBuf,
    pub(super) autojoin: At<Autojoin>,
}

/// Which node this is.
pub(super) enum Me {
    /// One of the list.
    Listed(NodeId),
    /// Another, which may join: by this name.
    Unlisted(At<String>),
}

/// The nodes as they are listed, wrong ones included so that nothing else is said about them.
pub(super) struct Nodes {
    list: Vec<Listed>,
    /// Where the list begins.
    pub(super) span: Range<usize>,
}

struct Listed {
    name: Option<At<String>>,
    witness: bool,
}

impl Nodes {
    pub(super) fn count(&self) -> usize {
        self.list.len()
    }

    /// Whether every listed node has a usable name, so that a name that is not found is wrong.
    pub(super) fn are_named(&self) -> bool {
        !self.list.is_empty() && self.list.iter().all(|node| node.name.is_some())
    }

    /// The node called `name`, by its place.
    pub(super) fn find(&self, name: &str) -> Option<NodeId> {
        let place =
            self.list.iter().position(|node| node.name.as_ref().is_some_and(|at| at.value == name))?;
        u8::try_from(place).ok().and_then(NodeId::new)
    }

    pub(super) fn is_witness(&self, node: NodeId) -> bool {
        self.list.get(node.index()).is_some_and(|node| node.witness)
    }

    /// Names in order of id; a node without a usable name has an empty one.
    pub(super) fn names(&self) -> Vec<&str> {
        self.list.iter().map(|node| node.name.as_ref().map_or("", |at| at.value.as_str())).collect()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = NodeId> {
        NodeId::all().take(self.list.len())
    }

    /// The nodes that may own a group.
    pub(super) fn owners(&self) -> Vec<NodeId> {
        self.ids().filter(|node| !self.is_witness(*node)).collect()
    }

    pub(super) fn into_settings(self) -> Vec<NodeSettings> {
        let settings = |node: Listed| NodeSettings {
            name: node.name.map_or_else(String::new, |at| at.value),
            witness: node.witness,
            joined: false,
        };
        self.list.into_iter().map(settings).collect()
    }
}

pub(super) fn nodes(root: &Section<'_>, findings: &mut Findings<'_>) -> Nodes {
    let sections = root.tables("node", "[[node]]", &["name", "witness"], MAX_NODES, findings);
    if sections.is_empty() {
        let help = "add a [[node]] with name = \"HOST NAME\" for each node; [node] is not a list";
        root.demand("node", "there is no [[node]]", help, findings);
    }
    let span = sections.first().map_or(0..0, Section::span);
    let mut list: Vec<Listed> = Vec::new();
    for section in &sections {
        let name = node_name(section, &list, findings);
        let witness = section.boolean("witness", findings).is_some_and(|at| at.value);
        list.push(Listed { name, witness });
    }
    if let [_] = list.as_slice() {
        findings.warn(
            span.clone(),
            "there is only one node: nothing takes over from it",
            "add a [[node]] for each machine of the cluster",
        );
    }
    Nodes { list, span }
}

fn node_name(section: &Section<'_>, earlier: &[Listed], findings: &mut Findings<'_>) -> Option<At<String>> {
    let name = section.required("name", "alpha", findings)?;
    if let Err(error) = value::name(name.value) {
        findings.error(name.span, format!("`name` in [[node]] {error}"), "write the host name of the node");
        return None;
    }
    let same = |node: &Listed| {
        node.name.as_ref().is_some_and(|at| at.value.to_lowercase() == name.value.to_lowercase())
    };
    if earlier.iter().any(same) {
        let message = format!("node `{}` is listed twice", name.value);
        findings.error(name.span.clone(), message, "remove one, or give each its own name");
    }
    Some(At::new(name.value.to_owned(), name.span))
}

pub(super) fn cluster(
    root: &Section<'_>,
    nodes: &Nodes,
    hostname: &str,
    base: &Path,
    findings: &mut Findings<'_>,
) -> Option<Cluster> {
    let keys = ["name", "key_file", "node", "autojoin"];
    let Some(section) = root.table("cluster", "[cluster]", &keys, findings) else {
        root.demand("cluster", "there is no [cluster]", "add [cluster] with name = \"NAME\"", findings);
        return None;
    };
    let name = section.required("name", "web", findings);
    if let Some(At { value: text, span }) = &name
        && let Err(error) = value::name(text)
    {
        let message = format!("`name` in [cluster] {error}");
        findings.error(span.clone(), message, "write a short word, the same on every node");
    }
    let key_file = path(&section, "key_file", KEY_FILE, base, findings);
    let words = [("none", Autojoin::None), ("other", Autojoin::Other), ("any", Autojoin::Any)];
    let autojoin = section.choice("autojoin", &words, findings);
    let autojoin = autojoin.unwrap_or(At::new(Autojoin::None, section.key_span("autojoin")));
    let me = me(&section, nodes, hostname, autojoin.value, findings);
    Some(Cluster { name: name?.value.to_owned(), me: me?, key_file, autojoin })
}

fn me(
    section: &Section<'_>,
    nodes: &Nodes,
    hostname: &str,
    autojoin: Autojoin,
    findings: &mut Findings<'_>,
) -> Option<Me> {
    let may_join = |name: &str| autojoin == Autojoin::Any && value::name(name).is_ok();
    if section.has("node") {
        let node = section.string("node", "alpha", findings)?;
        let id = nodes.find(node.value).map(Me::Listed);
        if id.is_none() && may_join(node.value) {
            return Some(Me::Unlisted(At::new(node.value.to_owned(), node.span)));
        }
        if id.is_none() && nodes.are_named() {
            let message = format!("this node, `{}`, is not in the list of nodes", node.value);
            findings.error(node.span, message, advice(node.value, &nodes.names()));
        }
        return id;
    }
    let short = hostname.split('.').next().unwrap_or(hostname);
    let id = nodes.find(hostname).or_else(|| nodes.find(short)).map(Me::Listed);
    if id.is_none() && may_join(short) {
        return Some(Me::Unlisted(At::new(short.to_owned(), section.span())));
    }
    if id.is_none() && nodes.are_named() {
        let names = nodes.names();
        let example = names.first().copied().unwrap_or("alpha");
        findings.missing(
            nodes.span.clone(),
            format!("this host is called `{hostname}`, and no [[node]] has that name"),
            format!("rename a [[node]] to the host name, or say in [cluster] which one this is: node = \"{example}\""),
        );
    }
    id
}

/// A path; a relative one starts at the directory of the configuration file.
pub(super) fn path(
    section: &Section<'_>,
    key: &str,
    default: &str,
    base: &Path,
    findings: &mut Findings<'_>,
) -> PathBuf {
    let Some(written) = section.string(key, default, findings) else { return PathBuf::from(default) };
    if written.value.is_empty() || written.value.contains('\0') {
        let message = format!("`{key}` in {} is not a path", section.title());
        findings.error(written.span, message, format!("write a path, as in {key} = \"{default}\""));
    }
    base.join(written.value)
}
