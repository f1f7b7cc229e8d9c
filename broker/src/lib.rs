//! The default meeting point of a fleet: an MQTT 3.1.1 broker that needs nothing installed.
//!
//! rumqttd does the routing; everything a client sees is done here, because rumqttd's own front
//! has edges that a fleet of devices hits (see `router.rs` for the list). It is meant for one machine
//! and some thousand devices. With a folder ([`Config::data`]) persistent sessions and retained
//! messages outlive an orderly end; without one, and after a kill, they are gone with the process.
//! Real load goes to a broker of the user's own.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use broker::{Broker, Config};
//! use tokio_util::sync::CancellationToken;
//!
//! let config = Config { listen: "127.0.0.1:0".parse()?, ..Config::default() };
//! let broker = Broker::bind(config)?;
//! println!("mqtt://{}", broker.address());
//! let metrics = broker.metrics();
//! broker.run(CancellationToken::new()).await?;
//! println!("{:?}", metrics.snapshot());
//! # Ok(())
//! # }
//! ```
//!
//! | module | idea |
//! | --- | --- |
//! | `server` | [`Broker`]: listener, connection tasks, shutdown |
//! | `connection` | one client, from accept to close |
//! | `socket` | frames in, bytes out |
//! | `wire` | packets from bytes and bytes from packets |
//! | `session` | the server's half of an MQTT session, without I/O |
//! | `hub` | sessions and subscriptions; who gets which message |
//! | `batch` | what goes through the router in one turn |
//! | `router` | rumqttd: topics to filters |
//! | `retained` | the last message of each topic |
//! | `store` | what outlives the process, as a file |
//! | `limits` | what is taken on, from a memory budget |
//! | `users`, `config`, `metrics`, `http` | who may connect, the file, the figures and their port |

mod batch;
mod config;
mod connection;
mod http;
mod hub;
mod limits;
mod message;
mod metrics;
mod retained;
mod router;
mod server;
mod session;
mod socket;
mod store;
mod users;
mod wire;

pub use config::{ConfigError, File, LimitsFile};
pub use http::endpoints;
pub use limits::{
    CONNECTION_BYTES, DEVICE_BYTES, Limits, MEMORY_DEFAULT, RECONNECT_BYTES, SPARE_CONNECTIONS, TooManyDevices,
};
pub use metrics::{Metrics, Snapshot};
pub use router::RouterError;
pub use server::{BindError, Broker, Config, RunError};
pub use store::StoreError;
pub use users::{Users, UsersError};

/// A tracing directive that silences rumqttd, whose events say nothing about a client of this
/// broker. Add it to the filter of the process that embeds the broker.
pub const LOG_DIRECTIVE: &str = "rumqttd=off";
