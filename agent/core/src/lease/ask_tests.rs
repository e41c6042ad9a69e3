//! Tests of `ask`.
