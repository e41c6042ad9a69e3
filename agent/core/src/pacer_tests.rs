//! Tests of `pacer`.
