//! device-sim/src/main.rs
fn main() {}
