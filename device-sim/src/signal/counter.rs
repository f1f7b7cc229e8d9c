//! What grows with time: a rate or another signal, integrated in closed form.

use fleet_contract::model::signal as document;

use super::{Compiler, Generate, Reader, Value};
use crate::random::Source;

#[derive(Debug)]
pub(super) struct Counter {
    source: Source,
    growth: Growth,
    /// Seconds that the rate or signal is meant for.
    per: f64,
    start: f64,
    spread: f64,
}

#[derive(Debug)]
enum Growth {
    Rate(f64),
    Signal(usize),
}

impl Generate for Counter {
    type Document = document::Counter;

    fn compile(document: &Self::Document, source: Source, compiler: &mut Compiler<'_>) -> Result<Self, String> {
        let document::Counter { rate, of, per, start, spread, .. } = document;
        let growth = match of {
            Some(signal) => Growth::Signal(compiler.index(signal)?),
            None => Growth::Rate(rate.unwrap_or_default()),
        };
        Ok(Self { source, growth, per: per.as_secs_f64(), start: *start, spread: *spread })
    }

    fn value(&self, reader: &mut Reader<'_>) -> Value {
        let growth = match self.growth {
            Growth::Rate(rate) => rate * reader.elapsed_seconds(),
            Growth::Signal(signal) => reader.integral(signal).unwrap_or_default(),
        };
        let more = self.spread * self.source.of(reader.moment().device).at(0).unit();
        Value::Number(self.start + more + growth / self.per)
    }

    fn integral(&self, _: &mut Reader<'_>) -> Option<f64> {
        None
    }
}
