//! WebSocket frames, from any bytes in any portions: what comes out does not depend on the portions, and is never more
//! than went in.

#![no_main]

use device_sim::transport::{WebSocketFailure, fuzzing::Decoder};
use libfuzzer_sys::{Corpus, fuzz_target};

/// What an answer has beside the payload of a PING: two bytes of header, four of mask, and two of reason in a close.
const AROUND: usize = 8;

fuzz_target!(|data: &[u8]| -> Corpus {
    let [portion, bytes @ ..] = data else { return Corpus::Reject };
    let mut whole = Decoder::default();
    let mut split = Decoder::default();
    let (held, failed) = decode(&mut whole, std::iter::once(bytes));
    let (held_split, failed_split) = decode(&mut split, bytes.chunks(usize::from(*portion) + 1));
    assert_eq!(failed, failed_split);
    // What came before a violation in the same portion goes with it.
    assert!(if failed.is_none() { held == held_split } else { held.is_empty() });
    assert!(held_split.len() <= bytes.len());
    assert_eq!((whole.answers(), whole.is_closed()), (split.answers(), split.is_closed()));
    // Each answer is one to a frame of two bytes at least, or to the byte that broke the protocol.
    let most = bytes.len() + (bytes.len() / 2 + 1) * AROUND;
    assert!(whole.answers().len() <= most, "{} bytes of answers to {}", whole.answers().len(), bytes.len());
    Corpus::Keep
});

/// What the frames hold, and what ended them.
fn decode<'b>(decoder: &mut Decoder, portions: impl Iterator<Item = &'b [u8]>) -> (Vec<u8>, Option<WebSocketFailure>) {
    let mut held = Vec::new();
    for portion in portions {
        match decoder.decode(portion.to_vec()) {
            Ok(bytes) => held.extend_from_slice(&bytes),
            Err(failure) => return (held, Some(failure)),
        }
    }
    (held, None)
}
