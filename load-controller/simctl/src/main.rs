//! load-controller/simctl/src/main.rs
fn main() {}
