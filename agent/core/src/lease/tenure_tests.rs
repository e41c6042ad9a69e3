//! Tests of `tenure`.
