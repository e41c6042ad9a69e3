//! Tests of `groups`.
