//! Bytes that no broker should send, and good bytes in bad portions.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::Options;
use super::super::codec::{ConnackCode, Packet, Protocol, ProtocolError, read};
use super::{Rig, codec_oracle, codec5_oracle, id};

const NO_LIMIT: usize = usize::MAX;

#[track_caller]
fn check(bytes: &[u8], expected: Result<Option<(Packet<'_>, usize)>, ProtocolError>) {
    assert_eq!(read(bytes, Protocol::V311, 1_000), expected);
}

#[test]
fn a_packet_is_read_from_the_front_and_the_rest_is_left() {
    check(b"\x40\x02\x00\x05\xd0\x00", Ok(Some((Packet::Puback(id(5)), 4))));
    check(b"\xd0\x00\x40", Ok(Some((Packet::Pingresp, 2))));
    check(b"", Ok(None));
    check(b"\x40", Ok(None));
    check(b"\x40\x02\x00", Ok(None));
}

#[test]
fn what_the_standard_forbids_is_named() {
    check(b"\x00", Err(ProtocolError::ReservedType(0)));
    check(b"\xf0", Err(ProtocolError::ReservedType(15)));
    for client_packet in [1_u8, 8, 10, 12, 14] {
        check(&[client_packet << 4], Err(ProtocolError::ClientPacket(client_packet)));
    }
    for header in [0x21, 0x41, 0x51, 0x60, 0x63, 0x71, 0x91, 0xb2, 0xd1] {
        check(&[header], Err(ProtocolError::ReservedFlags(header)));
    }
    check(b"\x36", Err(ProtocolError::InvalidQos));
    check(b"\x38", Err(ProtocolError::DupAtMostOnce));
    check(b"\x30\x80\x80\x80\x80", Err(ProtocolError::RemainingLength));
    check(b"\x30\xff\x7f", Err(ProtocolError::TooLarge { size: 16_386, max: 1_000 }));
    check(b"\x40\x00", Err(ProtocolError::WrongLength(0x40)));
    check(b"\x40\x03\x00\x01\x00", Err(ProtocolError::WrongLength(0x40)));
    check(b"\x40\x02\x00\x00", Err(ProtocolError::PacketIdZero));
    check(b"\x32\x05\x00\x01t\x00\x00", Err(ProtocolError::PacketIdZero));
    check(b"\x32\x04\x00\x01t\x00", Err(ProtocolError::WrongLength(0x32)));
    check(b"\x30\x03\x00\x02t", Err(ProtocolError::WrongLength(0x30)));
    check(b"\x30\x01\x00", Err(ProtocolError::WrongLength(0x30)));
    for body in [&b"\x30\x02\x00\x00"[..], b"\x30\x03\x00\x01\xff", b"\x30\x03\x00\x01#", b"\x30\x03\x00\x01\x00"] {
        assert!(matches!(read(body, Protocol::V311, NO_LIMIT), Err(ProtocolError::InvalidTopic(_))), "{body:?}");
    }
    check(b"\x20\x02\x02\x00", Err(ProtocolError::ConnackFlags(2)));
    check(b"\x20\x02\x01\x05", Err(ProtocolError::ConnackFlags(1)));
    check(b"\x20\x02\x00\x06", Err(ProtocolError::ConnackCode(6)));
    check(b"\x20\x01\x00", Err(ProtocolError::WrongLength(0x20)));
    check(b"\x90\x02\x00\x01", Err(ProtocolError::WrongLength(0x90)));
    check(b"\x90\x03\x00\x01\x03", Err(ProtocolError::SubackCode(3)));
    check(b"\xd0\x01\x00", Err(ProtocolError::WrongLength(0xd0)));
}

#[test]
fn a_packet_of_exactly_the_limit_is_accepted() {
    let packet = b"\x30\x04\x00\x01tx";
    assert!(matches!(read(packet, Protocol::V311, packet.len()), Ok(Some(_))));
    assert_eq!(read(packet, Protocol::V311, packet.len() - 1), Err(ProtocolError::TooLarge { size: 6, max: 5 }));
}

/// Bytes that are wrong in one place only reach further into the reader than random ones.
fn nearly_good(packet: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (vec(packet, 1..4), vec((any::<prop::sample::Index>(), any::<u8>()), 0..3)).prop_map(|(packets, wrong)| {
        let mut bytes = packets.concat();
        for (at, byte) in wrong {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

/// Reads all of `bytes` and lets a session take it in.
fn swallow(mut bytes: &[u8], protocol: Protocol, max_size: usize) {
    let mut rig = Rig::offline(Options { protocol, clean: false, ..Options::default() });
    rig.connect();
    while let Ok(Some((packet, size))) = read(bytes, protocol, max_size) {
        assert!((2..=bytes.len().min(max_size)).contains(&size));
        if rig.try_receive(packet).is_err() {
            return;
        }
        bytes = &bytes[size..];
    }
}

fn read_all(mut bytes: &[u8], protocol: Protocol) -> Vec<String> {
    let mut packets = Vec::new();
    while let Some((packet, size)) = read(bytes, protocol, NO_LIMIT).unwrap() {
        packets.push(format!("{packet:?}"));
        bytes = &bytes[size..];
    }
    packets
}

/// Good packets in any portions: what is read is the same, and a part asks for more.
fn check_portions(packets: &[Vec<u8>], protocol: Protocol) {
    let bytes = packets.concat();
    let whole = read_all(&bytes, protocol);
    assert_eq!(whole.len(), packets.len());
    // Splits near the ends of packets matter; within a long payload they are all alike.
    for split in (0..bytes.len()).filter(|split| split % 37 == 0 || bytes.len() < 1_000) {
        let first = read_all(&bytes[..split], protocol);
        assert_eq!(whole[..first.len()], first[..]);
        let read_so_far: usize = packets[..first.len()].iter().map(Vec::len).sum();
        assert!(read_so_far <= split && split < read_so_far + packets[first.len()].len());
        assert_eq!(whole[first.len()..], read_all(&bytes[read_so_far..], protocol)[..]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200), max_size in 0..300_usize) {
        swallow(&bytes, Protocol::V311, max_size);
        swallow(&bytes, Protocol::V5, max_size);
    }

    #[test]
    fn nearly_good_bytes_never_panic(bytes in nearly_good(codec_oracle::broker_packet()), max_size in 0..300_usize) {
        swallow(&bytes, Protocol::V311, max_size);
    }

    #[test]
    fn nearly_good_bytes_of_mqtt_5_never_panic(
        connack in codec5_oracle::connack(), bytes in nearly_good(codec5_oracle::broker_packet()), max_size in 0..600_usize,
    ) {
        swallow(&bytes, Protocol::V5, max_size);
        swallow(&[connack.to_continuous_buffer(), bytes].concat(), Protocol::V5, max_size);
    }
}

proptest! {
    #[test]
    fn a_prefix_of_good_packets_is_good_and_asks_for_more(packets in vec(codec_oracle::broker_packet(), 1..6)) {
        check_portions(&packets, Protocol::V311);
    }

    #[test]
    fn a_prefix_of_good_packets_of_mqtt_5_is_good_and_asks_for_more(packets in vec(codec5_oracle::broker_packet(), 1..4)) {
        check_portions(&packets, Protocol::V5);
    }
}

#[test]
fn a_refused_connack_reads_as_its_code() {
    let code = ConnackCode::ServerUnavailable;
    check(b"\x20\x02\x00\x03", Ok(Some((Packet::Connack { session_present: false, code }, 4))));
}
