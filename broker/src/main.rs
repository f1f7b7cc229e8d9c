//! broker/src/main.rs
fn main() {}
