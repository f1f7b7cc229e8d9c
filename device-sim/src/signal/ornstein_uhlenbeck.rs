//! The Ornstein-Uhlenbeck process: fluctuates about a mean and returns to it.
//!
//! Two values 8 relaxation times apart have a correlation of e⁻⁸, which is as good as none: boundaries of blocks that long
//! are drawn independently. Inside, the exact bridge: the middle of two values a gap *d* apart has the mean
//! (a + b) / (2 cosh(d/2τ)) and the variance σ² tanh(d/2τ). Below a 128th of the relaxation time it goes straight.

use fleet_contract::model::signal as document;

use super::{Compiler, Generate, Reader, Value};
use crate::random::{Sequence, Source};

const LEVELS: usize = 10;
/// A block in relaxation times.
const BLOCK: u64 = 8;

#[derive(Debug)]
pub(super) struct OrnsteinUhlenbeck {
    source: Source,
    mean: f64,
    stddev: f64,
    /// Microseconds of a block.
    length: u64,
    /// For each halving: what the sum of the ends and a standard deviate are multiplied with.
    levels: [(f64, f64); LEVELS],
}

impl Generate for OrnsteinUhlenbeck {
    type Document = document::OrnsteinUhlenbeck;

    fn compile(document: &Self::Document, source: Source, _: &mut Compiler<'_>) -> Result<Self, String> {
        let document::OrnsteinUhlenbeck { mean, stddev, relaxation, .. } = *document;
        let mut half_gap = BLOCK as f64 / 2.0;
        let levels = std::array::from_fn(|_| {
            let factors = (0.5 / libm::cosh(half_gap), libm::tanh(half_gap).sqrt());
            half_gap /= 2.0;
            factors
        });
        Ok(Self { source, mean, stddev, length: relaxation.0 * BLOCK, levels })
    }

    fn value(&self, reader: &mut Reader<'_>) -> Value {
        let moment = reader.moment();
        let elapsed = moment.elapsed();
        let path = self.source.of(moment.device);
        let share = (elapsed % self.length) as f64 / self.length as f64;
        Value::Number(self.mean + self.stddev * self.bridge(path, elapsed / self.length, share))
    }

    fn integral(&self, _: &mut Reader<'_>) -> Option<f64> {
        None
    }
}

impl OrnsteinUhlenbeck {
    /// The standardised process at a share of a block.
    fn bridge(&self, path: Sequence, block: u64, mut share: f64) -> f64 {
        let position = |block: u64, node: u64| (block << (LEVELS + 1)) + node;
        let (mut left, mut right) = (path.at(position(block, 0)).normal(), path.at(position(block + 1, 0)).normal());
        let mut node = 1;
        for (of_ends, of_deviate) in self.levels {
            let middle = (left + right) * of_ends + of_deviate * path.at(position(block, node)).bell();
            node *= 2;
            share *= 2.0;
            if share < 1.0 {
                right = middle;
            } else {
                left = middle;
                share -= 1.0;
                node += 1;
            }
        }
        left + (right - left) * share
    }
}
