//! Tests of `life`.
