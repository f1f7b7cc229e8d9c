//! How bytes travel to a broker and back, without ever blocking.

pub(crate) mod resolver;
mod tcp;

pub(crate) use tcp::{Connection, Read, Written};
