//! PUBLISH, written in place: the caller appends topic and payload to the output itself.

use std::ops::Range;

use super::write::{PUBLISH, remaining_length};
use super::{
    FrameError, PacketId, Qos, name,
    v5::{self, Alias, id},
};

/// The room for the fixed header while a frame is open. Two bytes of remaining length are the
/// usual case: 128 to 16,383 bytes, and then finishing moves nothing.
const HEADER: usize = 3;

/// A PUBLISH that is being written at the end of a buffer.
///
/// ```
/// use device_sim::session::codec::{PublishFrame, Qos};
///
/// let mut out = Vec::new();
/// let mut frame = PublishFrame::begin(&mut out, Qos::AtMostOnce, false, false);
/// out.extend_from_slice(b"fleet/7/temperature");
/// frame.end_topic(&mut out, None);
/// out.extend_from_slice(b"21.5");
/// let range = frame.finish(&mut out)?;
/// assert_eq!(range, 0..out.len());
/// # Ok::<(), device_sim::session::codec::FrameError>(())
/// ```
///
/// Between `begin` and `finish` the caller only appends. A frame that is dropped without either
/// `finish` or `abort` leaves an unfinished packet behind.
#[derive(Debug)]
#[must_use = "an unfinished frame is not a packet"]
pub struct PublishFrame {
    start: usize,
    /// Where the topic ends; 0 until it is ended.
    topic_end: usize,
    has_packet_id: bool,
    /// Whether an alias stands for the topic, which is then empty.
    is_aliased: bool,
}

impl PublishFrame {
    /// Opens a frame at the end of `out`; what follows there is the topic.
    ///
    /// `dup` marks a re-delivery (MQTT-3.3.1-1) and is left out at QoS 0 (MQTT-3.3.1-2).
    pub fn begin(out: &mut Vec<u8>, qos: Qos, retain: bool, dup: bool) -> Self {
        let start = out.len();
        let dup = dup && qos != Qos::AtMostOnce;
        let header = PUBLISH | u8::from(dup) << 3 | (qos as u8) << 1 | u8::from(retain);
        out.extend_from_slice(&[header, 0, 0, 0, 0]);
        Self { start, topic_end: 0, has_packet_id: false, is_aliased: false }
    }

    /// Ends the topic; what follows in `out` is the payload.
    pub fn end_topic(&mut self, out: &mut Vec<u8>, packet_id: Option<PacketId>) {
        self.topic_end = out.len();
        self.has_packet_id = packet_id.is_some();
        if let Some(packet_id) = packet_id {
            out.extend_from_slice(&packet_id.get().to_be_bytes());
        }
    }

    /// MQTT 5: writes the properties, which follow the topic in every packet: the alias and what `write` appends.
    pub fn write_properties(
        &mut self,
        out: &mut Vec<u8>,
        alias: Alias,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), FrameError>,
    ) -> Result<(), FrameError> {
        self.is_aliased = matches!(alias, Alias::Use(_));
        v5::write_properties(out, |out| {
            if let Alias::Bind(number) | Alias::Use(number) = alias {
                out.push(id::TOPIC_ALIAS);
                out.extend_from_slice(&number.get().to_be_bytes());
            }
            write(out)
        })
    }

    /// Closes the frame: checks the topic and writes the lengths. Returns the packet's bytes
    /// within `out`.
    ///
    /// On an error the frame is taken back, as by [`PublishFrame::abort`].
    pub fn finish(self, out: &mut Vec<u8>) -> Result<Range<usize>, FrameError> {
        let start = self.start;
        let finished = self.close(out);
        if finished.is_err() {
            out.truncate(start);
        }
        finished.map(|()| start..out.len())
    }

    /// Takes the frame back: `out` ends where it did before [`PublishFrame::begin`].
    pub fn abort(self, out: &mut Vec<u8>) {
        out.truncate(self.start);
    }

    fn close(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let body = self.start + HEADER;
        let topic = out.get(body + 2..self.topic_end).ok_or(FrameError::TopicNotEnded)?;
        let topic_length = name::check_length(topic, "topic")?;
        if !(self.is_aliased && topic.is_empty()) {
            name::check_topic_bytes(topic, "topic")?;
        }
        if self.has_packet_id != (out[self.start] & 0b0110 != 0) {
            return Err(FrameError::PacketId);
        }
        let (bytes, count) = remaining_length(out.len() - body)?;
        out[body..body + 2].copy_from_slice(&topic_length.to_be_bytes());
        self.make_room(out, count);
        out[self.start + 1..=self.start + count].copy_from_slice(&bytes[..count]);
        Ok(())
    }

    /// Moves the body so that `count` bytes of remaining length fit exactly before it.
    fn make_room(&self, out: &mut Vec<u8>, count: usize) {
        let (body, length) = (self.start + HEADER, out.len());
        let target = self.start + 1 + count;
        if target > body {
            out.resize(length + target - body, 0);
        }
        if target != body {
            out.copy_within(body..length, target);
            out.truncate(length + target - body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(payload: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut frame = PublishFrame::begin(&mut out, Qos::AtLeastOnce, true, true);
        out.extend_from_slice(b"t");
        frame.end_topic(&mut out, PacketId::new(0x0102));
        out.resize(out.len() + payload, b'x');
        frame.finish(&mut out).unwrap();
        out
    }

    #[test]
    fn a_short_frame_has_one_byte_of_length() {
        assert_eq!(publish(2), b"\x3b\x07\x00\x01t\x01\x02xx");
    }

    #[test]
    fn the_length_takes_as_few_bytes_as_it_needs() {
        let rest = 5;
        for (remaining, header) in [
            (127, &[0x7f][..]),
            (128, &[0x80, 0x01]),
            (16_383, &[0xff, 0x7f]),
            (16_384, &[0x80, 0x80, 0x01]),
            (2_097_151, &[0xff, 0xff, 0x7f]),
            (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
        ] {
            let packet = publish(remaining - rest);
            assert_eq!(&packet[1..=header.len()], header);
            assert_eq!(packet.len(), 1 + header.len() + remaining);
            assert_eq!(&packet[1 + header.len()..][..5], b"\x00\x01t\x01\x02");
            assert!(packet[1 + header.len() + rest..].iter().all(|&byte| byte == b'x'));
        }
    }

    #[test]
    fn an_error_takes_the_frame_back_and_leaves_what_was_before() {
        let check = |topic: &[u8], id: Option<u16>, qos, expected| {
            let mut out = b"before".to_vec();
            let mut frame = PublishFrame::begin(&mut out, qos, false, false);
            out.extend_from_slice(topic);
            frame.end_topic(&mut out, id.and_then(PacketId::new));
            out.extend_from_slice(b"payload");
            assert_eq!(frame.finish(&mut out), Err(expected));
            assert_eq!(out, b"before");
        };
        check(b"", None, Qos::AtMostOnce, FrameError::Empty("topic"));
        check(b"a/#", None, Qos::AtMostOnce, FrameError::Wildcard("topic"));
        check(b"a\0", None, Qos::AtMostOnce, FrameError::NullCharacter("topic"));
        check(b"\xc3", None, Qos::AtMostOnce, FrameError::NotUtf8("topic"));
        let length = 65_536;
        let error = FrameError::TooLong { field: "topic", length };
        check(&vec![b'a'; length], None, Qos::AtMostOnce, error);
        check(b"a", None, Qos::AtLeastOnce, FrameError::PacketId);
        check(b"a", Some(1), Qos::AtMostOnce, FrameError::PacketId);

        let mut out = b"before".to_vec();
        let frame = PublishFrame::begin(&mut out, Qos::AtMostOnce, false, false);
        assert_eq!(frame.finish(&mut out), Err(FrameError::TopicNotEnded));
        let frame = PublishFrame::begin(&mut out, Qos::AtMostOnce, false, false);
        frame.abort(&mut out);
        assert_eq!(out, b"before");
    }

    #[test]
    fn dup_is_left_out_at_qos_0() {
        let mut out = Vec::new();
        let mut frame = PublishFrame::begin(&mut out, Qos::AtMostOnce, false, true);
        out.push(b't');
        frame.end_topic(&mut out, None);
        frame.finish(&mut out).unwrap();
        assert_eq!(out[0], 0x30);
    }
}
