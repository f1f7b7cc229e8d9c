//! What MQTT 5 says of a message beside its body, compiled as the body is: pieces that are copied, and names that
//! differ from device to device.

use fleet_contract::{
    model::{MessageProperties, StampMode},
    stamp::{LENGTH, Stamp},
    template::{Bound, Template},
};

use crate::{
    index::DeviceIndex,
    session::codec::{
        FrameError,
        v5::{id, write_message_expiry},
    },
};

/// The properties of a stream's messages.
#[derive(Debug, Default)]
pub(super) struct Properties {
    pieces: Vec<Piece>,
    /// Whether the stamp is one of them.
    is_stamped: bool,
}

/// One property: bytes, and for most of them a text with its length before it.
#[derive(Debug)]
struct Piece {
    head: Box<[u8]>,
    text: Option<Bound>,
}

impl Properties {
    /// Compiles what a document says; `bind` folds in the names.
    pub(super) fn compile(
        document: Option<&MessageProperties>,
        stamp: &StampMode,
        bind: impl Fn(&Template) -> Bound,
    ) -> Self {
        let is_stamped = *stamp == StampMode::Property;
        let Some(MessageProperties { content_type, expiry, response_topic, correlation_data, user }) = document else {
            return Self { pieces: Vec::new(), is_stamped };
        };
        let mut pieces = Vec::new();
        if let Some(expiry) = expiry {
            let mut head = Vec::new();
            write_message_expiry(&mut head, u32::try_from(expiry.0 / 1_000_000).unwrap_or(u32::MAX));
            pieces.push(Piece { head: head.into(), text: None });
        }
        let texts = [
            (id::CONTENT_TYPE, content_type),
            (id::RESPONSE_TOPIC, response_topic),
            (id::CORRELATION_DATA, correlation_data),
        ];
        for (identifier, text) in texts {
            pieces.extend(text.as_ref().map(|text| Piece { head: [identifier].into(), text: Some(bind(text)) }));
        }
        for (name, value) in user {
            pieces.push(Piece { head: user_head(name).into(), text: Some(bind(value)) });
        }
        Self { pieces, is_stamped }
    }

    /// Appends them.
    pub(super) fn write(&self, device: DeviceIndex, stamp: &Stamp, out: &mut Vec<u8>) -> Result<(), FrameError> {
        for Piece { head, text } in &self.pieces {
            out.extend_from_slice(head);
            if let Some(text) = text {
                write_text(out, |out| text.write(device.number(), out))?;
            }
        }
        if self.is_stamped {
            out.extend_from_slice(STAMP_HEAD);
            let mut text = [0; LENGTH];
            stamp.write(&mut text);
            write_text(out, |out| out.extend_from_slice(&text))?;
        }
        Ok(())
    }
}

/// The stamp's property up to its value.
const STAMP_HEAD: &[u8] = b"\x26\x00\x05stamp";

/// A user property up to its value.
fn user_head(name: &str) -> Vec<u8> {
    let mut head = vec![id::USER_PROPERTY];
    // A longer name would have been a document of its own size; what is cut off here is refused by every broker.
    let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
    head.extend_from_slice(&length.to_be_bytes());
    head.extend_from_slice(&name.as_bytes()[..usize::from(length)]);
    head
}

/// Appends a text with its length before it.
fn write_text(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), FrameError> {
    let at = out.len();
    out.extend_from_slice(&[0, 0]);
    write(out);
    let length = out.len() - at - 2;
    let bytes = u16::try_from(length).map_err(|_| FrameError::TooLong { field: "property", length })?.to_be_bytes();
    out[at..at + 2].copy_from_slice(&bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use fleet_contract::{stamp::PROPERTY, template::Names, time::Micros, units::Span};

    use super::*;
    use crate::session::codec::{
        Packet, Protocol, PublishFrame, Qos, read,
        v5::{Alias, Property},
    };

    const STAMP: Stamp = Stamp { run: 1, epoch: Micros(2), seq: 3, due: Micros(4) };

    fn template(text: &str) -> Template {
        Template::from_str(text).unwrap()
    }

    #[test]
    fn they_read_back_as_the_document_says_with_the_names_of_the_device() {
        let document = MessageProperties {
            content_type: Some(template("application/json")),
            expiry: Some(Span::from_secs(60)),
            response_topic: Some(template("{fleet}/{index}/answer")),
            correlation_data: Some(template("{id}")),
            user: [("site".to_owned(), template("{group}"))].into(),
        };
        let client_id = Template::default_client_id();
        let names = Names { fleet: "lab", group: "room", stream: "state", seed: 7, first: 0 };
        let properties =
            Properties::compile(Some(&document), &StampMode::Property, |text| text.bind(&names, &client_id));
        let mut out = Vec::new();
        let mut frame = PublishFrame::begin(&mut out, Qos::AtMostOnce, false, false);
        out.push(b't');
        frame.end_topic(&mut out, None);
        frame
            .write_properties(&mut out, Alias::None, |out| properties.write(DeviceIndex::new(5), &STAMP, out))
            .unwrap();
        frame.finish(&mut out).unwrap();
        let Ok(Some((Packet::Publish(publish), _))) = read(&out, Protocol::V5, 1_000) else { panic!("no PUBLISH") };
        let found: Vec<_> = publish.properties.iter().collect();
        let mut stamp = [0; LENGTH];
        STAMP.write(&mut stamp);
        let expected = [
            Property::MessageExpiryInterval(60),
            Property::ContentType("application/json"),
            Property::ResponseTopic("lab/5/answer"),
            Property::CorrelationData(b"lab-5"),
            Property::User("site", "room"),
            Property::User(PROPERTY, std::str::from_utf8(&stamp).unwrap()),
        ];
        assert_eq!(found, expected);
        let stamp = publish.properties.user(PROPERTY).and_then(|text| Stamp::parse(text.as_bytes()));
        assert_eq!(stamp, Some(STAMP));
    }

    #[test]
    fn a_text_that_no_property_holds_is_an_error() {
        let long = |out: &mut Vec<u8>| out.resize(out.len() + 65_536, b'x');
        let expected = FrameError::TooLong { field: "property", length: 65_536 };
        assert_eq!(write_text(&mut Vec::new(), long), Err(expected));
    }
}
