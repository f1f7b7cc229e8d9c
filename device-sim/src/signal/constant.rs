//! A value that never changes.

use fleet_contract::model::signal as document;

use super::{Compiler, Generate, Reader, Signals, Value};
use crate::random::Source;

#[derive(Debug)]
pub(super) struct Constant {
    value: Value,
}

impl Generate for Constant {
    type Document = document::Constant;

    fn compile(document: &Self::Document, _: Source, compiler: &mut Compiler<'_>) -> Result<Self, String> {
        Ok(Self { value: compiler.scalar(&document.value)? })
    }

    fn value(&self, _: &mut Reader<'_>) -> Value {
        self.value
    }

    fn integral(&self, reader: &mut Reader<'_>) -> Option<f64> {
        Some(self.value.number() * reader.elapsed_seconds())
    }

    fn is_constant(&self, _: &Signals) -> bool {
        true
    }
}
