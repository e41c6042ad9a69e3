//! Tests of `peer`.
