//! Tests of `owner`.
