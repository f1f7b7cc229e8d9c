//! A broker of somebody else's, whichever it is: what the brokers ring asks of each.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::Result;

use crate::{
    mochi::{Mochi, Storage},
    mosquitto::{Installation, Mosquitto, Settings},
    rabbitmq::RabbitMq,
};

/// The user that a guarded broker knows.
pub const USER: &str = "fleet";

/// The user's password.
pub const PASSWORD: &str = "secret";

/// Whose broker it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// Eclipse Mosquitto: MQTT 3.1.1 and 5.
    Mosquitto,
    /// mochi-mqtt, in Go: MQTT 3.1.1 and 5.
    Mochi,
    /// RabbitMQ with its MQTT plugin: MQTT 3.1.1 and 5, without QoS 2 and shared subscriptions.
    RabbitMq,
}

/// Whom a broker admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// Whoever names [`USER`] and [`PASSWORD`]; RabbitMQ also whoever names nobody.
    Guarded,
}

/// A running broker on 127.0.0.1; killed on drop.
pub trait Peer: Send + Sync {
    /// The port that it listens on, the same after a restart.
    fn port(&self) -> u16;

    /// The address as `simctl --broker` takes it.
    fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port())
    }

    /// Ends it with SIGTERM and awaits that.
    ///
    /// # Errors
    /// When it does not end in time.
    fn stop(&mut self) -> Result<()>;

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    /// When it has ended before.
    fn kill(&mut self) -> Result<()>;

    /// Starts it again with the same settings, port and sessions; a running one is killed first.
    ///
    /// # Errors
    /// When it does not start.
    fn start_again(&mut self) -> Result<()>;
}

/// The one RabbitMQ that tests share, as long as one of them uses it: its start takes longer than most tests.
static SHARED: Mutex<Weak<RabbitMq>> = Mutex::new(Weak::new());

impl Make {
    /// A broker of the caller's own that keeps sessions and messages when it is stopped.
    ///
    /// # Errors
    /// When it cannot be had on this machine ([`Unavailable`](crate::unavailable::Unavailable)), or does not start.
    pub fn start(self) -> Result<Box<dyn Peer>> {
        Ok(match self {
            Make::Mosquitto => Box::new(Mosquitto::start(Settings::new()?.persistent())?),
            Make::Mochi => Box::new(Mochi::start(Access::Open, Storage::File)?),
            Make::RabbitMq => Box::new(RabbitMq::start()?),
        })
    }

    /// A broker for a test that only uses it, beside others perhaps.
    ///
    /// # Errors
    /// As [`Make::start`].
    pub fn lend(self, access: Access) -> Result<Arc<dyn Peer>> {
        Ok(match (self, access) {
            (Make::Mosquitto, Access::Open) => Arc::new(Mosquitto::start(Settings::new()?)?),
            (Make::Mosquitto, Access::Guarded) => Arc::new(guarded_mosquitto()?),
            (Make::Mochi, _) => Arc::new(Mochi::start(access, Storage::Memory)?),
            (Make::RabbitMq, _) => shared_rabbitmq()?,
        })
    }
}

fn shared_rabbitmq() -> Result<Arc<RabbitMq>> {
    // Held while it starts, so that nobody starts another one. A start that panicked has left none.
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = shared.upgrade() {
        return Ok(running);
    }
    let started = Arc::new(RabbitMq::start()?);
    *shared = Arc::downgrade(&started);
    Ok(started)
}

impl Peer for Mosquitto {
    fn port(&self) -> u16 {
        Mosquitto::port(self)
    }

    fn stop(&mut self) -> Result<()> {
        Mosquitto::stop(self).map(drop)
    }

    fn kill(&mut self) -> Result<()> {
        Mosquitto::kill(self).map(drop)
    }

    fn start_again(&mut self) -> Result<()> {
        Mosquitto::start_again(self)
    }
}

/// Mosquitto with the file of passwords that it has read at its start.
fn guarded_mosquitto() -> Result<Mosquitto> {
    let passwords = tempfile::tempdir()?;
    let file = passwords.path().join("passwords");
    Installation::find_or_unpack()?.write_password_file(&file, USER, PASSWORD)?;
    Mosquitto::start(Settings::new()?.password_file(&file))
}
