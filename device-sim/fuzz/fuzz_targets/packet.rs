//! Packets of either version, from any bytes: the reader never panics, takes no more than it may, and needs all that it
//! takes.

#![no_main]

use device_sim::session::codec::{
    self, Packet, Protocol, Publish,
    v5::{Properties, Property},
};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|data: &[u8]| -> Corpus {
    let [version, limit, bytes @ ..] = data else { return Corpus::Reject };
    let protocol = if version & 1 == 0 { Protocol::V311 } else { Protocol::V5 };
    // Small limits are met often; the last one is that of no limit at all.
    let max_size = if *limit == u8::MAX { usize::MAX } else { usize::from(*limit) * 4 };
    read_all(bytes, protocol, max_size);
    Corpus::Keep
});

fn read_all(mut rest: &[u8], protocol: Protocol, max_size: usize) {
    while let Ok(Some((packet, size))) = codec::read(rest, protocol, max_size) {
        assert!((2..=rest.len().min(max_size)).contains(&size), "{size} bytes were taken of {}", rest.len());
        let (own, after) = rest.split_at(size);
        assert_eq!(codec::read(own, protocol, max_size), Ok(Some((packet, size))), "what follows changed a packet");
        assert_eq!(codec::read(&own[..size - 1], protocol, max_size), Ok(None), "a packet needs its last byte");
        assert!(held(&packet) <= size, "a packet of {size} bytes holds {}", held(&packet));
        rest = after;
    }
}

/// How many bytes a packet holds that it has from the wire.
fn held(packet: &Packet<'_>) -> usize {
    match *packet {
        Packet::Publish(Publish { topic, payload, properties, .. }) => {
            topic.len() + payload.len() + held_in(properties)
        }
        Packet::Suback { codes, .. } | Packet::UnsubackFailure { codes, .. } => codes.len(),
        Packet::Connack5 { properties, .. }
        | Packet::Disconnect { properties, .. }
        | Packet::Auth { properties, .. } => held_in(properties),
        _ => 0,
    }
}

fn held_in(properties: Properties<'_>) -> usize {
    let held = |property| match property {
        Property::ContentType(text)
        | Property::ResponseTopic(text)
        | Property::AssignedClientIdentifier(text)
        | Property::AuthenticationMethod(text)
        | Property::ResponseInformation(text)
        | Property::ServerReference(text)
        | Property::ReasonString(text) => text.len(),
        Property::CorrelationData(bytes) | Property::AuthenticationData(bytes) => bytes.len(),
        Property::User(name, value) => name.len() + value.len(),
        _ => 1,
    };
    properties.iter().map(held).sum()
}
