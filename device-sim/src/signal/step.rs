//! Levels that follow each other, over and over.

use std::ops::Range;

use fleet_contract::model::signal::{self as document, StepFrom};

use super::{Compiler, Generate, Moment, Reader, Value};
use crate::random::Source;

#[derive(Debug)]
pub(super) struct Step {
    source: Source,
    levels: Vec<Level>,
    /// Microseconds of one round.
    round: u64,
    /// The integral over one round.
    area: f64,
    from: StepFrom,
    spread: f64,
}

#[derive(Debug)]
struct Level {
    value: Value,
    /// Microseconds into the round at which it begins.
    begin: u64,
    /// The integral over the round before it begins.
    area: f64,
}

impl Generate for Step {
    type Document = document::Step;

    fn compile(document: &Self::Document, source: Source, compiler: &mut Compiler<'_>) -> Result<Self, String> {
        let (mut round, mut area) = (0, 0.0);
        let mut levels = Vec::with_capacity(document.levels.len());
        for level in &document.levels {
            let value = compiler.scalar(&level.value)?;
            levels.push(Level { value, begin: round, area });
            round = level.hold.0.saturating_add(round);
            area += value.number() * level.hold.as_secs_f64();
        }
        Ok(Self { source, levels, round, area, from: document.from, spread: document.spread.fraction() })
    }

    fn value(&self, reader: &mut Reader<'_>) -> Value {
        let moment = reader.moment();
        self.level(self.position(&moment, moment.elapsed()) % self.round).value
    }

    fn integral(&self, reader: &mut Reader<'_>) -> Option<f64> {
        let moment = reader.moment();
        Some(self.area_at(self.position(&moment, moment.elapsed())) - self.area_at(self.position(&moment, 0)))
    }
}

impl Step {
    /// Microseconds since the beginning of some round, `elapsed` after the start.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a round")]
    pub(super) fn position(&self, moment: &Moment, elapsed: u64) -> u64 {
        let share = self.spread * self.source.of(moment.device).at(0).unit();
        let origin = match self.from {
            StepFrom::Start => 0,
            StepFrom::Midnight => moment.start.0 % self.round.max(super::diurnal::DAY),
        };
        elapsed + origin + (share * self.round as f64) as u64
    }

    /// Microseconds of one round.
    pub(super) fn round(&self) -> u64 {
        self.round
    }

    /// The levels of a round: from where to where each lasts, in microseconds, and its value.
    pub(super) fn levels(&self) -> impl Iterator<Item = (Range<u64>, Value)> {
        let ends = self.levels.iter().skip(1).map(|level| level.begin).chain([self.round]);
        self.levels.iter().zip(ends).map(|(level, end)| (level.begin..end, level.value))
    }

    fn level(&self, position: u64) -> &Level {
        let after = self.levels.partition_point(|level| level.begin <= position);
        &self.levels[after - 1]
    }

    /// The integral from position 0.
    fn area_at(&self, position: u64) -> f64 {
        let (rounds, into) = (position / self.round, position % self.round);
        let level = self.level(into);
        rounds as f64 * self.area + level.area + level.value.number() * (into - level.begin) as f64 / 1e6
    }
}
