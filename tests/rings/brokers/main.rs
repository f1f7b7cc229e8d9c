//! The brokers ring: the devices' session with brokers of other makes.
//!
//! Each file states behaviours as functions of a [`Make`](tests::peer::Make); a file named by a make lists those that it is asked for, so
//! that each is a test of its own (`rabbitmq::delivery::at_qos_1`), and says what that broker does not do.
//! `cargo xtask test brokers brokers-mochi brokers-rabbitmq` runs them, and says NOT RUN where a broker cannot be had.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![expect(clippy::disallowed_methods, reason = "processes and sockets take real time")]

/// Makes a test of each behaviour for one make.
macro_rules! behaviours {
    ($make:ident: $($file:ident { $($behaviour:ident),+ $(,)? })+) => {
        $(mod $file {
            $(#[test]
            fn $behaviour() {
                crate::$file::$behaviour(tests::peer::Make::$make);
            })+
        })+
    };
}

mod client;
mod commands;
mod credentials;
mod delivery;
mod fleet;
mod limits;
mod mochi;
mod mosquitto;
mod mqtt5;
mod offline_detection;
mod rabbitmq;
mod restarts;
mod retained;
mod takeover;
mod wills;

use std::time::Duration;

/// Far beyond what anything here takes, so that only a hang reaches it.
const PATIENCE: Duration = Duration::from_mins(1);
