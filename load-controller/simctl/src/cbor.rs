//! What bodies in CBOR say, for people: no program that sends them needs a decoder.

use fleet_contract::{
    model::payload::{self, unhex},
    worker::DeviceStatus,
};
use serde_json::Value;

/// What a body says, as the JSON that it corresponds to; `None` of one that is spoilt, or says what JSON cannot.
pub(crate) fn decode(body: &[u8]) -> Option<Value> {
    let mut rest = body;
    let value = ciborium::from_reader(&mut rest).ok()?;
    rest.is_empty().then_some(value)
}

/// Says what the payloads of a device say that are CBOR. One that was cut on its way keeps its hexadecimal digits alone.
pub(crate) fn decode_payloads(device: &mut DeviceStatus) {
    for stream in device.streams.iter_mut().filter(|stream| stream.format == payload::Format::Cbor) {
        let value = unhex(&stream.payload).ok().and_then(|body| decode(&body));
        stream.decoded = value.map(|value| value.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_the_object_that_it_corresponds_to() {
        // {"t": -3.5, "on": true, "list": [1, null, -700], "who": "é"}, as RFC 8949 writes it.
        let body = b"\xa4\x61t\xfb\xc0\x0c\0\0\0\0\0\0\x62on\xf5\x64list\x83\x01\xf6\x39\x02\xbb\x63who\x62\xc3\xa9";
        let expected = serde_json::json!({"t": -3.5, "on": true, "list": [1, null, -700], "who": "é"});
        assert_eq!(decode(body), Some(expected));
    }

    #[test]
    fn what_is_spoilt_says_nothing() {
        assert_eq!(decode(b"\xa1\x61t"), None);
        assert_eq!(decode(b"\xa0\xa0"), None);
        assert_eq!(decode(b""), None);
        // A text that ends before its time, and bytes, which JSON has not.
        assert_eq!(decode(b"\xa1\x61t\x63no"), None);
        assert_eq!(decode(b"\xa1\x61t\x41\x01"), None);
    }
}
