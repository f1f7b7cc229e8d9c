//! HTTP between the project's own processes: how controller and local run speak to workers, and a second terminal to a run.
//!
//! | module | idea |
//! | --- | --- |
//! | [`address`] | where a process listens: a TCP socket that wants a token, or a Unix socket that is open to its owner |
//! | [`client`] | one exchange with a deadline, so many at a time |
//! | [`calls`] | readings and plans of many workers at once; answers come in any order |
//! | [`error`] | why there is no answer |

pub mod address;
pub mod calls;
pub mod client;
pub mod error;

pub use address::Address;
pub use calls::Calls;
pub use client::Client;
pub use error::CallError;
