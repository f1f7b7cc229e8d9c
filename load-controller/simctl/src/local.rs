//! A run on this machine: its worker processes, its control socket, and how a second terminal finds it.

pub(crate) mod control;
mod hook;
mod log;
pub(crate) mod processes;
pub(crate) mod run;
pub(crate) mod signals;
pub(crate) mod socket;
