//! Which files are accepted, what is said of the others, and that no secret is in what is said.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::generate::{KeygenError, add, create};
use super::*;

struct Place {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.toml");
    Place { _dir: dir, path }
}

fn written(text: &str) -> Place {
    let place = place();
    fs::write(&place.path, text).unwrap();
    fs::set_permissions(&place.path, Permissions::from_mode(0o600)).unwrap();
    place
}

fn id(raw: u8) -> KeyId {
    KeyId::new(raw).unwrap()
}

fn base64(length: usize) -> String {
    STANDARD.encode(vec![0x5a; length])
}

fn findings(text: &str) -> Vec<Finding> {
    match load(&written(text).path) {
        Err(KeyError::Invalid { findings, .. }) => findings,
        other => panic!("not refused for its content: {other:?}"),
    }
}

#[test]
fn a_file_of_keygen_is_read() {
    let Place { path, .. } = &place();
    create(path, id(7)).unwrap();
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o600);
    let ring = load(path).unwrap();
    assert_eq!(ring.sign_with, id(7));
    assert_eq!(ring.states.len(), 256);
    let valid: Vec<usize> = (0..256).filter(|place| ring.states[*place].valid == 1).collect();
    assert_eq!(valid, [7]);
}

#[test]
fn two_keys_differ() {
    let (one, two) = (place(), place());
    create(&one.path, id(1)).unwrap();
    create(&two.path, id(1)).unwrap();
    assert_ne!(fs::read_to_string(&one.path).unwrap(), fs::read_to_string(&two.path).unwrap());
}

#[test]
fn keygen_overwrites_nothing() {
    let Place { path, .. } = &written("precious");
    assert!(matches!(create(path, id(1)), Err(KeygenError::Exists { .. })));
    assert_eq!(fs::read_to_string(path).unwrap(), "precious");
    assert!(matches!(add(path, None), Err(KeygenError::Present(_))));
    assert_eq!(fs::read_to_string(path).unwrap(), "precious");
}

#[test]
fn keygen_makes_the_directory() {
    let Place { path, .. } = &place();
    let path = path.parent().unwrap().join("etc/xbeat/keys.toml");
    create(&path, id(1)).unwrap();
    load(&path).unwrap();
}

#[test]
fn a_key_is_added_and_the_signer_stays() {
    let Place { path, .. } = &place();
    create(path, id(2)).unwrap();
    let before = load(path).unwrap();
    assert_eq!(add(path, None).unwrap(), id(1));
    assert_eq!(add(path, None).unwrap(), id(3));
    assert_eq!(add(path, Some(id(9))).unwrap(), id(9));
    assert!(matches!(add(path, Some(id(9))), Err(KeygenError::IdTaken { id: 9 })));
    let after = load(path).unwrap();
    assert_eq!(after.sign_with, id(2));
    assert_eq!(after.states[2].inner, before.states[2].inner);
    assert_eq!(after.states.iter().filter(|state| state.valid == 1).count(), 4);
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o600);
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let Place { path, .. } = &place();
    create(path, id(1)).unwrap();
    for mode in [0o640, 0o604, 0o660, 0o602, 0o601] {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let error = load(path).unwrap_err();
        assert!(matches!(error, KeyError::Exposed { .. }), "{mode:o}: {error}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
    fs::set_permissions(path, Permissions::from_mode(0o400)).unwrap();
    assert!(load(path).is_ok());
}

#[test]
fn what_is_no_file_is_refused_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(load(dir.path()), Err(KeyError::NotAFile { .. })));
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR).unwrap();
    assert!(matches!(load(&pipe), Err(KeyError::NotAFile { .. })));
    let error = load(&dir.path().join("none")).unwrap_err();
    assert!(error.to_string().contains("xbeat keygen"), "{error}");
}

#[test]
fn all_mistakes_of_a_file_are_told() {
    let text = format!(
        "sign_with = 300\n[[key]]\nid = 1\nsecret = \"{}\"\n[[key]]\nid = 0\nsecret = \"{}\"\n\
         [[key]]\nid = 2\nsecret = \"no base64!\"\nsercet = 1\n",
        base64(31),
        base64(65)
    );
    let lines: Vec<usize> = findings(&text).iter().map(|finding| finding.line).collect();
    assert_eq!(lines, [1, 4, 6, 7, 10, 11]);
}

#[test]
fn contradictions_are_refused() {
    let key = |id: u8| format!("[[key]]\nid = {id}\nsecret = \"{}\"\n", base64(32));
    assert!(load(&written(&format!("sign_with = 1\n{}", key(1))).path).is_ok());
    for (text, expected) in [
        (format!("sign_with = 2\n{}", key(1)), "names key 2"),
        (format!("sign_with = 1\n{}{}", key(1), key(1)), "twice"),
        (key(1), "lacks `sign_with`"),
        ("sign_with = 1\n".to_owned(), "no [[key]]"),
        ("sign_with = 1\nkey = 3\n".to_owned(), "list of tables"),
    ] {
        let found = findings(&text);
        assert!(found.iter().any(|finding| finding.message.contains(expected)), "{text}: {found:?}");
    }
}

#[test]
fn no_message_shows_a_secret() {
    let secret = "Sup3rSecretSup3rSecretSup3rSecret";
    for text in [
        format!("sign_with = 1\n[[key]]\nid = 1\nsecret = \"{secret}\"\n"),
        format!("sign_with = 1\n[[key]]\nid = 1\nsecret = {secret}\n"),
        format!("sign_with = 1\n[[key]]\nid = 1\nsecret = \"{secret}\n"),
        format!("sign_with = 1\n[[key]]\nid = \"{secret}\"\nsecret = [\"{secret}\"]\n"),
        format!("sign_with = \"{secret}\"\n"),
    ] {
        let error = load(&written(&text).path).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("Sup3r"), "{error:?}");
    }
    let Place { path, .. } = &place();
    create(path, id(1)).unwrap();
    let ring = load(path).unwrap();
    assert!(!format!("{ring:?}").contains(&format!("{}", ring.states[1].inner[0])));
}

#[test]
fn states_are_overwritten() {
    let mut states = [KeyState::from_secret(&[7; SECRET_MIN]), KeyState::default()];
    wipe(&mut states);
    for state in states {
        assert_eq!((state.inner, state.outer, state.screen, state.valid), ([0; 8], [0; 8], [0; 2], 0));
    }
}
