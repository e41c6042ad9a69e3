//! The rule for skipping: a test that needs the kernel's permission says `SKIP:` and why, and passes, unless
//! `XBEAT_REQUIRE_PRIVILEGED=1` demands that it runs.

use std::sync::OnceLock;

use aya::{programs::ProgramType, sys::is_program_supported};

/// Set to 1 where skipping must not happen.
pub const REQUIRE: &str = "XBEAT_REQUIRE_PRIVILEGED";

/// Whether this process may make namespaces and load XDP programs. If not, says so once for the test `name`.
///
/// # Panics
/// When it may not, and [`REQUIRE`] is set.
pub fn privileged(name: &str) -> bool {
    static REASON: OnceLock<Option<String>> = OnceLock::new();
    match REASON.get_or_init(missing) {
        None => true,
        Some(reason) => {
            assert!(std::env::var_os(REQUIRE).is_none_or(|value| value != "1"), "{name} must run: {reason}");
            println!("SKIP: {name}: {reason}");
            false
        }
    }
}

/// The other way round, for the test that runs in this thread.
///
/// # Panics
/// As [`privileged`].
pub fn skip() -> bool {
    !privileged(std::thread::current().name().unwrap_or("this test"))
}

fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    match is_program_supported(ProgramType::Xdp) {
        Ok(true) => None,
        Ok(false) => Some("the kernel does not load XDP programs".to_owned()),
        Err(error) => Some(format!("bpf() is not usable: {error}")),
    }
}
