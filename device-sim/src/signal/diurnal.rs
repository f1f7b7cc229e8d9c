//! A sine wave over the day, in UTC.

use std::f64::consts::TAU;

use fleet_contract::{model::signal as document, time::Micros};

use super::{Compiler, Generate, Reader, Value};
use crate::random::Source;

pub(super) const DAY: u64 = 86_400_000_000;

#[derive(Debug)]
pub(super) struct Diurnal {
    mean: f64,
    amplitude: f64,
    /// Microseconds from midnight to the peak.
    peak: u64,
}

impl Generate for Diurnal {
    type Document = document::Diurnal;

    fn compile(document: &Self::Document, _: Source, _: &mut Compiler<'_>) -> Result<Self, String> {
        let document::Diurnal { mean, amplitude, peak, .. } = *document;
        Ok(Self { mean, amplitude, peak: peak.0 % DAY })
    }

    fn value(&self, reader: &mut Reader<'_>) -> Value {
        Value::Number(self.mean + self.amplitude * libm::cos(self.angle(reader.moment().now)))
    }

    fn integral(&self, reader: &mut Reader<'_>) -> Option<f64> {
        let moment = reader.moment();
        let per_radian = self.amplitude * DAY as f64 / 1e6 / TAU;
        let wave = libm::sin(self.angle(moment.now)) - libm::sin(self.angle(moment.start));
        Some(self.mean * reader.elapsed_seconds() + per_radian * wave)
    }
}

impl Diurnal {
    /// From the peak, in radians.
    fn angle(&self, instant: Micros) -> f64 {
        TAU * ((instant.0 % DAY + DAY - self.peak) % DAY) as f64 / DAY as f64
    }
}
