//! broker/src/lib.rs
