//! Signals: values that evolve over time, each a pure function of (seed, device, instant).
//!
//! No generator has a state. What has a memory (walks, chains, fluctuations) is defined at the boundaries of blocks, whose values
//! are drawn by block number, and bridged inside by halving a fixed number of times. What fills and drains follows levels that
//! repeat, so that any number of rounds is computed at once.
//! So any instant costs the same, whether or not the one before was ever asked for.
//!
//! One generator a file, all with the same members: `Generate`.

use std::sync::Arc;

use fleet_contract::{
    expression::Type,
    model::{self as document, Files, Problem, signal::Range},
    time::Micros,
};

use crate::{index::DeviceIndex, random::Source};

mod constant;
mod counter;
mod derived;
mod diurnal;
mod gaussian;
mod integrator;
mod markov;
mod noise;
mod ornstein_uhlenbeck;
mod random_walk;
mod replay;
mod route;
mod sine;
mod step;
mod uniform;

pub use derived::Condition;

/// A value of a signal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A number, in the signal's unit.
    Number(f64),
    /// A truth value.
    Bool(bool),
    /// A text.
    Text(Symbol),
}

impl Value {
    /// The number; of a truth value 0 or 1, of a text 0.
    pub fn number(self) -> f64 {
        match self {
            Self::Number(number) => number,
            Self::Bool(truth) => f64::from(u8::from(truth)),
            Self::Text(_) => 0.0,
        }
    }

    /// Whether it is true.
    pub fn is_true(self) -> bool {
        self == Self::Bool(true)
    }
}

/// A text that a signal can have, by its number in [`Symbols`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol(u16);

/// All texts of a model's signals.
#[derive(Debug, Default)]
pub struct Symbols(Vec<Box<str>>);

impl Symbols {
    /// The symbol of a text. A model with more than 65,536 texts is refused before it comes here.
    pub fn intern(&mut self, text: &str) -> Result<Symbol, String> {
        let known = self.0.iter().position(|known| &**known == text);
        let number = known.unwrap_or_else(|| {
            self.0.push(text.into());
            self.0.len() - 1
        });
        u16::try_from(number).map(Symbol).map_err(|_| "more than 65,536 different texts".into())
    }

    /// All texts in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|text| &**text)
    }

    /// The text of a symbol.
    pub fn text(&self, symbol: Symbol) -> &str {
        &self.0[usize::from(symbol.0)]
    }
}

impl Symbol {
    /// Its number.
    pub fn number(self) -> usize {
        usize::from(self.0)
    }
}

/// Where and when a signal is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The device.
    pub device: DeviceIndex,
    /// When the run started.
    pub start: Micros,
    /// Now.
    pub now: Micros,
}

impl Moment {
    /// Microseconds since the start.
    pub const fn elapsed(&self) -> u64 {
        self.now.since(self.start).0
    }
}

/// What every kind of signal can do.
trait Generate: Sized {
    /// How a document describes it.
    type Document;

    /// Computes all that does not depend on the device. The document has been checked.
    fn compile(document: &Self::Document, source: Source, compiler: &mut Compiler<'_>) -> Result<Self, String>;

    /// The value at the reader's moment, before it is put into its range.
    fn value(&self, reader: &mut Reader<'_>) -> Value;

    /// The integral from the start to the reader's moment, in value × seconds; `None` where there is no closed form.
    fn integral(&self, reader: &mut Reader<'_>) -> Option<f64>;

    /// Whether a device's value is the same at any time.
    fn is_constant(&self, _: &Signals) -> bool {
        false
    }
}

/// What a document's signals are compiled with.
struct Compiler<'a> {
    model: &'a document::Model,
    names: Vec<&'a str>,
    files: &'a Files,
    symbols: Symbols,
    seed: u64,
    /// What all signals of the kind `route` share, once the first of them is compiled.
    track: Option<Arc<route::Track>>,
}

impl Compiler<'_> {
    fn index(&self, name: &str) -> Result<usize, String> {
        self.names.binary_search(&name).map_err(|_| format!("there is no signal `{name}`"))
    }

    fn scalar(&mut self, scalar: &document::signal::Scalar) -> Result<Value, String> {
        Ok(match scalar {
            document::signal::Scalar::Bool(truth) => Value::Bool(*truth),
            document::signal::Scalar::Number(number) => Value::Number(*number),
            document::signal::Scalar::Text(text) => Value::Text(self.symbols.intern(text)?),
        })
    }
}

/// One of each kind.
macro_rules! generators {
    ($($kind:ident($module:ident)),* $(,)?) => {
        #[derive(Debug)]
        enum Generator {
            $($kind($module::$kind),)*
        }

        impl Generator {
            fn compile(
                document: &document::Signal,
                source: Source,
                compiler: &mut Compiler<'_>,
            ) -> Result<Self, String> {
                match document {
                    $(document::Signal::$kind(document) => {
                        $module::$kind::compile(document, source, compiler).map(Self::$kind)
                    })*
                }
            }

            fn value(&self, reader: &mut Reader<'_>) -> Value {
                match self {
                    $(Self::$kind(generator) => generator.value(reader),)*
                }
            }

            fn integral(&self, reader: &mut Reader<'_>) -> Option<f64> {
                match self {
                    $(Self::$kind(generator) => generator.integral(reader),)*
                }
            }

            fn is_constant(&self, signals: &Signals) -> bool {
                match self {
                    $(Self::$kind(generator) => generator.is_constant(signals),)*
                }
            }
        }
    };
}

generators! {
    Constant(constant),
    Uniform(uniform),
    Gaussian(gaussian),
    RandomWalk(random_walk),
    OrnsteinUhlenbeck(ornstein_uhlenbeck),
    Noise(noise),
    Sine(sine),
    Diurnal(diurnal),
    Step(step),
    Markov(markov),
    Counter(counter),
    Integrator(integrator),
    Derived(derived),
    Replay(replay),
    Route(route),
}

/// The compiled signals of a model.
#[derive(Debug)]
pub struct Signals {
    /// Which ones, so that a [`Memo`] never mistakes one model's values for another's.
    id: u64,
    names: Vec<Box<str>>,
    entries: Vec<Entry>,
    symbols: Symbols,
}

#[derive(Debug)]
struct Entry {
    generator: Generator,
    range: Range,
    decimals: u8,
    kind: Type,
}

/// Numbers without a range of their own stay in this one, where all whole numbers are exact.
const WIDEST: Range = [-document::EXACT_MAX, document::EXACT_MAX];

impl Signals {
    /// Compiles all signals of a checked model, or says what is wrong with the files they replay.
    pub fn compile(model: &document::Model, seed: u64, files: &Files) -> Result<Self, Vec<Problem>> {
        let names: Vec<&str> = model.signals.keys().map(String::as_str).collect();
        let mut compiler = Compiler { model, names, files, symbols: Symbols::default(), seed, track: None };
        let types = document::types(model);
        let mut problems = Vec::new();
        let mut entries = Vec::new();
        for (name, document) in &model.signals {
            match Generator::compile(document, Source::new(seed, name), &mut compiler) {
                Ok(generator) => entries.push(Entry {
                    generator,
                    range: document.common().range.unwrap_or(WIDEST),
                    decimals: decimals(document),
                    kind: types.get(name).copied().unwrap_or(Type::Number),
                }),
                Err(message) => problems.push(Problem { path: format!("/signals/{name}"), message }),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let names = compiler.names.iter().map(|&name| name.into()).collect();
        Ok(Self { id: next_id(), names, entries, symbols: compiler.symbols })
    }

    /// The index of a signal.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.names.binary_search_by(|known| (**known).cmp(name)).ok()
    }

    /// The range of a signal; the widest possible unless the document says one.
    pub fn range(&self, signal: usize) -> Range {
        self.entries[signal].range
    }

    /// Digits after the decimal point of a signal.
    pub fn decimals(&self, signal: usize) -> u8 {
        self.entries[signal].decimals
    }

    fn is_constant(&self, signal: usize) -> bool {
        self.entries[signal].generator.is_constant(self)
    }

    /// A signal, if it is a step.
    fn step(&self, signal: usize) -> Option<&step::Step> {
        match &self.entries[signal].generator {
            Generator::Step(step) => Some(step),
            _ => None,
        }
    }

    /// The type of a signal's values.
    pub fn type_of(&self, signal: usize) -> Type {
        self.entries[signal].kind
    }

    /// The texts that signals can have.
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// Looks at signals at a moment; values already in the memo are not computed again.
    pub fn read<'a>(&'a self, moment: Moment, memo: &'a mut Memo) -> Reader<'a> {
        memo.turn(self, moment);
        Reader { signals: self, moment, memo }
    }
}

fn next_id() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// As said, else as many as a constant is written with, else 2.
fn decimals(document: &document::Signal) -> u8 {
    let written = |number: f64| match number.to_string().split_once('.') {
        Some((_, digits)) => u8::try_from(digits.len()).unwrap_or(9).min(9),
        None => 0,
    };
    match (document.common().decimals, document) {
        (Some(decimals), _) => decimals,
        (None, document::Signal::Constant(constant)) => match constant.value {
            document::signal::Scalar::Number(number) => written(number),
            _ => 0,
        },
        (None, _) => 2,
    }
}

/// Values of one moment, so that a signal that several places use is computed once. Reused from moment to moment.
#[derive(Debug, Default)]
pub struct Memo {
    of: Option<(u64, Moment)>,
    values: Vec<Option<Value>>,
    vehicle: Option<route::Vehicle>,
    /// Values while a step is at another level than now.
    other: Option<Box<Memo>>,
}

impl Memo {
    fn turn(&mut self, signals: &Signals, moment: Moment) {
        if self.of != Some((signals.id, moment)) {
            self.of = Some((signals.id, moment));
            self.values.clear();
            self.values.resize(signals.entries.len(), None);
            self.vehicle = None;
        }
    }
}

/// Looks at signals at one moment.
#[derive(Debug)]
pub struct Reader<'a> {
    signals: &'a Signals,
    moment: Moment,
    memo: &'a mut Memo,
}

impl Reader<'_> {
    /// Where and when.
    pub fn moment(&self) -> Moment {
        self.moment
    }

    /// The value of a signal, within its range.
    pub fn value(&mut self, signal: usize) -> Value {
        if let Some(value) = self.memo.values[signal] {
            return value;
        }
        let Entry { generator, range: [low, high], .. } = &self.signals.entries[signal];
        let value = match generator.value(self) {
            Value::Number(number) if number.is_finite() => Value::Number(number.clamp(*low, *high)),
            Value::Number(_) => Value::Number(0f64.clamp(*low, *high)),
            other => other,
        };
        self.memo.values[signal] = Some(value);
        value
    }

    /// The value that a signal has whenever a step is at a level. Nothing else that it is computed from may change.
    fn value_while(&mut self, signal: usize, step: usize, level: Value) -> Value {
        let mut memo = self.memo.other.take().unwrap_or_default();
        memo.values.clear();
        memo.values.resize(self.signals.entries.len(), None);
        memo.values[step] = Some(level);
        let value = Reader { signals: self.signals, moment: self.moment, memo: &mut memo }.value(signal);
        self.memo.other = Some(memo);
        value
    }

    /// The integral of a signal since the start, in value × seconds.
    fn integral(&mut self, signal: usize) -> Option<f64> {
        self.signals.entries[signal].generator.integral(self)
    }

    fn is_constant(&self, signal: usize) -> bool {
        self.signals.is_constant(signal)
    }

    fn elapsed_seconds(&self) -> f64 {
        self.moment.elapsed() as f64 / 1e6
    }
}

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    reason = "small positive numbers, and the same bits are what is promised"
)]
mod tests;
