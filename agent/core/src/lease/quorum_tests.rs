//! Tests of `quorum`.
