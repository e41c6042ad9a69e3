//! Entry point: parse the arguments, dispatch, turn the outcome into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    xbeat::cli::main().into()
}
