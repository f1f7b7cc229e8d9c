//! Normally distributed values, independent from draw to draw.

use fleet_contract::model::signal::{self as document, Draw};

use super::{Compiler, Generate, Reader, Signals, Value, uniform::position};
use crate::random::Source;

#[derive(Debug)]
pub(super) struct Gaussian {
    source: Source,
    mean: f64,
    stddev: f64,
    range: Option<document::Range>,
    draw: Draw,
}

impl Generate for Gaussian {
    type Document = document::Gaussian;

    fn compile(document: &Self::Document, source: Source, _: &mut Compiler<'_>) -> Result<Self, String> {
        let document::Gaussian { mean, stddev, draw, range, .. } = *document;
        Ok(Self { source, mean, stddev, range, draw })
    }

    fn value(&self, reader: &mut Reader<'_>) -> Value {
        let moment = reader.moment();
        let deviation = self.source.of(moment.device).at(position(self.draw, &moment)).normal();
        let value = self.mean + self.stddev * deviation;
        Value::Number(self.range.map_or(value, |[low, high]| value.clamp(low, high)))
    }

    fn integral(&self, reader: &mut Reader<'_>) -> Option<f64> {
        (self.draw == Draw::Once).then(|| self.value(reader).number() * reader.elapsed_seconds())
    }

    fn is_constant(&self, _: &Signals) -> bool {
        self.draw == Draw::Once
    }
}
