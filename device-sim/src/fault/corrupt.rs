//! What devices say is spoilt on its way out.

use fleet_contract::{
    fault::{Corrupt, Corruption},
    model::StampMode,
    stamp,
};

use super::{Conditions, How, Kind, Victim};
use crate::random::Draw;

/// The most bits of a payload that are flipped.
const BITS_MAX: u64 = 8;

/// A number beyond what any sensor tells, and any 64-bit integer holds.
const BEYOND: &[u8] = b"1e300";

impl Kind for Corrupt {
    fn impose(&self, on: &Victim<'_>, conditions: &mut Conditions) {
        // With another counter a message would pass for another one.
        let meant = on.meant(self.stream.as_deref());
        let meant = meant.filter(|(_, stream)| !matches!(stream.stamp(), StampMode::Counter(_)));
        conditions.spoil(on, meant, self.messages, How::Corrupt(self.how));
    }
}

/// Spoils the payload that begins at `begin`; whether there was anything to be spoilt.
pub(super) fn spoil(how: Corruption, out: &mut Vec<u8>, begin: usize, draw: Draw) -> bool {
    let payload = &mut out[begin..];
    match how {
        Corruption::Bits => {
            let stamp = stamp::Stamp::place(payload).map_or(usize::MAX, |(at, _)| at);
            let free = payload.len() - if stamp < payload.len() { stamp::LENGTH } else { 0 };
            if free == 0 {
                return false;
            }
            for bit in 0..=draw.below(BITS_MAX) {
                let place = crate::random::mix(draw.0 ^ (bit + 1)) % (free as u64 * 8);
                let byte = (place / 8) as usize;
                payload[if byte < stamp { byte } else { byte + stamp::LENGTH }] ^= 1 << (place % 8);
            }
            true
        }
        Corruption::Truncation => {
            #[expect(clippy::cast_possible_truncation, reason = "below the length of the payload")]
            let left = draw.below(payload.len() as u64) as usize;
            let is_cut = left < payload.len();
            out.truncate(begin + left);
            is_cut
        }
        Corruption::Type | Corruption::Range => {
            let numbers = numbers(payload);
            #[expect(clippy::cast_possible_truncation, reason = "below how many numbers there are")]
            let Some(number) = numbers.get(draw.below(numbers.len() as u64) as usize) else { return false };
            let number = begin + number.start..begin + number.end;
            let other = match how {
                Corruption::Range => BEYOND.to_vec(),
                _ => [b"\"", &out[number.clone()], b"\""].concat(),
            };
            drop(out.splice(number, other));
            true
        }
    }
}

/// Where the numbers of a JSON payload are; none of another one.
fn numbers(payload: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut numbers: Vec<std::ops::Range<usize>> = Vec::new();
    if !matches!(payload.first(), Some(b'{' | b'[')) {
        return numbers;
    }
    let (mut is_text, mut is_escaped) = (false, false);
    for (place, byte) in payload.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            b'-' | b'+' | b'.' | b'0'..=b'9' | b'e' | b'E' if !is_text => match numbers.last_mut() {
                Some(last) if last.end == place => last.end = place + 1,
                // `true` and `false` have an e, too.
                _ if matches!(byte, b'-' | b'0'..=b'9') => numbers.push(place..place + 1),
                _ => {}
            },
            _ => {}
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BODY: &[u8] = br#"{"speed":12.5,"on":true,"at":"2026-01-01T00:00:00Z \"3\"","n":[-1e3,7],"stamp":"0000002a-0612f5a1c3b40-00000007-0612f5a1d4e50"}"#;

    fn spoilt(how: Corruption, draw: u64) -> (bool, Vec<u8>) {
        let mut out = b"topic".to_vec();
        out.extend_from_slice(BODY);
        let is_spoilt = spoil(how, &mut out, 5, Draw(draw));
        assert_eq!(&out[..5], b"topic");
        (is_spoilt, out.split_off(5))
    }

    #[test]
    fn numbers_are_found_outside_of_text() {
        let found: Vec<_> = numbers(BODY).into_iter().map(|at| std::str::from_utf8(&BODY[at]).unwrap()).collect();
        assert_eq!(found, ["12.5", "-1e3", "7"]);
        assert!(numbers(b"12.5").is_empty() && numbers(b"").is_empty());
    }

    #[test]
    fn a_number_becomes_text_or_far_too_large() {
        let (is_spoilt, text) = spoilt(Corruption::Type, 0);
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((is_spoilt, &json["speed"], &json["n"][1]), (true, &"12.5".into(), &7.into()));
        let (_, text) = spoilt(Corruption::Range, u64::MAX);
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((&json["speed"], &json["n"][1]), (&12.5.into(), &1e300.into()));
    }

    #[test]
    fn what_has_nothing_to_be_spoilt_stays() {
        for how in [Corruption::Bits, Corruption::Truncation, Corruption::Type, Corruption::Range] {
            let mut nothing = b"topic".to_vec();
            assert!(!spoil(how, &mut nothing, 5, Draw(1 << 63)), "{how:?}");
            assert_eq!(nothing, b"topic");
        }
    }

    proptest! {
        /// No message passes for another one.
        #[test]
        fn flipped_bits_leave_the_stamp(draw in any::<u64>()) {
            let (is_spoilt, body) = spoilt(Corruption::Bits, draw);
            let flipped: u32 = body.iter().zip(BODY).map(|(now, before)| (now ^ before).count_ones()).sum();
            prop_assert!(is_spoilt && flipped <= 8);
            prop_assert_eq!(stamp::Stamp::find(&body), stamp::Stamp::find(BODY));
        }

        #[test]
        fn a_cut_payload_has_no_stamp(draw in any::<u64>()) {
            let (is_spoilt, body) = spoilt(Corruption::Truncation, draw);
            prop_assert!(is_spoilt && BODY.starts_with(&body) && body.len() < BODY.len());
        }
    }
}
