//! A random walk between two walls that reflect it.
//!
//! After many steps such a walk may be anywhere between the walls with equal chance. So its value at the boundaries of
//! blocks that long is drawn uniformly, and a Brownian bridge with the variance of the steps leads from one to the next,
//! folded at the walls. A walk that would need more than 2¹⁶ steps to forget where it was drifts a little faster than
//! its steps alone would take it.

use fleet_contract::model::signal as document;

use super::{Compiler, Generate, Reader, Value};
use crate::random::{Sequence, Source};

const LEVELS_MAX: u32 = 16;

#[derive(Debug)]
pub(super) struct RandomWalk {
    source: Source,
    range: document::Range,
    start: Option<f64>,
    /// Microseconds of one step.
    every: u64,
    /// A block has 2^levels steps.
    levels: u32,
    /// The standard deviation of the middle of a bridge over the whole block.
    deviation: f64,
}

impl Generate for RandomWalk {
    type Document = document::RandomWalk;

    fn compile(document: &Self::Document, source: Source, _: &mut Compiler<'_>) -> Result<Self, String> {
        let document::RandomWalk { step, every, start, range, .. } = *document;
        let steps_to_forget = ((range[1] - range[0]) / step).powi(2);
        let levels = (2..LEVELS_MAX).find(|levels| f64::from(1u32 << levels) >= steps_to_forget).unwrap_or(LEVELS_MAX);
        let deviation = step * f64::from(1u32 << levels).sqrt() / 2.0;
        Ok(Self { source, range, start, every: every.0, levels, deviation })
    }

    fn value(&self, reader: &mut Reader<'_>) -> Value {
        let moment = reader.moment();
        let elapsed = moment.elapsed();
        let length = self.every << self.levels;
        let walk = self.source.of(moment.device);
        let free = self.bridge(walk, elapsed / length, (elapsed % length) as f64 / length as f64);
        Value::Number(self.fold(free))
    }

    fn integral(&self, _: &mut Reader<'_>) -> Option<f64> {
        None
    }
}

impl RandomWalk {
    /// The unfolded walk at a share of a block, by halving: the middle is the mean of the ends and a deviation that
    /// shrinks by √2 with each half.
    fn bridge(&self, walk: Sequence, block: u64, mut share: f64) -> f64 {
        let (mut left, mut right) = (self.boundary(walk, block), self.boundary(walk, block + 1));
        let mut deviation = self.deviation;
        let mut node = 1;
        for _ in 0..self.levels {
            let middle = 0.5 * (left + right) + deviation * walk.at(self.position(block, node)).bell();
            deviation *= std::f64::consts::FRAC_1_SQRT_2;
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

    fn boundary(&self, walk: Sequence, block: u64) -> f64 {
        let [low, high] = self.range;
        match self.start {
            Some(start) if block == 0 => start,
            _ => low + (high - low) * walk.at(self.position(block, 0)).unit(),
        }
    }

    /// Node 0 is the boundary, 1 the middle, 2 and 3 the quarters, and so on.
    fn position(&self, block: u64, node: u64) -> u64 {
        (block << (self.levels + 1)) + node
    }

    /// What is past a wall goes back by as much.
    fn fold(&self, value: f64) -> f64 {
        let [low, high] = self.range;
        let width = high - low;
        let past = (value - low).rem_euclid(2.0 * width);
        low + if past > width { 2.0 * width - past } else { past }
    }
}
