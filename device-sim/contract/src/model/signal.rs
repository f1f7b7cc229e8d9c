//! Signals: values that evolve over time, one struct per kind.
//!
//! Whatever the kind, a value at an instant depends on seed, device and instant alone.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::is_false;
use crate::{
    expression::Type,
    units::{Share, Span},
};

/// Least and greatest value, both included.
pub type Range = [f64; 2];

/// A literal value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Scalar {
    /// A truth value.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

/// When a random value is drawn anew.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Draw {
    /// At every instant.
    #[default]
    Always,
    /// Once: a property of the device, such as how far its sensor is off.
    Once,
    /// So often; the value holds in between.
    Every(Span),
}

/// One value that evolves over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Signal {
    /// Always the same.
    Constant(Constant),
    /// Any value of the range, each as likely as the other.
    Uniform(Uniform),
    /// Normally distributed about a mean, independent from draw to draw.
    Gaussian(Gaussian),
    /// A random walk that the ends of its range reflect.
    RandomWalk(RandomWalk),
    /// Fluctuates about a mean and returns to it, as temperatures do.
    OrnsteinUhlenbeck(OrnsteinUhlenbeck),
    /// Fluctuates smoothly about a mean, never further from it than `amplitude`; a counter can integrate it.
    Noise(Noise),
    /// A sine wave.
    Sine(Sine),
    /// A sine wave over the day, with its peak at a time of day.
    Diurnal(Diurnal),
    /// Levels that follow each other, over and over.
    Step(Step),
    /// States that a device stays in for a while and leaves for another at random.
    Markov(Markov),
    /// Grows with time: a constant rate or another signal, integrated. Never decreases.
    Counter(Counter),
    /// Fills and drains between the ends of its range, as a battery does: another signal, integrated.
    Integrator(Integrator),
    /// Computed from other signals.
    Derived(Derived),
    /// Recorded values, played back.
    Replay(Replay),
    /// A vehicle on a closed road.
    Route(Route),
}

/// A struct of a signal kind, with the fields that all numeric kinds share.
macro_rules! kind {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        kind!(@struct $(#[$meta])* $name { $($(#[$field_meta])* $field: $type,)* }
            /// The least and the greatest value; what would lie outside is put on the edge.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            range: Option<Range>);
    };
    ($(#[$meta:meta])* ranged $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        kind!(@struct $(#[$meta])* $name { $($(#[$field_meta])* $field: $type,)* }
            /// The least and the greatest value.
            range: Range);
    };
    (@struct $(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }
        $(#[$range_meta:meta])* range: $range:ty) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
            $(#[$range_meta])*
            pub range: $range,
            /// What the value is measured in, for people: `celsius`, `km/h`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub unit: Option<String>,
            /// Digits after the decimal point, 0 to 9; 2 unless said (a constant: as many as it is written with).
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub decimals: Option<u8>,
        }
    };
}

kind! {
    /// Always the same.
    Constant {
        /// The value: a number, a truth value or a text.
        value: Scalar,
    }
}

kind! {
    /// Any value of the range, each as likely as the other.
    ranged Uniform {
        /// When a value is drawn anew: `always`, `once` or `every: 10s`.
        #[serde(default)]
        draw: Draw,
    }
}

kind! {
    /// Normally distributed about a mean, independent from draw to draw.
    Gaussian {
        /// The mean.
        mean: f64,
        /// The standard deviation.
        stddev: f64,
        /// When a value is drawn anew: `always`, `once` or `every: 10s`.
        #[serde(default)]
        draw: Draw,
    }
}

kind! {
    /// A random walk that the ends of its range reflect.
    ranged RandomWalk {
        /// The standard deviation of one step.
        step: f64,
        /// The time of one step.
        every: Span,
        /// Where it starts; anywhere in the range unless said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        start: Option<f64>,
    }
}

kind! {
    /// Fluctuates about a mean and returns to it: the correlation of two values falls to 1/e after `relaxation`.
    OrnsteinUhlenbeck {
        /// The mean.
        mean: f64,
        /// The standard deviation.
        stddev: f64,
        /// How long the value remembers where it was.
        relaxation: Span,
    }
}

kind! {
    /// Fluctuates smoothly about a mean, never further from it than `amplitude`.
    Noise {
        /// The mean.
        mean: f64,
        /// The greatest distance from the mean.
        amplitude: f64,
        /// The time of the slowest fluctuation; faster and smaller ones, down to a 32nd of it, ride on it.
        period: Span,
    }
}

kind! {
    /// A sine wave.
    Sine {
        /// The mean.
        mean: f64,
        /// From the mean to the peak.
        amplitude: f64,
        /// The time of one wave.
        period: Span,
        /// How far into the wave it starts.
        #[serde(default)]
        phase: Span,
        /// Over which share of the wave the devices are spread; `0%` keeps them in step.
        #[serde(default = "all")]
        spread: Share,
    }
}

kind! {
    /// A sine wave over the day in UTC.
    Diurnal {
        /// The mean.
        mean: f64,
        /// From the mean to the peak.
        amplitude: f64,
        /// The time of day of the peak: `14h30m`.
        peak: Span,
    }
}

kind! {
    /// Levels that follow each other, over and over.
    Step {
        /// The levels in their order, all numbers, all truth values or all texts.
        levels: Vec<Level>,
        /// Where the first one begins: with the run, or at midnight UTC.
        #[serde(default)]
        from: StepFrom,
        /// Over which share of one round the devices are spread; `0%` keeps them in step.
        #[serde(default = "none")]
        spread: Share,
    }
}

/// A level of a [`Step`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Level {
    /// The value.
    pub value: Scalar,
    /// How long it lasts.
    pub hold: Span,
}

/// Where the first level of a [`Step`] begins.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StepFrom {
    /// When the run starts.
    #[default]
    Start,
    /// At midnight UTC.
    Midnight,
}

kind! {
    /// States that a device stays in for a while and leaves for another at random.
    Markov {
        /// The states by name. Each must be reachable from each.
        states: BTreeMap<String, State>,
    }
}

/// A state of a [`Markov`] chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    /// How long the device stays on average; the times are exponentially distributed.
    pub dwell: Span,
    /// The states that may follow, each with its weight.
    pub next: BTreeMap<String, f64>,
    /// The signal's value in this state; the name of the state unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Scalar>,
}

kind! {
    /// Grows with time: `rate` or the signal `of`, integrated. Never decreases.
    Counter {
        /// Growth in each `per`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rate: Option<f64>,
        /// The signal to integrate. It must never be negative and have a closed integral: constant, noise, sine,
        /// diurnal, step, replay, uniform or gaussian drawn once, or a sum or multiple of such.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<String>,
        /// The time that the rate or signal is meant for: `1h` makes watt-hours from watts.
        #[serde(default = "second")]
        per: Span,
        /// The value when the run starts.
        #[serde(default)]
        start: f64,
        /// Up to this much more for each device, at random.
        #[serde(default)]
        spread: f64,
    }
}

kind! {
    /// Fills and drains between the ends of its range: the signal `of`, integrated. At an end it stays until the rate turns.
    ranged Integrator {
        /// The rate of change, negative while it drains. It must follow levels that repeat: a step, or an expression
        /// of one step, constants, and uniform or gaussian drawn once.
        of: String,
        /// The time that the rate is meant for: `1h` makes watt-hours from watts.
        #[serde(default = "second")]
        per: Span,
        /// The value when the run starts; anywhere in the range unless said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        start: Option<f64>,
        /// Up to this much more than `start` for each device, at random.
        #[serde(default)]
        spread: f64,
    }
}

kind! {
    /// Computed from other signals.
    Derived {
        /// For example `power > 0 ? energy / power : 0`, with `+ - * / %`, comparisons, `&& || !`, `?:` and the
        /// functions min, max, abs, floor, ceil, round, clamp, sin, cos, sqrt. What is no number (1/0) becomes the lower
        /// end of the range, or 0.
        expression: String,
    }
}

kind! {
    /// Recorded values, played back.
    Replay {
        /// A CSV (`.csv`) or JSON lines file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<String>,
        /// The records themselves, instead of a file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// How the records are written.
        format: RecordFormat,
        /// The column or member that holds the value.
        column: String,
        /// What the values are: `number`, `bool` or `text`.
        #[serde(default = "number", rename = "type")]
        value_type: Type,
        /// The column or member that holds the time, ascending: a number of `timeUnit`, or an instant such as
        /// `2026-01-31T15:11:58Z`. Without it there is a record each `every`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time: Option<String>,
        /// What times that are numbers count: `s`, `ms`, `us` or `ns`.
        #[serde(default, skip_serializing_if = "is_seconds")]
        time_unit: TimeUnit,
        /// The time from record to record when there is no `time`.
        #[serde(default = "second")]
        every: Span,
        /// How many times faster than recorded.
        #[serde(default = "one")]
        speed: f64,
        /// Stays at the last record instead of beginning again.
        #[serde(default, skip_serializing_if = "is_false")]
        once: bool,
        /// Draws lines between the records instead of steps.
        #[serde(default, skip_serializing_if = "is_false")]
        interpolate: bool,
        /// Over which share of the recording the devices are spread.
        #[serde(default = "none")]
        spread: Share,
    }
}

/// What the times of a recording count.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::Display)]
pub enum TimeUnit {
    /// Seconds.
    #[default]
    #[serde(rename = "s")]
    #[strum(serialize = "seconds")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    #[strum(serialize = "milliseconds")]
    Milliseconds,
    /// Microseconds.
    #[serde(rename = "us")]
    #[strum(serialize = "microseconds")]
    Microseconds,
    /// Nanoseconds.
    #[serde(rename = "ns")]
    #[strum(serialize = "nanoseconds")]
    Nanoseconds,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_seconds(unit: &TimeUnit) -> bool {
    *unit == TimeUnit::Seconds
}

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RecordFormat {
    /// Comma-separated, with a header line.
    Csv,
    /// One JSON object a line.
    JsonLines,
}

kind! {
    /// A vehicle on a closed road. All signals of this kind in a model are about the same vehicle.
    Route {
        /// What of the vehicle.
        value: RouteValue,
    }
}

/// What of a vehicle on its route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RouteValue {
    /// Degrees north.
    Latitude,
    /// Degrees east.
    Longitude,
    /// Degrees clockwise from north, 0 to 360.
    Heading,
    /// Metres a second.
    Speed,
    /// Metres a second squared, along the road.
    Acceleration,
    /// Degrees a second, clockwise.
    YawRate,
    /// Metres driven since the vehicle was built.
    Odometer,
    /// State of charge in per cent.
    StateOfCharge,
    /// Whether it stands at the charger.
    IsCharging,
    /// Whether it brakes harder than 4 m/s².
    HardBrake,
    /// `driving`, `stopped` or `charging`.
    Mode,
}

fn number() -> Type {
    Type::Number
}

fn all() -> Share {
    Share::ALL
}

fn none() -> Share {
    Share::from_basis_points(0).unwrap_or(Share::ALL)
}

fn second() -> Span {
    Span::from_secs(1)
}

fn one() -> f64 {
    1.0
}

/// What all kinds share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Common<'a> {
    /// The least and the greatest value.
    pub range: Option<Range>,
    /// What the value is measured in.
    pub unit: Option<&'a str>,
    /// Digits after the decimal point.
    pub decimals: Option<u8>,
}

macro_rules! common {
    ($signal:expr, [$($kind:ident),*], [$($ranged:ident),*]) => {
        match $signal {
            $(Signal::$kind(kind) => Common { range: kind.range, unit: kind.unit.as_deref(), decimals: kind.decimals },)*
            $(Signal::$ranged(kind) => {
                Common { range: Some(kind.range), unit: kind.unit.as_deref(), decimals: kind.decimals }
            })*
        }
    };
}

impl Signal {
    /// Whether each device keeps the value that it has at the start, whatever other signals do.
    pub fn never_changes(&self) -> bool {
        match self {
            Self::Constant(_) => true,
            Self::Uniform(uniform) => uniform.draw == Draw::Once,
            Self::Gaussian(gaussian) => gaussian.draw == Draw::Once,
            Self::RandomWalk(_)
            | Self::OrnsteinUhlenbeck(_)
            | Self::Noise(_)
            | Self::Sine(_)
            | Self::Diurnal(_)
            | Self::Step(_)
            | Self::Markov(_)
            | Self::Counter(_)
            | Self::Integrator(_)
            | Self::Derived(_)
            | Self::Replay(_)
            | Self::Route(_) => false,
        }
    }

    /// Range, unit and decimals.
    pub fn common(&self) -> Common<'_> {
        common!(
            self,
            [
                Constant,
                Gaussian,
                OrnsteinUhlenbeck,
                Noise,
                Sine,
                Diurnal,
                Step,
                Markov,
                Counter,
                Derived,
                Replay,
                Route
            ],
            [Uniform, RandomWalk, Integrator]
        )
    }
}
