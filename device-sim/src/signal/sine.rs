//! A sine wave.

use std::f64::consts::TAU;

use fleet_contract::model::signal as document;

use super::{Compiler, Generate, Moment, Reader, Value};
use crate::random::Source;

#[derive(Debug)]
pub(super) struct Sine {
    source: Source,
    mean: f64,
    amplitude: f64,
    period: u64,
    phase: u64,
    spread: f64,
}

impl Generate for Sine {
    type Document = document::Sine;

    fn compile(document: &Self::Document, source: Source, _: &mut Compiler<'_>) -> Result<Self, String> {
        let document::Sine { mean, amplitude, period, phase, spread, .. } = *document;
        Ok(Self { source, mean, amplitude, period: period.0, phase: phase.0 % period.0, spread: spread.fraction() })
    }

    fn value(&self, reader: &mut Reader<'_>) -> Value {
        let moment = reader.moment();
        Value::Number(self.mean + self.amplitude * libm::sin(self.angle(&moment, moment.elapsed())))
    }

    fn integral(&self, reader: &mut Reader<'_>) -> Option<f64> {
        let moment = reader.moment();
        let (from, to) = (self.angle(&moment, 0), self.angle(&moment, moment.elapsed()));
        let per_radian = self.amplitude * self.period as f64 / 1e6 / TAU;
        Some(self.mean * reader.elapsed_seconds() + per_radian * (libm::cos(from) - libm::cos(to)))
    }
}

impl Sine {
    fn angle(&self, moment: &Moment, elapsed: u64) -> f64 {
        let waves = ((elapsed + self.phase) % self.period) as f64 / self.period as f64;
        TAU * (waves + self.spread * self.source.of(moment.device).at(0).unit())
    }
}
