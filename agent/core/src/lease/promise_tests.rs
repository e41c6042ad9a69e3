//! Tests of `promise`.
