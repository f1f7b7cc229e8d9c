//! Smooth bounded noise with a closed integral.
//!
//! Each octave is a row of cells with one wave in each, scaled by a number of the cell's own. A wave begins and ends at zero
//! with no slope and its area is zero: so the sum is smooth, and the integral up to an instant involves one cell an octave.

use fleet_contract::model::signal as document;

use super::{Compiler, Generate, Reader, Value};
use crate::random::{Sequence, Source};

const OCTAVES: u32 = 6;
/// The greatest value of u²(1−u)²(1−2u), where (1−2u)² = 1/5.
const PEAK: f64 = 0.017_888_543_819_998_317;

#[derive(Debug)]
pub(super) struct Noise {
    source: Source,
    mean: f64,
    /// Of the first octave; each further one has 1/√2 of the one before, and together they have what the document says.
    amplitude: f64,
    /// Microseconds of the first octave's cells; halved for each further one.
    period: u64,
}

impl Generate for Noise {
    type Document = document::Noise;

    fn compile(document: &Self::Document, source: Source, _: &mut Compiler<'_>) -> Result<Self, String> {
        let document::Noise { mean, amplitude, period, .. } = *document;
        let total: f64 = octaves().map(|(_, weight)| weight).sum();
        Ok(Self { source, mean, amplitude: amplitude / total, period: period.0 })
    }

    fn value(&self, reader: &mut Reader<'_>) -> Value {
        let moment = reader.moment();
        let cells = self.source.of(moment.device);
        let elapsed = moment.elapsed();
        let sum: f64 = octaves()
            .map(|(octave, weight)| {
                let (height, u, _) = self.cell(cells, octave, elapsed);
                weight * height * (u * u * (1.0 - u) * (1.0 - u) * (1.0 - 2.0 * u))
            })
            .sum();
        Value::Number(self.mean + self.amplitude / PEAK * sum)
    }

    fn integral(&self, reader: &mut Reader<'_>) -> Option<f64> {
        let moment = reader.moment();
        let cells = self.source.of(moment.device);
        let area = self.area(cells, moment.elapsed()) - self.area(cells, 0);
        Some(self.mean * reader.elapsed_seconds() + area)
    }
}

impl Noise {
    /// The number of the cell at an instant, how far into it the instant is from 0 to 1, and its length in microseconds.
    fn cell(&self, cells: Sequence, octave: u32, elapsed: u64) -> (f64, f64, f64) {
        let length = (self.period >> octave).max(1);
        let octave = u64::from(octave) << 56;
        let shifted = elapsed + cells.at(octave | (1 << 55)).below(length);
        let height = 2.0 * cells.at(octave | (shifted / length)).unit() - 1.0;
        (height, (shifted % length) as f64 / length as f64, length as f64)
    }

    /// The area under the waves of the cells that the instant is in, up to it.
    fn area(&self, cells: Sequence, elapsed: u64) -> f64 {
        let sum: f64 = octaves()
            .map(|(octave, weight)| {
                let (height, u, length) = self.cell(cells, octave, elapsed);
                let so_far = u * (1.0 - u);
                weight * height * length / 1e6 * (so_far * so_far * so_far / 3.0)
            })
            .sum();
        self.amplitude / PEAK * sum
    }
}

fn octaves() -> impl Iterator<Item = (u32, f64)> {
    let mut weight = 1.0;
    (0..OCTAVES).map(move |octave| {
        let current = weight;
        weight *= std::f64::consts::FRAC_1_SQRT_2;
        (octave, current)
    })
}
