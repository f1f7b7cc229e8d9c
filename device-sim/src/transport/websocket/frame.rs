//! Frames (RFC 6455, section 5): written with a mask, as a client must, and taken off in place.

#[cfg(test)]
mod tests;

use super::Failure;
use crate::random;

/// The connection has served its purpose (RFC 6455, section 7.4.1).
pub(super) const NORMAL: u16 = 1000;

/// The peer broke the protocol.
const PROTOCOL_ERROR: u16 = 1002;

/// What a frame is. The others are none that MQTT has, or none at all.
const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// What stands for a length in the two or eight bytes that follow.
const TWO_BYTES: u8 = 0x7e;
const EIGHT_BYTES: u8 = 0x7f;

/// The longest payload of a control frame.
const CONTROL_MAX: usize = 125;

/// The masks of the frames of a thread. Masks are there so that no intermediary takes a payload for HTTP; a sequence
/// that begins at random is as good for that as a random one.
#[derive(Debug, Default)]
pub(in crate::transport) struct Masks(u64);

impl Masks {
    /// The masks that begin at a random seed.
    pub(in crate::transport) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub(in crate::transport) const fn next(&mut self) -> [u8; 4] {
        self.0 = self.0.wrapping_add(1);
        let [a, b, c, d, ..] = random::mix(self.0).to_le_bytes();
        [a, b, c, d]
    }
}

/// Appends `payload` in one frame of data.
pub(in crate::transport) fn write_data(payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    write(BINARY, payload, mask, out);
}

/// Appends the frame that ends a connection, and why.
pub(super) fn write_close(code: u16, mask: [u8; 4], out: &mut Vec<u8>) {
    write(CLOSE, &code.to_be_bytes(), mask, out);
}

fn write(opcode: u8, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    out.push(FINAL | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..TWO_BYTES), _) => out.push(MASKED | length),
        (_, Ok(length)) => {
            out.push(MASKED | TWO_BYTES);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(MASKED | EIGHT_BYTES);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    let (words, rest) = out[start..].as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// Takes frames off, however their bytes are split.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    header: [u8; 10],
    /// How much of the header is there.
    have: u8,
    /// How much of the payload is yet to come; `None` within a header.
    left: Option<u64>,
    /// Whether a message of several frames has begun.
    is_fragmented: bool,
    /// What has come of a control frame's payload.
    control: Vec<u8>,
    is_closed: bool,
}

impl Decoder {
    /// Whether the peer has said that nothing follows.
    pub(super) const fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Leaves in `bytes` only what frames of data hold, and says how much that is; appends the answers to pings and to
    /// the peer's close. What follows a close is left out.
    pub(super) fn decode(
        &mut self,
        bytes: &mut [u8],
        masks: &mut Masks,
        answers: &mut Vec<u8>,
    ) -> Result<usize, Failure> {
        let (mut at, mut end) = (0, 0);
        loop {
            let Some(left) = self.left else {
                if at == bytes.len() || self.is_closed {
                    return Ok(end);
                }
                self.header[usize::from(self.have)] = bytes[at];
                self.have += 1;
                at += 1;
                if let Err(violation) = self.take_header() {
                    write_close(PROTOCOL_ERROR, masks.next(), answers);
                    self.is_closed = true;
                    return Err(violation);
                }
                continue;
            };
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
            if self.is_control() {
                self.control.extend_from_slice(&bytes[at..at + here]);
            } else {
                bytes.copy_within(at..at + here, end);
                end += here;
            }
            at += here;
            self.left = Some(left - here as u64);
            if left > here as u64 {
                return Ok(end);
            }
            self.end_frame(masks, answers);
        }
    }

    fn opcode(&self) -> u8 {
        self.header[0] & 0x0f
    }

    fn is_control(&self) -> bool {
        self.opcode() >= CLOSE
    }

    /// Reads the header once it is whole.
    fn take_header(&mut self) -> Result<(), Failure> {
        if self.have == 1 {
            return self.check_first();
        }
        if self.have == 2 {
            self.check_second()?;
        }
        let header = &self.header;
        let [second, third, fourth] = [header[1], header[2], header[3]];
        self.left = match (second, self.have) {
            (length @ ..TWO_BYTES, 2) => Some(length.into()),
            (TWO_BYTES, 4) => Some(u16::from_be_bytes([third, fourth]).into()),
            (EIGHT_BYTES, 10) => {
                let [_, _, length @ ..] = *header;
                Some(u64::from_be_bytes(length))
            }
            _ => None,
        };
        match self.left {
            Some(length) if length > i64::MAX as u64 => Err(Failure::ProtocolViolation("a length beyond 63 bits")),
            _ => Ok(()),
        }
    }

    fn check_first(&mut self) -> Result<(), Failure> {
        let first = self.header[0];
        let is_final = first & FINAL != 0;
        let wrong = match self.opcode() {
            _ if first & 0x70 != 0 => "a reserved bit",
            CLOSE | PING | PONG if !is_final => "a control frame in fragments",
            CLOSE | PING | PONG => return Ok(()),
            BINARY if self.is_fragmented => "a message within another",
            CONTINUATION if !self.is_fragmented => "a fragment without a beginning",
            BINARY | CONTINUATION => {
                self.is_fragmented = !is_final;
                return Ok(());
            }
            1 => "text, where MQTT is binary",
            _ => "an unknown kind of frame",
        };
        Err(Failure::ProtocolViolation(wrong))
    }

    fn check_second(&self) -> Result<(), Failure> {
        let second = self.header[1];
        if second & MASKED != 0 {
            return Err(Failure::ProtocolViolation("a mask, which only clients have"));
        }
        if self.is_control() && usize::from(second) > CONTROL_MAX {
            return Err(Failure::ProtocolViolation("a control frame that is too long"));
        }
        Ok(())
    }

    fn end_frame(&mut self, masks: &mut Masks, answers: &mut Vec<u8>) {
        let payload = std::mem::take(&mut self.control);
        match self.opcode() {
            PING => write(PONG, &payload, masks.next(), answers),
            CLOSE => {
                write(CLOSE, payload.get(..2).unwrap_or_default(), masks.next(), answers);
                self.is_closed = true;
            }
            _ => {}
        }
        (self.have, self.left) = (0, None);
    }
}
