//! Frames against an implementation that is not ours, and against whatever a broker may send.

use std::io::{self, Cursor, Read, Write};

use proptest::{collection::vec, prelude::*};
use tungstenite::{
    Message, WebSocket,
    protocol::{
        Role,
        frame::{
            Frame,
            coding::{Data, OpCode},
        },
    },
};

use super::*;

/// A connection that gives what was put in, and keeps what is written.
struct Wire {
    input: Cursor<Vec<u8>>,
    output: Vec<u8>,
}

impl Read for Wire {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self.input.read(room)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The other implementation, as the server.
fn server(input: Vec<u8>) -> WebSocket<Wire> {
    let wire = Wire { input: Cursor::new(input), output: Vec::new() };
    WebSocket::from_raw_socket(wire, Role::Server, None)
}

/// What a broker sends.
#[derive(Debug, Clone)]
enum Said {
    Whole(Vec<u8>),
    Fragments(Vec<Vec<u8>>),
    Ping(Vec<u8>),
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..200), vec(any::<u8>(), 65_500..65_600)]
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        payload().prop_map(Said::Whole),
        vec(payload(), 2..4).prop_map(Said::Fragments),
        vec(any::<u8>(), 0..126).prop_map(Said::Ping),
    ]
}

/// The bytes of it on the wire; a ping is put between fragments, where one may be.
fn on_the_wire(said: &[Said]) -> Vec<u8> {
    let mut server = server(Vec::new());
    for said in said {
        match said {
            Said::Whole(payload) => server.send(Message::binary(payload.clone())).unwrap(),
            Said::Ping(payload) => server.send(Message::Ping(payload.clone().into())).unwrap(),
            Said::Fragments(parts) => {
                for (number, part) in parts.iter().enumerate() {
                    let kind = if number == 0 { Data::Binary } else { Data::Continue };
                    let is_last = number + 1 == parts.len();
                    let frame = Frame::message(part.clone(), OpCode::Data(kind), is_last);
                    server.send(Message::Frame(frame)).unwrap();
                    if !is_last {
                        server.send(Message::Ping(b"between".to_vec().into())).unwrap();
                    }
                }
            }
        }
    }
    server.get_ref().output.clone()
}

/// What our side makes of bytes that come in parts that end at `cuts`: data, answers.
fn take(bytes: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let (mut decoder, mut masks) = (Decoder::default(), Masks::new(1));
    let (mut data, mut answers) = (Vec::new(), Vec::new());
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([0, bytes.len()]).collect();
    cuts.sort_unstable();
    for ends in cuts.windows(2) {
        let mut part = bytes[ends[0]..ends[1]].to_vec();
        let length = decoder.decode(&mut part, &mut masks, &mut answers)?;
        data.extend_from_slice(&part[..length]);
    }
    Ok((data, answers))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_a_broker_sends_arrives_however_it_is_split(said in vec(said(), 1..6), cuts in vec(any::<usize>(), 0..20)) {
        let (data, answers) = take(&on_the_wire(&said), &cuts).unwrap();
        let (mut expected, mut pings) = (Vec::new(), Vec::new());
        for said in &said {
            match said {
                Said::Whole(payload) => expected.extend_from_slice(payload),
                Said::Ping(payload) => pings.push(payload.clone()),
                Said::Fragments(parts) => {
                    expected.extend(parts.concat());
                    pings.extend(std::iter::repeat_n(b"between".to_vec(), parts.len() - 1));
                }
            }
        }
        prop_assert_eq!(data, expected);
        let mut server = server(answers);
        for ping in pings {
            prop_assert_eq!(server.read().unwrap(), Message::Pong(ping.into()));
        }
        prop_assert!(server.read().is_err(), "more answers than pings");
    }

    #[test]
    fn what_we_send_is_what_a_server_reads(payloads in vec(payload(), 1..5), seed in any::<u64>()) {
        let (mut masks, mut out) = (Masks::new(seed), Vec::new());
        for payload in &payloads {
            write_data(payload, masks.next(), &mut out);
        }
        let mut server = server(out);
        for payload in payloads {
            prop_assert_eq!(server.read().unwrap(), Message::binary(payload));
        }
    }

    #[test]
    fn whatever_comes_is_data_or_a_violation(bytes in vec(any::<u8>(), 0..300), cuts in vec(any::<usize>(), 0..5)) {
        let whole = take(&bytes, &[]);
        if let Ok((data, _)) = &whole {
            prop_assert!(data.len() <= bytes.len());
        }
        prop_assert_eq!(take(&bytes, &cuts), whole, "the same whatever the split");
    }
}

#[test]
fn a_close_is_answered_and_nothing_follows() {
    let mut bytes = on_the_wire(&[Said::Whole(b"last".to_vec())]);
    bytes.extend([0x88, 2, 0x03, 0xe8]);
    bytes.extend(on_the_wire(&[Said::Whole(b"lost".to_vec())]));
    let (data, answers) = take(&bytes, &[]).unwrap();
    assert_eq!(data, b"last");
    let Message::Close(Some(close)) = server(answers).read().unwrap() else { panic!("no close") };
    assert_eq!(u16::from(close.code), NORMAL);
}

#[test]
fn a_breach_of_the_protocol_is_named() {
    let check = |bytes: &[u8], what| assert_eq!(take(bytes, &[]), Err(Failure::ProtocolViolation(what)));
    check(&[0x82, 0x81, 1, 2, 3, 4, 5], "a mask, which only clients have");
    check(&[0xc2, 0], "a reserved bit");
    check(&[0x81, 0], "text, where MQTT is binary");
    check(&[0x83, 0], "an unknown kind of frame");
    check(&[0x09, 0], "a control frame in fragments");
    check(&[0x89, 126, 0, 126], "a control frame that is too long");
    check(&[0x80, 0], "a fragment without a beginning");
    check(&[0x02, 0, 0x82, 0], "a message within another");
    check(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], "a length beyond 63 bits");
}
