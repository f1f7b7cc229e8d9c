//! How bytes travel to a broker and back, without ever blocking: TCP, and over it TLS, WebSocket, or both.
//!
//! ```text
//! session ══► Connection ──────────────────────────────► socket      mqtt://
//!                 └─► Layers: WebSocket frames, TLS records ─┘        ws://, mqtts://, wss://
//! ```
//! A [`Route`] says how a fleet reaches one address of its broker and is shared by all threads, as are the fleet's
//! `Brokers`; a `Transport` is what the connections of one thread share. A plain connection knows nothing of either.

pub(crate) mod brokers;
mod connection;
mod errand;
mod error;
mod files;
mod layers;
mod ports;
pub(crate) mod resolver;
mod route;
mod socket;
mod tls;
mod websocket;

pub(crate) use errand::Errand;
pub use errand::introduce;
pub use error::Error;
pub use files::make_room;
pub use ports::{Ports, local_range};
pub use route::{Route, RouteError};
pub use tls::Failure as TlsFailure;
pub use websocket::Failure as WebSocketFailure;
#[cfg(fuzzing)]
pub use websocket::fuzzing;

pub(crate) use connection::{Connection, Read, Written};
pub(crate) use error::{is_own, label};
pub(crate) use resolver::NoAddress;
pub(crate) use route::Transport;
