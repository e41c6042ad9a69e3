//! Every example in configs/ is valid, and the alerts and the dashboard ask for metrics that exist.

#![expect(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agent_common::maps::{COUNTERS, Direction};
use agent_core::{Instant, Snapshot};
use xbeat::bridge::{KernelView, Keyring, Process};
use xbeat::ctl::metrics;
use xbeat::ctl::status::Sources;
use xbeat::keys::{self, KeyError};
use xbeat::run::Invocation;
use xbeat::stats::Stats;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs")
}

fn examples() -> Vec<(String, String)> {
    let mut examples: Vec<(String, String)> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    examples.sort();
    examples
}

#[test]
fn every_example_is_valid() {
    let examples = examples();
    assert!(examples.len() >= 4, "the examples are gone: {examples:?}");
    for (name, text) in &examples {
        for host in ["alpha", "beta"] {
            let read = xbeat::config::parse(name, text, host);
            let (settings, warnings) =
                read.unwrap_or_else(|errors| panic!("{}", errors.render(xbeat::config::Look::Plain)));
            assert_eq!(settings.node_name(settings.me), host);
            // The one doubt that an example may raise is the one that it explains.
            let doubtful = warnings.iter().filter(|warning| !warning.message.contains("tie_break"));
            assert_eq!(doubtful.count(), 0, "{name}: {warnings:#?}");
        }
    }
}

#[test]
fn the_smallest_example_is_small() {
    let (_, text) = examples().into_iter().find(|(name, _)| name.ends_with("two-node.toml")).unwrap();
    assert!(text.lines().count() <= 30, "{} lines", text.lines().count());
}

#[test]
fn the_example_of_a_key_file_cannot_be_used_as_it_is() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = tempfile::tempdir().unwrap();
    let copy = place.path().join("keys.toml");
    std::fs::copy(directory().join("keys.toml.example"), &copy).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o600)).unwrap();
    let Err(KeyError::Invalid { findings, .. }) = keys::load(&copy) else {
        panic!("the example is a usable key")
    };
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert!(findings[0].message.contains("base64"), "{findings:#?}");
}

struct NoKernel;

impl KernelView for NoKernel {
    fn counters(&self) -> [u64; COUNTERS] {
        [0; COUNTERS]
    }

    fn gate_drops(&self, _place: u32, _direction: Direction) -> u64 {
        0
    }

    fn set_keys(&mut self, _keys: &Keyring) -> std::io::Result<()> {
        Ok(())
    }
}

/// Names of metrics without the ends that a histogram's or counter's series have.
fn families() -> Vec<String> {
    let (name, text) = examples().into_iter().find(|(name, _)| name.ends_with("two-node.toml")).unwrap();
    let (settings, _) = xbeat::config::parse(&name, &text, "alpha").unwrap();
    let (stats, modes, snapshot) = (Stats::default(), BTreeMap::new(), Snapshot::default());
    let now = Instant(1);
    let config = PathBuf::from("xbeat.toml");
    let process = Process::new(Invocation { config, socket: None, binary: "xbeat".into() }, now);
    let sources = Sources {
        settings: &settings,
        stats: &stats,
        kernel: &NoKernel,
        modes: &modes,
        interfaces: &[],
        gate: agent_core::config::GateKind::Kernel,
        snapshot: &snapshot,
        process: &process,
        now,
    };
    let text = metrics::render(&sources);
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_exist() {
    let families = families();
    for file in ["alerts.yaml", "grafana-dashboard.json"] {
        let text = std::fs::read_to_string(directory().join(file)).unwrap();
        let asked: Vec<&str> = text
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.starts_with("xbeat_"))
            .collect();
        assert!(asked.len() > 5, "{file} asks for {asked:?}");
        for name in asked {
            let known = ["", "_total", "_bucket", "_count", "_sum"].iter().any(|end| {
                name.strip_suffix(end).is_some_and(|name| families.iter().any(|family| family == name))
            });
            assert!(known, "{file} asks for {name}, which is none of {families:?}");
        }
    }
}

#[test]
fn the_pages_list_every_metric_and_every_key() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let commands = std::fs::read_to_string(docs.join("commands.md")).unwrap();
    for family in families() {
        assert!(commands.contains(&format!("`{family}")), "docs/commands.md does not list {family}");
    }
    let page = std::fs::read_to_string(docs.join("configuration.md")).unwrap();
    let (_, full) = examples().into_iter().find(|(name, _)| name.ends_with("full.toml")).unwrap();
    let keys =
        full.lines().filter_map(|line| line.trim_start_matches("# ").split_once(" = ")).map(|(key, _)| key);
    let mut count = 0;
    for key in keys.filter(|key| !key.contains(' ')) {
        count += 1;
        assert!(page.contains(&format!("`{key}`")), "docs/configuration.md does not say what {key} is");
    }
    assert!(count > 25, "only {count} keys were looked for");
}
