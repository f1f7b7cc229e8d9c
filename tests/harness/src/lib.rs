//! tests/harness/src/lib.rs
