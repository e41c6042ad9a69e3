//! Tests of the file of the carried state, and of what a configuration may change.
