//! device-sim/src/lib.rs
