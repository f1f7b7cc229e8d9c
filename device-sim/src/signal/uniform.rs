//! Values of a range, each as likely as the other.

use fleet_contract::model::signal::{self as document, Draw};

use super::{Compiler, Generate, Moment, Reader, Signals, Value};
use crate::random::Source;

#[derive(Debug)]
pub(super) struct Uniform {
    source: Source,
    range: document::Range,
    draw: Draw,
}

impl Generate for Uniform {
    type Document = document::Uniform;

    fn compile(document: &Self::Document, source: Source, _: &mut Compiler<'_>) -> Result<Self, String> {
        Ok(Self { source, range: document.range, draw: document.draw })
    }

    fn value(&self, reader: &mut Reader<'_>) -> Value {
        let moment = reader.moment();
        let [low, high] = self.range;
        let share = self.source.of(moment.device).at(position(self.draw, &moment)).unit();
        Value::Number(low + (high - low) * share)
    }

    fn integral(&self, reader: &mut Reader<'_>) -> Option<f64> {
        (self.draw == Draw::Once).then(|| self.value(reader).number() * reader.elapsed_seconds())
    }

    fn is_constant(&self, _: &Signals) -> bool {
        self.draw == Draw::Once
    }
}

/// Which draw is in force at a moment.
pub(super) fn position(draw: Draw, moment: &Moment) -> u64 {
    match draw {
        Draw::Always => moment.elapsed(),
        Draw::Once => 0,
        Draw::Every(span) => moment.elapsed() / span.0.max(1),
    }
}
