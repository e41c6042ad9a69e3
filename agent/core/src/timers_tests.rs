//! Tests of `timers`.
