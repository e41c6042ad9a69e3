//! Reads the configuration file into [`Settings`], reporting everything that is wrong at once, with its line and what
//! to write instead. One module a section; what spans sections is checked where the later one is read.

mod cluster;
mod groups;
mod joining;
mod links;
mod ping;
mod quorum;
pub(crate) mod report;
mod runtime;
pub(crate) mod section;
mod serial;
mod timing;
mod value;

use std::path::Path;

use toml::de::DeTable;

use crate::hosts::{self, Hosts};
use crate::settings::Settings;

pub use cluster::KEY_FILE;
use joining::Cache;
use quorum::Decided;
use report::Findings;
pub use report::{ConfigErrors, FINDINGS_MAX, Finding, Invalid, Look, Warning};
use section::Section;
pub use value::show_duration;

/// Largest file that is read.
pub const FILE_MAX: u64 = 1024 * 1024;

const SECTIONS: &[&str] = &[
    "cluster", "timing", "node", "quorum", "link", "group", "ping", "control", "metrics", "watchdog",
    "runtime",
];

/// Reads the file for the host that this runs on.
///
/// # Errors
/// The file cannot be read, or is wrong; then with everything that is wrong in it.
pub fn load(path: &Path) -> Result<(Settings, Vec<Warning>), ConfigErrors> {
    let unreadable = |source| ConfigErrors::Unreadable { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > FILE_MAX {
        let source = std::io::Error::other(format!("{size} bytes are more than any configuration needs"));
        return Err(unreadable(source));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let host = nix::unistd::gethostname().map_err(|errno| unreadable(errno.into()))?;
    parse_with(&path.display().to_string(), &text, &host.to_string_lossy(), &hosts::load)
}

/// Reads a text. `name` is the file's, for messages and as the base of relative paths; `hostname` is the node's name
/// unless the text gives one.
///
/// # Errors
/// Everything that is wrong in it.
pub fn parse(name: &str, text: &str, hostname: &str) -> Result<(Settings, Vec<Warning>), ConfigErrors> {
    parse_with(name, text, hostname, &|_| Ok(Hosts::default()))
}

/// Whether a node, a group or a cluster may be called so.
pub(crate) fn is_name(text: &str) -> bool {
    value::name(text).is_ok()
}

fn parse_with(
    name: &str,
    text: &str,
    hostname: &str,
    cache: Cache<'_>,
) -> Result<(Settings, Vec<Warning>), ConfigErrors> {
    let mut findings = Findings::new(text);
    let (document, syntax) = DeTable::parse_recoverable(text);
    for error in &syntax {
        findings.syntax(
            error.span().unwrap_or(0..0),
            error.message(),
            "correct the TOML; see https://toml.io",
        );
    }
    let root = Section::new("the file", document.get_ref(), 0..0, SECTIONS, &mut findings);
    let settings = read(name, &root, hostname, cache, &mut findings);
    match settings {
        Some(settings) if findings.is_sound() => Ok((settings, findings.into_warnings())),
        Some(_) | None => Err(findings.into_errors(name)),
    }
}

fn read(
    name: &str,
    root: &Section<'_>,
    hostname: &str,
    cache: Cache<'_>,
    findings: &mut Findings<'_>,
) -> Option<Settings> {
    let base = Path::new(name).parent().unwrap_or(Path::new(""));
    let nodes = cluster::nodes(root, findings);
    let cluster = cluster::cluster(root, &nodes, hostname, base, findings);
    let (timing, reachtime) = timing::timing(root, findings);
    let quorum = quorum::quorum(root, &nodes, findings);
    let mut links = links::links(root, &nodes, timing.keepalive, findings);
    let groups = groups::groups(root, &nodes, &links, findings);
    let load = serial::Load { nodes: nodes.count(), groups: groups.len(), timing };
    serial::stretch(&mut links, &nodes, load, findings);
    let (decided, rule) = match quorum {
        Some(Decided { quorum, vote_change, ping }) => (Some((quorum, vote_change)), ping),
        None => (None, None),
    };
    let around = ping::Around { links: &links, groups: &groups, timing };
    let pings = ping::pings(root, &around, rule, findings);
    let reachtime = ping::reachtime(reachtime, &pings.settings, findings);
    let control_socket = runtime::control(root, base, findings);
    let metrics_listen = runtime::metrics(root, findings);
    let watchdog = runtime::watchdog(root, base, findings);
    let runtime = runtime::runtime(root, base, findings);
    let cluster = cluster?;
    let joined = cache(&runtime.state_dir);
    let joining = joining::joining(cluster.me, &cluster.autojoin, &nodes.names(), &links, joined, findings)?;
    let (quorum, vote_change) = decided?;
    let mut settings = Settings {
        cluster_id: cluster_id(&cluster.name),
        cluster: cluster.name,
        me: joining.me,
        nodes: nodes.into_settings(),
        timing,
        quorum,
        vote_change,
        links: links.into_iter().map(|link| link.value).collect(),
        groups,
        pings: pings.settings,
        tie_break_ping: pings.tie_break,
        reachtime,
        autojoin: cluster.autojoin.value,
        key_file: cluster.key_file,
        control_socket,
        metrics_listen,
        watchdog,
        runtime,
    };
    joining.apply(&mut settings);
    Some(settings)
}

/// First four bytes of SHA-256 of the cluster's name.
pub fn cluster_id(name: &str) -> u32 {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(name.as_bytes());
    digest.iter().take(4).fold(0, |id, byte| id << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests;
