//! What rumqttc is told of a device, with its traps stepped around.

use std::{net::SocketAddr, time::Duration};

use fleet_contract::{qos::Qos, units::Span};
use rumqttc::{LastWill, MqttOptions, NetworkOptions, QoS};

use crate::{
    blueprint::Blueprint,
    index::DeviceIndex,
    session::codec::{self, Connect},
};

/// The largest packet that a device takes from a broker, as in the native engine.
const INCOMING_MAX: usize = 60 * 1024;

/// The options of device `index`, and the bytes that its CONNECT takes.
pub(super) fn options(blueprint: &Blueprint, index: DeviceIndex, broker: SocketAddr) -> (MqttOptions, u64) {
    let identity = blueprint.device(index);
    let connect = identity.connect();
    let bytes = connect_bytes(&connect, blueprint);
    let host = match broker {
        SocketAddr::V4(address) => address.ip().to_string(),
        // rumqttc puts `host:port` together without brackets.
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    };
    let mut options = MqttOptions::new(connect.client_id, host, broker.port());
    options
        .set_keep_alive(keep_alive(blueprint.connect.keep_alive))
        .set_clean_session(blueprint.session.clean)
        .set_inflight(blueprint.connect.in_flight.max(1))
        .set_max_packet_size(INCOMING_MAX, codec::MAX_REMAINING_LENGTH);
    if let Some(user) = connect.user {
        // A password comes from a text file or an environment variable: it is UTF-8.
        options.set_credentials(user, String::from_utf8_lossy(connect.password.unwrap_or_default()));
    }
    if let Some(will) = connect.will {
        options.set_last_will(LastWill::new(will.topic, will.payload, quality(will.qos), will.retain));
    }
    (options, bytes)
}

/// How rumqttc treats its sockets. Nagle's algorithm, which it leaves on, would cost up to 40 ms a message.
pub(super) fn network(timeout: Span) -> NetworkOptions {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    // In whole seconds; it also bounds each flush.
    network.set_connection_timeout(timeout.0.div_ceil(1_000_000).max(1));
    network
}

/// How many messages may wait in a client's channel; with none, rumqttc would take only what it is waiting for.
pub(super) fn channel(blueprint: &Blueprint) -> usize {
    usize::from(blueprint.connect.queue.max(1))
}

/// A quality of service as rumqttc names it.
pub(super) const fn quality(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
        Qos::ExactlyOnce => QoS::ExactlyOnce,
    }
}

/// rumqttc panics below a second, and the packet holds 65,535 s; zero switches it off.
fn keep_alive(wanted: Span) -> Duration {
    if wanted == Span::ZERO {
        return Duration::ZERO;
    }
    wanted.as_duration().clamp(Duration::from_secs(1), Duration::from_secs(65_535))
}

/// The packet is the same whoever writes it.
fn connect_bytes(connect: &Connect<'_>, blueprint: &Blueprint) -> u64 {
    let mut out = Vec::new();
    match codec::write_connect(&mut out, connect, blueprint.session.clean, blueprint.connect.keep_alive) {
        Ok(()) => out.len() as u64,
        Err(_) => 0,
    }
}
