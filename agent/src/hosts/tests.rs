//! Who may join, who may not and why; and that the cache survives what is done to its file.

use std::collections::BTreeMap;
use std::path::Path;

use agent_common::NodeId;
use proptest::prelude::*;

use super::{FILE, Heard, HostLink, Hosts, HostsError, JoinError, Listed, load, save};
use crate::config;
use crate::settings::{Autojoin, Cast, Settings};

fn names() -> Vec<String> {
    ["alpha", "beta", "gamma"].map(str::to_owned).to_vec()
}

fn id(raw: u8) -> NodeId {
    NodeId::new(raw).unwrap()
}

#[test]
fn whoever_is_new_joins_once() {
    let names = names();
    let mut hosts = Hosts::default();
    assert_eq!(hosts.heard("delta", id(9), Listed(&names), 7), Ok(true));
    assert_eq!(hosts.heard("delta", id(9), Listed(&names), 8), Ok(false));
    assert_eq!(hosts.find("Delta").map(|host| (host.id, host.joined)), Some((9, 7)));
}

#[test]
fn names_and_ids_that_are_taken_are_refused() {
    let names = names();
    let mut hosts = Hosts::default();
    hosts.heard("delta", id(9), Listed(&names), 7).unwrap();
    let before = hosts.clone();
    for (name, raw, error) in [
        ("beta", 12, JoinError::Listed("beta".to_owned())),
        ("BETA", 12, JoinError::Listed("BETA".to_owned())),
        ("epsilon", 1, JoinError::ListedId { id: 1, holder: "beta".to_owned(), listed: 3 }),
        ("delta", 10, JoinError::NameTaken { name: "delta".to_owned(), id: 9 }),
        ("epsilon", 9, JoinError::IdTaken { id: 9, holder: "delta".to_owned(), name: "epsilon".to_owned() }),
        ("two words", 10, JoinError::Name("two words".to_owned())),
        ("bell\u{7}", 10, JoinError::Name("bell".to_owned())),
    ] {
        assert_eq!(hosts.heard(name, id(raw), Listed(&names), 8), Err(error));
        assert_eq!(hosts, before, "{name} changed something");
    }
}

#[test]
fn who_was_removed_stays_away_until_added() {
    let names = names();
    let mut hosts = Hosts::default();
    hosts.heard("delta", id(9), Listed(&names), 7).unwrap();
    assert_eq!(hosts.remove("beta", Listed(&names), 8), Err(JoinError::Listed("beta".to_owned())));
    assert_eq!(hosts.remove("omega", Listed(&names), 8), Err(JoinError::Unknown("omega".to_owned())));
    assert_eq!(hosts.remove("delta", Listed(&names), 8), Ok(9));
    assert_eq!(hosts.heard("delta", id(9), Listed(&names), 9), Err(JoinError::Removed("delta".to_owned())));
    assert_eq!(hosts.add("delta", Some(9), BTreeMap::new(), Listed(&names), 10), Ok(9));
    assert_eq!(hosts.heard("delta", id(9), Listed(&names), 11), Ok(false));
}

#[test]
fn an_operator_changes_id_and_addresses_and_keeps_the_rest() {
    let names = names();
    let mut hosts = Hosts::default();
    hosts.heard("delta", id(9), Listed(&names), 7).unwrap();
    let address = || BTreeMap::from([("ucast:eth0".to_owned(), "10.0.0.4".parse().unwrap())]);
    assert_eq!(hosts.add("delta", None, address(), Listed(&names), 8), Ok(9));
    assert_eq!(hosts.add("delta", Some(20), BTreeMap::new(), Listed(&names), 9), Ok(20));
    let host = hosts.find("delta").unwrap();
    assert_eq!((host.id, host.joined, &host.addresses), (20, 7, &address()));
    assert_eq!(
        hosts.add("epsilon", Some(20), BTreeMap::new(), Listed(&names), 9),
        Err(JoinError::IdTaken { id: 20, holder: "delta".to_owned(), name: "epsilon".to_owned() })
    );
}

#[test]
fn ids_run_out() {
    let names = names();
    let mut hosts = Hosts::default();
    for index in 0..29 {
        hosts.add(&format!("n{index}"), None, BTreeMap::new(), Listed(&names), 0).unwrap();
    }
    assert_eq!(hosts.add("last", None, BTreeMap::new(), Listed(&names), 0), Err(JoinError::Full));
}

proptest! {
    #[test]
    fn an_own_id_is_free_and_always_the_same(name in "[a-z]{1,20}", taken in proptest::collection::vec(3u8..32, 0..20)) {
        let names = names();
        let mut hosts = Hosts::default();
        for raw in taken {
            let _ = hosts.add(&format!("x{raw}"), Some(raw), BTreeMap::new(), Listed(&names), 0);
        }
        let own = hosts.free_id(&name, Listed(&names)).unwrap();
        prop_assert!((3..32).contains(&own) && hosts.at(own).is_none());
        prop_assert_eq!(hosts.free_id(&name, Listed(&names)), Some(own));
    }
}

#[test]
fn the_file_comes_back_and_a_damaged_one_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let state_dir = directory.path().join("state");
    assert_eq!(load(&state_dir).unwrap(), Hosts::default());
    let mut hosts = Hosts { own: Some(17), ..Hosts::default() };
    let address = BTreeMap::from([("ucast:eth0".to_owned(), "fd00::4".parse().unwrap())]);
    hosts.add("delta", Some(9), address, Listed(&names()), 7).unwrap();
    hosts.add("epsilon", Some(10), BTreeMap::new(), Listed(&names()), 7).unwrap();
    hosts.remove("epsilon", Listed(&names()), 8).unwrap();
    save(&state_dir, &hosts).unwrap();
    assert_eq!(load(&state_dir).unwrap(), hosts);
    for (text, said) in [
        ("[[host]]\nname = \"a\"\n", "missing field"),
        ("own = 40\n", "40 is no id"),
        ("nonsense", "hosts.toml"),
        ("[[host]]\nname = \"a b\"\nid = 9\njoined = 0\n", "no name of a node"),
        (
            "[[host]]\nname = \"a\"\nid = 9\njoined = 0\n[[host]]\nname = \"b\"\nid = 9\njoined = 0\n",
            "the same id 9",
        ),
    ] {
        std::fs::write(state_dir.join(FILE), text).unwrap();
        let error = load(&state_dir).unwrap_err();
        assert!(matches!(error, HostsError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
}

fn settings(cluster: &str, links: &str, state_dir: &Path, host: &str) -> Result<Settings, String> {
    let text = format!(
        "[cluster]\nname = \"x\"\n{cluster}\n[[node]]\nname = \"alpha\"\n[[node]]\nname = \"beta\"\n[[node]]\nname = \"gamma\"\n\
         {links}\n[runtime]\nstate_dir = \"{}\"\n",
        state_dir.display()
    );
    let file = state_dir.join("xbeat.toml");
    let named = text.replacen("[cluster]\n", &format!("[cluster]\nnode = \"{host}\"\n"), 1);
    std::fs::write(&file, named).unwrap();
    config::load(&file).map(|(settings, _)| settings).map_err(|errors| errors.render(config::Look::Plain))
}

const BCAST: &str = "[[link]]\ntype = \"bcast\"\ninterface = \"eth0\"";
const UCAST: &str = "[[link]]\ntype = \"ucast\"\ninterface = \"eth0\"\n\
                     peers = { alpha = \"10.0.0.1\", beta = \"10.0.0.2\", gamma = \"10.0.0.3\" }";

#[test]
fn the_settings_have_room_for_whoever_joins() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let none = settings("", BCAST, place, "alpha").unwrap();
    assert_eq!((none.nodes.len(), none.listed(), none.autojoin), (3, 3, Autojoin::None));
    let other = settings("autojoin = \"other\"", BCAST, place, "alpha").unwrap();
    assert_eq!((other.nodes.len(), other.listed(), other.known_nodes().count()), (32, 3, 3));
    assert!(settings("autojoin = \"other\"", BCAST, place, "delta").unwrap_err().contains("not in the list"));
    let any = settings("autojoin = \"any\"", BCAST, place, "delta").unwrap();
    assert_eq!(any.node_name(any.me), "delta");
    assert!(any.me.index() >= 3);
    assert!(any.nodes[any.me.index()].joined);
    super::keep_own(&any).unwrap();
    assert_eq!(load(place).unwrap().own, Some(any.me.raw()));
    // The id stays although another would be chosen now.
    let mut hosts = load(place).unwrap();
    hosts.own = Some(31);
    save(place, &hosts).unwrap();
    assert_eq!(settings("autojoin = \"any\"", BCAST, place, "delta").unwrap().me, id(31));
    let refused = settings("autojoin = \"any\"", UCAST, place, "alpha").unwrap_err();
    assert!(refused.contains("nobody can join"), "{refused}");
    let refused = settings("autojoin = \"all\"", BCAST, place, "alpha").unwrap_err();
    assert!(refused.contains("cannot be \"all\""), "{refused}");
    std::fs::write(place.join(FILE), "nonsense").unwrap();
    let refused = settings("", BCAST, place, "alpha").unwrap_err();
    assert!(refused.contains("hosts.toml"), "{refused}");
}

#[test]
fn an_added_node_has_its_addresses_and_no_vote() {
    let directory = tempfile::tempdir().unwrap();
    let before = settings("", UCAST, directory.path(), "alpha").unwrap();
    let mut link = HostLink::new(&before);
    let address = |link: &str| BTreeMap::from([(link.to_owned(), "10.0.0.9".parse().unwrap())]);
    let wrong = link.add(&before, "delta", Some(5), address("ucast:eth7"), 0).unwrap_err();
    assert!(wrong.contains("there are: ucast:eth0"), "{wrong}");
    assert_eq!(link.add(&before, "delta", Some(5), address("ucast:eth0"), 0), Ok(id(5)));
    let after = settings("", UCAST, directory.path(), "alpha").unwrap();
    assert_eq!(after.nodes.len(), 6);
    assert_eq!(after.known_nodes().map(|(id, _)| id.raw()).collect::<Vec<u8>>(), [0, 1, 2, 5]);
    let Cast::Unicast { addresses } = &after.links[0].network().unwrap().cast else { panic!("ucast") };
    assert_eq!(addresses[5], Some("10.0.0.9".parse().unwrap()));
    assert_eq!(addresses[4], None);
}

#[test]
fn who_contradicts_the_list_is_told_once() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings("autojoin = \"other\"", BCAST, directory.path(), "alpha").unwrap();
    let mut link = HostLink::new(&settings);
    let mut heard = |raw, name| link.heard(&settings, id(raw), name, 0).0;
    assert_eq!(heard(1, "beta"), Heard::Known);
    let Heard::Refused(reason) = heard(1, "gamma") else { panic!("accepted") };
    assert!(reason.contains("the id of beta"), "{reason}");
    assert_eq!(heard(1, "gamma"), Heard::Known);
    assert_eq!(heard(7, "delta"), Heard::Joined);
}
