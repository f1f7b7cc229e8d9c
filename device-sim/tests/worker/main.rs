//! The worker's program over its API, as a controller and an operator use it: real processes, sockets and broker.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod alone;
mod pods;
mod process;
