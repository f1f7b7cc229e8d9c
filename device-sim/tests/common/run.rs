//! A fleet of the test model against a broker of ours on loopback.

#[path = "until.rs"]
mod until;

use std::net::SocketAddr;

use broker::{Broker, Config};
use device_sim::{
    clock::Clock,
    engine::{Engine, Kind, Options},
};
use fleet_contract::{
    document,
    fleet::Fleet,
    format::Format,
    model::Model,
    plan::{Plan, Setting, Shard},
    stats::{Stats, WorkerStats},
    worker::Assignment,
};
use tokio::{runtime::Runtime, task::JoinHandle};
use tokio_util::sync::CancellationToken;
pub(crate) use until::until;

/// A broker of ours that can be stopped and started again on the same port.
pub(crate) struct TestBroker {
    runtime: Runtime,
    pub(crate) address: SocketAddr,
    pub(crate) config: Config,
    running: Option<(CancellationToken, JoinHandle<()>)>,
}

impl TestBroker {
    pub(crate) fn start() -> Self {
        Self::of(Config::default())
    }

    /// A broker on a free port, otherwise as configured.
    pub(crate) fn of(config: Config) -> Self {
        let runtime = Runtime::new().unwrap();
        let mut broker = Self { runtime, address: ([127, 0, 0, 1], 0).into(), config, running: None };
        broker.resume();
        broker
    }

    /// Starts it again on its port.
    pub(crate) fn resume(&mut self) {
        let stop = CancellationToken::new();
        let _guard = self.runtime.enter();
        let broker = Broker::bind(Config { listen: self.address, ..self.config.clone() }).unwrap();
        self.address = broker.address();
        let stopped = stop.clone();
        let task = self.runtime.spawn(async move { broker.run(stopped).await.unwrap() });
        self.running = Some((stop, task));
    }

    pub(crate) fn stop(&mut self) {
        if let Some((stop, task)) = self.running.take() {
            stop.cancel();
            self.runtime.block_on(task).unwrap();
        }
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        self.stop();
    }
}

const MODEL: &str = r#"
signals:
  temperature: {kind: ornsteinUhlenbeck, mean: 21, stddev: 1, relaxation: 1m, range: [-40, 85], unit: celsius, decimals: 2}
streams:
  zero: {topic: "{fleet}/{index}/zero", interval: 100ms, qos: 0, payload: {json: {temperature: "{temperature}"}}}
  one: {topic: "{fleet}/{index}/one", interval: 100ms, qos: 1, payload: {json: {temperature: "{temperature}"}}}
  two: {topic: "{fleet}/{index}/two", interval: 200ms, qos: 2, payload: {json: {temperature: "{temperature}"}}}
"#;

/// An assignment of all devices of a fleet `f` of the test model, with more lines for its `spec`.
pub(crate) fn assignment(broker: SocketAddr, devices: u32, extra: &str, clock: &Clock) -> Assignment {
    assignment_of(MODEL, broker, devices, extra, clock)
}

/// As [`assignment`], of another model.
pub(crate) fn assignment_of(model: &str, broker: SocketAddr, devices: u32, extra: &str, clock: &Clock) -> Assignment {
    let text = format!(
        "apiVersion: simctl.io/v1alpha1\nkind: Fleet\nmetadata: {{name: f}}\nspec:\n  devices: {devices}\n  \
         broker: {{url: \"mqtt://{broker}\"}}\n  groups: [{{name: all, model: m}}]\n{extra}"
    );
    let (mut fleet, _) = document::read::<Fleet>("fleet.yaml", &text).unwrap_or_else(|problems| panic!("{problems}"));
    let (model, _) = document::read::<Model>("model.yaml", model).unwrap_or_else(|problems| panic!("{problems}"));
    fleet.spec.models.insert("m".into(), model);
    let plan = Plan::new(7, clock.now(), devices);
    Assignment {
        format: Format::FIRST,
        fleet,
        plan,
        shard: Shard { first: 0, devices: 100_000 },
        files: std::collections::BTreeMap::new(),
    }
}

/// A fleet that runs.
pub(crate) struct Run {
    pub(crate) broker: TestBroker,
    pub(crate) engine: Engine,
    pub(crate) clock: Clock,
}

impl Run {
    pub(crate) fn start(kind: Kind, devices: u32, threads: usize, extra: &str) -> Self {
        let broker = TestBroker::start();
        let clock = Clock::new();
        let assignment = assignment(broker.address, devices, extra, &clock);
        Self::of(broker, clock, kind, threads, &assignment)
    }

    /// A fleet at a broker that runs already.
    pub(crate) fn of(broker: TestBroker, clock: Clock, kind: Kind, threads: usize, assignment: &Assignment) -> Self {
        let engine = Engine::start(assignment, &Options { kind, threads, clock, ..Options::default() }).unwrap();
        Self { broker, engine, clock }
    }

    /// Waits until the statistics say so.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&WorkerStats) -> bool) -> Stats {
        until(&self.engine, what, is_so)
    }

    pub(crate) fn set(&self, setting: Setting) {
        let mut plan = (*self.engine.plan()).clone();
        plan.set(self.clock.now(), setting);
        assert!(self.engine.set_plan(plan));
    }

    #[track_caller]
    pub(crate) fn until_connected(&self, devices: u32) -> Stats {
        self.until("every device connected", |reading| reading.stats.devices.connected == devices)
    }

    #[track_caller]
    pub(crate) fn until_sent(&self, messages: u64) -> Stats {
        self.until("enough messages", |reading| reading.stats.all_messages().sent >= messages)
    }

    #[track_caller]
    pub(crate) fn drain(&self) -> Stats {
        self.engine.drain();
        let stats = self.until("the fleet drained", |reading| reading.is_drained);
        check_conservation(&stats);
        stats
    }
}

/// No message leaves the books: what was offered was sent or withheld, and what was sent was observed, or nobody was to.
#[track_caller]
fn check_conservation(stats: &Stats) {
    for (qos, messages) in stats.messages.iter().enumerate() {
        assert_eq!(messages.offered, messages.sent + messages.withheld, "offered at QoS {qos}: {messages:?}");
        assert_eq!(messages.sent, messages.observed + messages.unobserved, "sent at QoS {qos}: {messages:?}");
        assert_eq!(messages.in_flight(), 0, "in flight at QoS {qos}: {messages:?}");
    }
}
