//! What the sink has counted since it started.

use std::time::Instant;

use serde_json::{Value, json};

pub(crate) struct Counters {
    start: Instant,
    wave: Option<Wave>,
    /// Open sessions: CONNECT was accepted and the connection is not closed.
    pub(crate) sessions: u64,
    pub(crate) accepted: u64,
    pub(crate) connected: u64,
    pub(crate) closed: u64,
    /// Messages received, by QoS.
    pub(crate) messages: [u64; 3],
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) pings: u64,
    /// Topic filters subscribed to, ended ones included.
    pub(crate) subscriptions: u64,
    /// Messages handed to subscribers.
    pub(crate) delivered: u64,
    /// Messages not handed to a subscriber whose buffer was full.
    pub(crate) dropped: u64,
    pub(crate) protocol_errors: u64,
}

/// Connections since there was none: a client that only asks whether the sink is there, and goes, does not slow down
/// the fleet that follows.
struct Wave {
    first_accept: Instant,
    last_connect: Instant,
    connected_before: u64,
}

impl Counters {
    pub(crate) fn new() -> Counters {
        Counters {
            start: Instant::now(),
            wave: None,
            sessions: 0,
            accepted: 0,
            connected: 0,
            closed: 0,
            messages: [0; 3],
            bytes_in: 0,
            bytes_out: 0,
            pings: 0,
            subscriptions: 0,
            delivered: 0,
            dropped: 0,
            protocol_errors: 0,
        }
    }

    pub(crate) fn accept(&mut self) {
        if self.accepted == self.closed {
            let now = Instant::now();
            self.wave = Some(Wave { first_accept: now, last_connect: now, connected_before: self.connected });
        }
        self.accepted += 1;
    }

    pub(crate) fn connect(&mut self) {
        self.connected += 1;
        self.sessions += 1;
        if let Some(wave) = &mut self.wave {
            wave.last_connect = Instant::now();
        }
    }

    /// Sessions opened per second, from the first connection of the wave to its last CONNACK.
    fn connects_per_second(&self) -> f64 {
        self.wave.as_ref().map_or(0.0, |Wave { first_accept, last_connect, connected_before }| {
            let span = (*last_connect - *first_accept).as_secs_f64();
            if span > 0.0 { (self.connected - connected_before) as f64 / span } else { 0.0 }
        })
    }

    pub(crate) fn to_json(&self) -> Value {
        let [qos0, qos1, qos2] = self.messages;
        json!({
            "elapsed_seconds": self.start.elapsed().as_secs_f64(),
            "sessions": self.sessions,
            "accepted": self.accepted,
            "connected": self.connected,
            "closed": self.closed,
            "connects_per_second": self.connects_per_second(),
            "qos0": qos0,
            "qos1": qos1,
            "qos2": qos2,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "pings": self.pings,
            "subscriptions": self.subscriptions,
            "delivered": self.delivered,
            "dropped": self.dropped,
            "protocol_errors": self.protocol_errors,
        })
    }
}
