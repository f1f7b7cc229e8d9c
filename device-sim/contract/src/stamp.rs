//! The stamp: what each message carries so that it can be judged when it arrives.
//!
//! As text it has a fixed length and place, so that writing it is a patch and finding it needs no parser:
//!
//! ```text
//! 0000002a-0612f5a1c3b40-00000007-0612f5a1d4e50
//! run      epoch         sequence due            lower-case hexadecimal, instants in microseconds
//! ```
//!
//! JSON bodies end with `,"stamp":"…"}`, CBOR maps end with that entry, text and raw bodies hold it where they say.
//! In MQTT 5 it may travel as a user property instead, and the body stays as it is.
//! Device and stream are not in it: they come from the topic.

use memchr::{memchr_iter, memmem};

use crate::time::Micros;

/// The length of a stamp's text form in bytes.
pub const LENGTH: usize = 45;

/// What a body's last member looks like up to the stamp; `"}` follows it.
pub const JSON_FIELD: &str = "stamp";

/// The user property of MQTT 5 that holds the stamp where a stream says so.
pub const PROPERTY: &str = "stamp";

/// How far into a payload [`Stamp::find`] and [`find_counter`] look when nothing is at the fixed places.
pub const SCAN_LIMIT: usize = 64 * 1024;

/// Instants of a stamp are below this: 52 bits, enough until the year 2112.
const MICROS_MASK: u64 = (1 << 52) - 1;

/// Run, epoch, sequence and due instant of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The run that sent it; messages of other runs on the same broker are not ours to judge.
    pub run: u32,
    /// The start of the worker process that sent it.
    pub epoch: Micros,
    /// Messages of this device and stream handed to the session within the epoch, counted from 0.
    pub seq: u32,
    /// When the message was meant to be sent; latency counts from here.
    pub due: Micros,
}

impl Stamp {
    /// Writes the text form. Instants beyond the year 2112 lose their high bits.
    pub fn write(&self, out: &mut [u8; LENGTH]) {
        let Self { run, epoch, seq, due } = *self;
        hex(&mut out[0..8], u64::from(run));
        out[8] = b'-';
        hex(&mut out[9..22], epoch.0 & MICROS_MASK);
        out[22] = b'-';
        hex(&mut out[23..31], u64::from(seq));
        out[31] = b'-';
        hex(&mut out[32..45], due.0 & MICROS_MASK);
    }

    /// Reads the text form; `None` for anything that [`Stamp::write`] would not have written.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text: &[u8; LENGTH] = text.try_into().ok()?;
        if [text[8], text[22], text[31]] != *b"---" {
            return None;
        }
        Some(Self {
            run: u32::try_from(unhex(&text[0..8])?).ok()?,
            epoch: Micros(unhex(&text[9..22])?),
            seq: u32::try_from(unhex(&text[23..31])?).ok()?,
            due: Micros(unhex(&text[32..45])?),
        })
    }

    /// Finds the stamp of a payload: at the end of a JSON body, at the end of a CBOR map, else the first one within
    /// [`SCAN_LIMIT`] bytes.
    pub fn find(payload: &[u8]) -> Option<Self> {
        Self::place(payload).map(|(_, stamp)| stamp)
    }

    /// The same, with where it begins.
    pub fn place(payload: &[u8]) -> Option<(usize, Self)> {
        let at = |start: usize| Some((start, Self::parse(payload.get(start..start + LENGTH)?)?));
        let from_end = |trailer: usize| at(payload.len().checked_sub(trailer + LENGTH)?);
        let scanned = || {
            let dashes = memchr_iter(b'-', &payload[..payload.len().min(SCAN_LIMIT)]);
            dashes.filter_map(|dash| dash.checked_sub(8)).find_map(at)
        };
        from_end(2).or_else(|| from_end(0)).or_else(scanned)
    }
}

/// The sequence that a body carries in a counter of its own: the first unsigned number in a JSON or CBOR field of
/// that name within [`SCAN_LIMIT`] bytes. `None` when there is no such field or its value does not fit 32 bits.
pub fn find_counter(payload: &[u8], field: &str) -> Option<u32> {
    let payload = &payload[..payload.len().min(SCAN_LIMIT)];
    let is_json = payload.first()? == &b'{';
    memmem::find_iter(payload, field.as_bytes()).find_map(|start| {
        let rest = &payload[start + field.len()..];
        let before = payload.get(start.checked_sub(1)?)?;
        if is_json { (*before == b'"').then(|| json_number(rest))? } else { cbor_number(rest) }
    })
}

/// The number in `" : 42,`.
fn json_number(after_key: &[u8]) -> Option<u32> {
    let rest = after_key.strip_prefix(b"\"")?.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if matches!(rest.get(digits), Some(b'.' | b'e' | b'E')) {
        return None;
    }
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

/// An unsigned integer: RFC 8949, section 3.1, major type 0.
fn cbor_number(after_key: &[u8]) -> Option<u32> {
    match *after_key {
        [small @ 0..24, ..] => Some(u32::from(small)),
        [24, byte, ..] => Some(u32::from(byte)),
        [25, a, b, ..] => Some(u32::from(u16::from_be_bytes([a, b]))),
        [26, a, b, c, d, ..] => Some(u32::from_be_bytes([a, b, c, d])),
        _ => None,
    }
}

fn hex(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

fn unhex(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0, |value, &digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: Stamp = Stamp { run: 42, epoch: Micros(0x612f_5a1c_3b40), seq: 7, due: Micros(0x612f_5a1d_4e50) };
    const TEXT: &str = "0000002a-0612f5a1c3b40-00000007-0612f5a1d4e50";

    fn text(stamp: &Stamp) -> [u8; LENGTH] {
        let mut out = [0; LENGTH];
        stamp.write(&mut out);
        out
    }

    #[test]
    fn the_text_form_is_fixed() {
        assert_eq!(text(&EXAMPLE), TEXT.as_bytes());
    }

    #[test]
    fn it_is_found_in_each_kind_of_body() {
        for body in [
            format!(r#"{{"value":1,"stamp":"{TEXT}"}}"#),
            format!("x{TEXT}"),
            format!("level=4 {TEXT} and - more"),
            TEXT.to_owned(),
        ] {
            assert_eq!(Stamp::find(body.as_bytes()), Some(EXAMPLE), "{body}");
        }
        assert_eq!(Stamp::find(b"{\"value\":1}"), None);
        assert_eq!(Stamp::find(TEXT.to_uppercase().as_bytes()), None);
    }

    #[test]
    fn a_counter_is_found_in_json_and_cbor() {
        assert_eq!(find_counter(br#"{"headerId" : 4294967295,"x":1}"#, "headerId"), Some(u32::MAX));
        assert_eq!(find_counter(br#"{"note":"headerId","headerId":3}"#, "headerId"), Some(3));
        assert_eq!(find_counter(br#"{"headerId":4294967296}"#, "headerId"), None);
        assert_eq!(find_counter(br#"{"headerId":1.5}"#, "headerId"), None);
        assert_eq!(find_counter(b"\xa1\x63seq\x19\x01\x00", "seq"), Some(256));
        assert_eq!(find_counter(b"", "seq"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(run: u32, epoch in 0..=MICROS_MASK, seq: u32, due in 0..=MICROS_MASK) {
            let stamp = Stamp { run, epoch: Micros(epoch), seq, due: Micros(due) };
            prop_assert_eq!(Stamp::parse(&text(&stamp)), Some(stamp));
        }

        #[test]
        fn no_payload_makes_it_panic(payload: Vec<u8>) {
            std::hint::black_box((Stamp::find(&payload), find_counter(&payload, "seq")));
        }
    }
}
