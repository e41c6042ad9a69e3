//! Tests of `slew`.
