//! Entry point: parse the arguments, dispatch, turn the outcome into an exit code.

fn main() {}
