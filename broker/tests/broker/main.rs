//! The broker over real sockets, in this process and as a program of its own.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "everything here is a test, also outside of the functions marked as such"
)]

mod client;
mod delivery;
mod fleet;
mod front;
mod hostile;
mod process;
mod program;
mod sessions;
mod users;
