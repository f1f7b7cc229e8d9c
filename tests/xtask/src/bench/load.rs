//! What a generator is asked to do, and `simctl run`'s flags for it.

use std::{fmt, path::PathBuf, time::Duration};

use fleet_contract::units::Span;
use tests::project;

/// Faster than any engine connects: the engine is the limit.
const CONNECT_RATE: u32 = 100_000;

/// A fleet that sends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) model: Model,
    pub(super) devices: u32,
    pub(super) interval: Span,
    pub(super) qos: u8,
    pub(super) observe: Observe,
    pub(super) engine: Engine,
    pub(super) demand: Demand,
    /// How many devices connect a second.
    pub(super) connect_rate: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Model {
    /// JSON of 200 bytes whose values come from signals, as `tests/bench/models/sensor.yaml` says.
    Sensor,
    /// 200 bytes that are always the same.
    Constant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Observe {
    None,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    Native,
    Rumqttc,
}

/// What the load is to the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// It must be kept up: a measurement in which less arrives says nothing.
    Kept,
    /// It is more than the core gives, so that the core is full. The timetable is open-loop: what is overdue leaves
    /// as fast as it can, many messages in one write.
    Saturating,
}

impl Load {
    /// Devices of the sensor model at QoS 0, which nobody observes, on simctl's own engine.
    pub(super) fn of(devices: u32, interval: Span) -> Load {
        Load {
            model: Model::Sensor,
            devices,
            interval,
            qos: 0,
            observe: Observe::None,
            engine: Engine::Native,
            demand: Demand::Kept,
            connect_rate: CONNECT_RATE,
        }
    }

    /// Devices that stay connected and send nothing while they are looked at.
    pub(super) fn idle(devices: u32) -> Load {
        Load::of(devices, Span::from_secs(24 * 3600))
    }

    /// What it asks for altogether.
    pub(super) fn messages_per_second(&self) -> f64 {
        f64::from(self.devices) * 1e6 / self.interval.0 as f64
    }

    /// The flags of `simctl run` but for the broker; `at_most` ends it should we not.
    pub(super) fn flags(&self, at_most: Duration) -> Vec<String> {
        let flags = [
            ("--file", self.document().display().to_string()),
            ("--model", self.model.name().to_owned()),
            ("--devices", self.devices.to_string()),
            ("--interval", self.interval.to_string()),
            ("--qos", self.qos.to_string()),
            ("--observe", self.observe.name().to_owned()),
            ("--engine", self.engine.name().to_owned()),
            ("--connect-rate", format!("{}/s", self.connect_rate)),
            ("--duration", format!("{}s", at_most.as_secs())),
            ("--output", "json".to_owned()),
        ];
        let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        flags.chain(["--yes".to_owned(), "--quiet".to_owned()]).collect()
    }

    fn document(&self) -> PathBuf {
        folder().join(match self.demand {
            Demand::Kept => "fleet.yaml",
            Demand::Saturating => "full-speed.yaml",
        })
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Load { model, devices, interval, qos, observe, engine, demand: _, connect_rate: _ } = self;
        let (model, engine) = (model.name(), engine.name());
        write!(f, "{devices} × {model} every {interval}, QoS {qos}, {engine}, observe {}", observe.name())
    }
}

impl Model {
    fn name(self) -> &'static str {
        match self {
            Model::Sensor => "sensor",
            Model::Constant => "constant",
        }
    }
}

impl Observe {
    fn name(self) -> &'static str {
        match self {
            Observe::None => "none",
            Observe::All => "all",
        }
    }
}

impl Engine {
    fn name(self) -> &'static str {
        match self {
            Engine::Native => "native",
            Engine::Rumqttc => "rumqttc",
        }
    }
}

/// The bench's documents.
pub(super) fn folder() -> PathBuf {
    project::root().join("tests/bench")
}
