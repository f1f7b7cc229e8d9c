//! Telemetry: what a model's document says, by its timetables and rules. It remembers nothing.

use fleet_contract::{plan::Pace, time::Micros};

use super::{Agent, Effects, Made, Site};
use crate::{index::StreamIndex, model::Scratch};

/// Says what the model says, and the birth message with each session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Telemetry;

impl Agent for Telemetry {
    type Memory = ();

    const ANSWERS: bool = false;

    #[inline]
    fn begin(&self, _: &Site<'_>, _: Micros, _: &mut Effects) {}

    #[inline]
    fn next_due(&self, site: &Site<'_>, stream: StreamIndex, pace: &Pace, from: Micros) -> Micros {
        site.model.stream(stream).first_due(pace, site.device, from)
    }

    #[inline]
    fn on_due(
        &self,
        (): &mut (),
        site: &Site<'_>,
        stream: StreamIndex,
        due: Micros,
        scratch: &mut Scratch,
        _: &mut Effects,
    ) -> bool {
        site.model.is_due(stream, site.device, due, site.start, scratch)
    }

    #[inline]
    fn on_connected(&self, (): &mut (), site: &Site<'_>, _: bool, _: Micros, out: &mut Effects) {
        if let Some(birth) = site.model.birth() {
            out.publish(birth, &[]);
        }
    }

    #[inline]
    fn encode(&self, site: &Site<'_>, made: Made<'_>, scratch: &mut Scratch, out: &mut Vec<u8>) {
        site.model.write_payload_as(made.stream, (site.device, site.start), made.stamp, &made.seen, scratch, out);
    }
}
