//! The first process of the machines that `cargo xtask test --vm` boots: their `/init`. See [`agent_tests::vm::guest`].

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!(
            "xbeat-vm-guest is the first process of a virtual machine, and nothing else: run cargo xtask test --vm"
        );
        return ExitCode::FAILURE;
    }
    agent_tests::vm::guest::run()
}
