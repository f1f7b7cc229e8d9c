//! device-sim/contract/src/lib.rs
