//! Tests of `two_node`.
