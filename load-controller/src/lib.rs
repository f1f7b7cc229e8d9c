//! load-controller/src/lib.rs
