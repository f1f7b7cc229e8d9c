//! tests/xtask/src/main.rs
fn main() {}
