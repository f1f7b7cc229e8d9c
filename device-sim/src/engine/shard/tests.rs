//! A shard on virtual time, against a broker that is played: what must hold whatever happens to its connections.
//!
//! Everything comes from a seed: when the broker drops connections, stands still, refuses or forgets, and when the plan lets
//! devices come and go. The same seed has the same bytes at the same instants.

mod echo;
mod fair;
mod faults;
mod killed;
mod model_faults;
mod observed;
mod played;
mod reading;
mod takeover;
mod versions;
mod wills;

use std::{
    path::Path,
    sync::{Arc, mpsc},
};

use fleet_contract::{
    cost, document,
    fleet::Fleet,
    format::Format,
    model::Model,
    plan::{Plan, Setting},
    stats::{Messages, Stats},
    time::Micros,
    units::{Share, Span},
    worker::Assignment,
};

use super::{Command, Inlet, Parts, Shard, ShareOfRate, Slots};
use crate::{
    agent::{Agent, Telemetry},
    blueprint::Blueprint,
    engine::{course::Course, device::State, streams::Tables},
    index::DeviceIndex,
    observe::ObserverWatch,
    random::Source,
    record::Files,
};
use observed::Observer;
use played::{Played, Trouble};

const START: Micros = Micros(1_700_000_000_000_000);
const DEVICES: u32 = 6;

/// The shard is the only one of a worker that may have so many.
const MOST: u32 = 100_000;

/// Time passes only where nothing is to be done: a timer is as late as the loop looks at its timers, and no later.
const LAG_MAX: Span = Span(cost::USUAL_PAUSE.0 + 1_000);

/// The most CPU time that a thousand histories may take in a build that is hardly optimized. They took 28 to 38 s on two hardware
/// threads that had other things to do, which count as CPU time, too.
const HISTORIES_MAX: Span = Span::from_secs(60);

const MODEL: &str = r#"
signals: {x: {kind: counter, rate: 1}}
streams:
  zero: {topic: "{fleet}/{index}/zero", interval: 500ms, qos: 0, payload: {json: {x: "{x}"}}}
  one: {topic: "{fleet}/{index}/one", interval: 400ms, qos: 1, payload: {json: {x: "{x}"}}}
  two: {topic: "{fleet}/{index}/two", interval: 900ms, qos: 2, payload: {json: {x: "{x}"}}}
"#;

/// The same with faults of its own: all but that which sends messages twice.
const FAULTY: &str = r#"
signals: {x: {kind: counter, rate: 1}}
streams:
  zero:
    topic: "{fleet}/{index}/zero"
    interval: 500ms
    qos: 0
    payload: {json: {x: "{x}"}}
    faults: [{kind: flood, every: 2s, lasts: 200ms, interval: 9ms}, {kind: corrupt, messages: 10%}]
  one:
    topic: "{fleet}/{index}/one"
    interval: 400ms
    qos: 1
    payload: {json: {x: "{x}"}}
    faults: [{kind: flood, every: 3s, lasts: 300ms, interval: 20ms}, {kind: silence, every: 2s, lasts: 500ms}]
  two:
    topic: "{fleet}/{index}/two"
    interval: 900ms
    qos: 2
    payload: {json: {x: "{x}"}}
    faults: [{kind: stale, messages: 30%, age: 1h}, {kind: silence, every: 3s, lasts: 1s, how: sticks}]
"#;

/// A shard and the world that it is in.
struct Stage<A: Agent = Telemetry> {
    shard: Shard<Played, A>,
    commands: mpsc::SyncSender<Command>,
    blueprint: Arc<Blueprint>,
    plan: Plan,
    /// What was read so far.
    read: Tables,
}

impl Stage {
    /// So many devices that nobody observes, with more lines for their `spec`.
    fn new(devices: u32, spec: &str) -> Self {
        Self::of(devices, spec, "{name: all, model: m}", &[("m", MODEL)])
    }

    /// The same with these groups and models.
    fn of(devices: u32, spec: &str, groups: &str, models: &[(&str, &str)]) -> Self {
        Self::seeded(0, devices, spec, groups, models)
    }

    /// The same with another seed than 0.
    fn seeded(seed: u64, devices: u32, spec: &str, groups: &str, models: &[(&str, &str)]) -> Self {
        let (blueprint, plan) = Self::compile(seed, devices, spec, groups, models);
        Self::beginning(blueprint, plan, START, None)
    }

    /// The same as [`Self::of`], with records in a folder.
    fn recorded(devices: u32, spec: &str, groups: &str, models: &[(&str, &str)], folder: &Path) -> Self {
        let (blueprint, plan) = Self::compile(0, devices, spec, groups, models);
        Self::beginning(blueprint, plan, START, Some(folder))
    }

    fn compile(seed: u64, devices: u32, spec: &str, groups: &str, models: &[(&str, &str)]) -> (Arc<Blueprint>, Plan) {
        Self::compile_with(&Telemetry, seed, devices, spec, groups, models)
    }

    /// One that begins at `now`, as that of a process that comes in place of another.
    fn beginning(blueprint: Arc<Blueprint>, plan: Plan, now: Micros, folder: Option<&Path>) -> Self {
        Self::played(Telemetry, blueprint, plan, now, folder)
    }
}

impl<A: Agent> Stage<A> {
    fn compile_with(
        agent: &A,
        seed: u64,
        devices: u32,
        spec: &str,
        groups: &str,
        models: &[(&str, &str)],
    ) -> (Arc<Blueprint>, Plan) {
        let observe = if spec.contains("observe:") { "" } else { "  observe: none\n" };
        let text = format!(
            "apiVersion: simctl.io/v1alpha1\nkind: Fleet\nmetadata: {{name: f}}\nspec:\n  devices: {devices}\n  seed: {seed}\n{observe}  \
             lossAfter: 2s\n  broker: {{url: 'mqtt://192.0.2.1'}}\n  groups: [{groups}]\n{spec}"
        );
        let (mut fleet, _) =
            document::read::<Fleet>("fleet.yaml", &text).unwrap_or_else(|problems| panic!("{problems}"));
        for (name, text) in models {
            let (model, _) =
                document::read::<Model>("model.yaml", text).unwrap_or_else(|problems| panic!("{problems}"));
            fleet.spec.models.insert((*name).into(), model);
        }
        let plan = Plan::new(7, START, devices);
        let shard = fleet_contract::plan::Shard::of(0, MOST);
        let assignment = Assignment { format: Format::FIRST, fleet, plan: plan.clone(), shard, files: [].into() };
        (Arc::new(Blueprint::compile_with(&assignment, agent).unwrap()), plan)
    }

    fn played(agent: A, blueprint: Arc<Blueprint>, plan: Plan, now: Micros, folder: Option<&Path>) -> Self {
        let worker = fleet_contract::plan::Shard::of(0, MOST);
        let (commands, commands_end) = mpsc::sync_channel(16);
        let rate = blueprint.connect.rate;
        let shard = Shard::new(Parts {
            agent,
            course: Arc::new(Course::new(Arc::new(plan.clone()), &blueprint)),
            slots: Slots { first: 0, step: 1, end: MOST },
            ends_with_drain: true,
            share: ShareOfRate { rate, worker, threads: 1, epoch: now, started: now },
            world: Played::new(now),
            commands: commands_end,
            exchange: Arc::default(),
            has_predecessor: false,
            records: folder.map(|folder| Files::create(folder, now, 0).unwrap()),
            // Nobody observes, until a test says so.
            inlets: vec![Inlet::new(mpsc::sync_channel(1).1, mpsc::sync_channel(1).0, Arc::default(), None)],
            blueprint: Arc::clone(&blueprint),
        });
        let mut stage = Self { shard, commands, blueprint, plan, read: Tables::default() };
        stage.shard.begin();
        stage
    }

    /// Has an observer follow the messages of a fleet that says `observe: all`; copies reach it as the seed says.
    fn observe(&mut self, seed: u64) {
        let (arrivals, arrivals_end) = mpsc::sync_channel(1);
        let watch = Arc::new(ObserverWatch::subscribed());
        self.shard.watched.inlets[0] = Inlet::new(arrivals_end, mpsc::sync_channel(1).0, watch, None);
        self.shard.world.observer = Some(Observer::new(seed, Arc::clone(&self.blueprint), arrivals));
    }

    fn change(&mut self, change: impl FnOnce(&mut Plan, Micros)) {
        change(&mut self.plan, self.shard.world.time());
        let course = Course::new(Arc::new(self.plan.clone()), &self.blueprint);
        self.commands.try_send(Command::Course(Arc::new(course))).unwrap();
    }

    /// Lets `span` pass.
    fn run(&mut self, span: Span) {
        let end = self.shard.world.time().after(span);
        while self.shard.world.time() < end && !self.is_drained() {
            self.step(end);
        }
    }

    /// Goes on to whatever happens next, by `end` at the latest.
    fn step(&mut self, end: Micros) {
        let now = self.shard.world.time();
        let idle = self.shard.idle(now).map_or(now, |idle| now.after(idle));
        let next = idle.min(self.shard.world.next_event()).min(end).max(now);
        let ready = self.shard.world.advance(next);
        self.shard.turn(&ready);
        if self.shard.roster.devices.len() <= 100 {
            self.check_begun();
        }
    }

    /// Who has begun to connect, and has not gone, is known as such.
    fn check_begun(&self) {
        for (slot, device) in self.shard.roster.devices.iter() {
            let has_begun = self.shard.roster.begun.contains(slot);
            let is_so = match device.state {
                State::Absent => !has_begun,
                State::Offline => true,
                State::Opening | State::Connecting | State::Up | State::Leaving | State::Closing => has_begun,
            };
            assert!(is_so, "{slot:?} is {:?}, begun: {has_begun}", device.state);
        }
    }

    fn is_drained(&self) -> bool {
        self.shard.life.is_draining && self.shard.roster.devices.is_empty()
    }

    /// Lets all devices leave, and returns what was measured.
    #[track_caller]
    fn drain(&mut self) -> Stats {
        self.shard.world.heal();
        self.commands.try_send(Command::Drain).unwrap();
        self.step(self.shard.world.time());
        self.run(Span::from_secs(60));
        assert!(self.is_drained(), "devices are left after a minute");
        self.measured()
    }

    /// What was measured so far.
    fn measured(&mut self) -> Stats {
        let now = self.shard.world.time();
        let mut stats = self.shard.reading(now).stats;
        self.shard.counted.exchange.take_into(&mut self.read);
        self.read.add_to(&mut stats, &self.shard.course.phases);
        stats
    }
}

/// What holds for every history, however it went.
#[track_caller]
fn check(seed: u64, stats: &Stats, world: &Played) {
    let all = stats.all_messages();
    assert_eq!(all.offered, all.sent + all.withheld, "seed {seed}: {all:?}");
    assert_eq!(all.sent, all.observed + all.unobserved, "seed {seed}: {all:?}");
    match &world.observer {
        Some(observer) => observer.check(seed, stats),
        None => assert_eq!(all.observed, 0, "seed {seed}: {all:?}"),
    }
    assert!(all.withheld_offline <= all.withheld, "seed {seed}: {all:?}");
    for (qos, messages) in stats.messages.iter().enumerate() {
        assert!(messages.acknowledged + messages.abandoned <= messages.sent, "seed {seed}, QoS {qos}: {messages:?}");
        let arrived = world.arrived(qos);
        assert!(arrived.distinct <= messages.sent, "seed {seed}, QoS {qos}: {arrived:?} {messages:?}");
        // What the broker has acknowledged it has taken, and the device knows of no other.
        assert!(
            messages.acknowledged <= arrived.distinct || qos == 0,
            "seed {seed}, QoS {qos}: {arrived:?} {messages:?}"
        );
    }
    assert_eq!(stats.messages[2].acknowledged + stats.messages[2].abandoned, stats.messages[2].sent, "seed {seed}");
    assert_eq!(stats.messages[1].acknowledged + stats.messages[1].abandoned, stats.messages[1].sent, "seed {seed}");
    assert_eq!(
        world.twice_in_a_session(),
        0,
        "seed {seed}: a message of QoS 2 was new to the broker twice in a session"
    );
    assert_eq!(stats.devices.connected, 0, "seed {seed}");
    let mut of_phases = Messages::default();
    for (number, phase) in &stats.phases {
        let (messages, _) = phase.total();
        assert_eq!(messages.offered, messages.sent + messages.withheld, "seed {seed}, phase {number}: {messages:?}");
        of_phases.merge(&messages);
    }
    assert_eq!(of_phases, all, "seed {seed}: each message is in one phase");
    assert!(stats.connections.accepted >= stats.connections.reconnects, "seed {seed}");
    let lag = stats.latency.schedule_lag.quantile(1.0).unwrap_or_default();
    assert!(lag <= LAG_MAX, "seed {seed}: {lag} late");
}

/// The kinds of faults that histories draw: all but that which sends messages twice.
const FAULTS: [&str; 13] = [
    "storm",
    "churn",
    "blackhole",
    "credentials",
    "silence",
    "disconnect",
    "latency",
    "bandwidth",
    "slow-reader",
    "corrupt",
    "stale",
    "clock",
    "flood",
];

/// A history of some seconds, which half of the seeds observe.
fn history(seed: u64) -> (Stats, u64) {
    let source = Source::new(seed, "history");
    let draw = |number: u32, below: u64| source.of(DeviceIndex::new(number)).at(0).below(below);
    let session = if draw(0, 2) == 0 { "clean" } else { "persistent" };
    let offline = if draw(1, 2) == 0 { "offline: skip" } else { "offline: {catchUp: {max: 3}}" };
    let model = if draw(4, 2) == 0 { MODEL } else { FAULTY };
    let is_observed = draw(5, 2) == 0;
    let observe = if is_observed { "all" } else { "none" };
    let mut stage = Stage::of(
        DEVICES,
        &format!(
            "  observe: {observe}\n  {offline}\n  connect: {{rate: 50/s, session: {session}, keepAlive: 2s, timeout: 1s, \
             inFlight: {}, queue: {}, backoff: {{base: 100ms, cap: 1s}}}}\n",
            1 + draw(2, 4),
            draw(3, 4)
        ),
        "{name: all, model: m}",
        &[("m", model)],
    );
    if is_observed {
        stage.observe(seed);
    }
    stage.change(|plan, now| plan.set(now, Setting::Phase(0)));
    for step in 1..13 {
        let number = 10 + 5 * step;
        stage.run(Span::from_millis(1 + draw(number, 1_500)));
        if draw(100 + step, 8) == 0 {
            stage.shard.world.trouble(Trouble::Swallow(Span::from_millis(draw(200 + step, 1_000))));
        }
        match draw(number + 1, 23) {
            0 => stage.shard.world.trouble(Trouble::DropAll),
            1 => stage.shard.world.trouble(Trouble::DropOne(draw(number + 2, u64::from(DEVICES)))),
            2 => stage.shard.world.trouble(Trouble::Stall(Span::from_millis(draw(number + 2, 4_000)))),
            3 => stage.shard.world.trouble(Trouble::Refuse(Span::from_millis(draw(number + 2, 2_000)))),
            4 => stage.shard.world.trouble(Trouble::Forget),
            5 | 6 => {
                let devices = u32::try_from(draw(number + 2, 2 * u64::from(DEVICES))).unwrap();
                let over = Span::from_millis(draw(number + 3, 1_000));
                stage.change(|plan, now| plan.set(now, Setting::Ramp { to: devices, over }));
            }
            7 => {
                let share = Share::from_basis_points(u16::try_from(draw(number + 2, 10_000)).unwrap()).unwrap();
                stage.change(|plan, now| plan.disconnect(now, share));
            }
            8 => stage.change(|plan, now| plan.set(now, Setting::Phase(step))),
            kind @ 10..23 => {
                let share = Share::from_basis_points(u16::try_from(draw(number + 2, 10_000)).unwrap()).unwrap();
                let lasts = Span::from_millis(1 + draw(number + 3, 3_000));
                let fault = faults::fault(FAULTS[usize::try_from(kind - 10).unwrap()], share, draw(number + 4, 3));
                stage.change(|plan, now| plan.strike(now, step, &fault, lasts));
            }
            _ => {
                let factor = Some(fleet_contract::units::Factor(u32::try_from(draw(number + 2, 3_000_000)).unwrap()));
                let over = Span::from_millis(draw(number + 3, 1_000));
                let set = Setting::Rate { group: None, stream: None, factor, over };
                stage.change(|plan, now| plan.set(now, set));
            }
        }
    }
    let stats = stage.drain();
    check(seed, &stats, &stage.shard.world);
    (stats, stage.shard.world.trace())
}

#[test]
fn a_thousand_histories_lose_no_message_from_the_books() {
    let begun = reading::cpu_time();
    let mut seen = [0; 10];
    for seed in 0..1_000 {
        let (stats, _) = history(seed);
        let all = stats.all_messages();
        let own = stats.model_faults.total();
        let own = own.corrupt.min(own.flood).min(own.silent).min(own.stale).min(own.stuck);
        let said = [all.sent, all.resent, stats.connections.reconnects, all.withheld, own];
        let judged = [all.delivered, all.lost_acknowledged, all.unknown, all.late, all.duplicated];
        let found = said.into_iter().chain(judged);
        for (count, found) in seen.iter_mut().zip(found) {
            *count += found;
        }
    }
    let took = Span(reading::cpu_time().0 - begun.0);
    println!("a thousand histories: {took} of CPU time, at most {HISTORIES_MAX}");
    assert!(took <= HISTORIES_MAX, "{took}");
    // What never happened was not tested.
    let [sent, resent, reconnects, withheld, own, judged @ ..] = seen;
    assert!(sent > 100_000 && resent > 500 && reconnects > 1_000 && withheld > 1_000 && own > 1_000, "{seen:?}");
    let [delivered, lost, unknown, late, duplicated] = judged;
    let is_judged = delivered > 20_000 && lost > 200 && unknown > 10 && late > 100 && duplicated > 100;
    assert!(is_judged, "{seen:?}");
}

#[test]
fn the_same_seed_is_the_same_history_to_the_byte() {
    for seed in 0..20 {
        let ((one, trace), (other, again)) = (history(seed), history(seed));
        assert_eq!((trace, one.messages), (again, other.messages), "seed {seed}");
    }
    assert_ne!(history(1).1, history(2).1);
}

#[test]
fn after_an_outage_all_are_back_within_their_backoff_and_nobody_is_late() {
    for seed in 0..50 {
        let mut stage = Stage::new(40, "  connect: {rate: 1000/s, backoff: {base: 1s, cap: 1s}}\n");
        stage.run(Span::from_millis(2_000 + seed));
        assert_eq!(stage.shard.counted.stats.devices.connected, 40);
        stage.shard.world.trouble(Trouble::DropAll);
        stage.run(Span::from_millis(1));
        assert_eq!(stage.shard.counted.stats.devices.connected, 0);
        // Each waits for up to a second, at random.
        stage.run(Span::from_millis(1_100));
        assert_eq!(stage.shard.counted.stats.devices.connected, 40, "seed {seed}");
        let stats = stage.drain();
        assert_eq!((stats.connections.reconnects, stats.generator.overdue), (40, 0));
    }
}

#[test]
fn what_is_sent_late_counts_in_the_phase_in_which_it_was_due() {
    let mut stage = Stage::new(
        5,
        "  offline: {catchUp: {max: 100}}\n  connect: {rate: 1000/s, session: persistent, backoff: {base: 100ms, cap: 200ms}}\n",
    );
    let times = [0, 2, 4].map(|seconds| START.after(Span::from_secs(seconds)));
    for (number, at) in (0..).zip(times) {
        stage.change(|plan, _| plan.set(at, Setting::Phase(number)));
    }
    stage.run(Span::from_millis(2_000));
    stage.shard.world.trouble(Trouble::Refuse(Span::from_millis(2_500)));
    stage.shard.world.trouble(Trouble::DropAll);
    stage.run(Span::from_secs(8));
    let stats = stage.drain();
    let of = |number: u32| stats.phases[&number].total();
    // Nobody was connected in the second phase: 2 s of 500, 400 and 900 ms from 5 devices, sent in the third.
    let (second, _) = of(1);
    assert!((50..=60).contains(&second.offered), "{second:?}");
    assert_eq!((second.sent, second.withheld), (second.offered, 0));
    assert_eq!((of(0).1.connect.count(), of(1).1.recovery.count(), of(2).1.connect.count()), (5, 5, 5));
    assert!(of(1).1.schedule_lag.quantile(1.0).is_some_and(|lag| lag <= LAG_MAX));
}

/// Its last words and its end come together, and are announced once.
#[test]
fn an_end_right_behind_an_acknowledgement_is_seen_at_once() {
    let model = MODEL.replace("interval: 500ms", "interval: 1h").replace("interval: 900ms", "interval: 1h");
    let spec = "  connect: {rate: 1000/s, backoff: {base: 100ms, cap: 100ms}}\n";
    let mut stage =
        Stage::of(7, spec, "{name: all, model: m}", &[("m", &model.replace("interval: 400ms", "interval: 10s"))]);
    stage.shard.world.odd = played::Odd::Abrupt;
    stage.run(Span::from_secs(20));
    let stats = stage.drain();
    assert_eq!(stats.connections.lost.keys().collect::<Vec<_>>(), ["closed_by_broker"]);
    assert_eq!((stats.messages[1].resent, stats.messages[1].acknowledged), (0, stats.messages[1].sent));
}

/// Of what in flight the broker did not like, only connections that it ended tell anything.
#[test]
fn connections_that_the_devices_end_themselves_accuse_no_message() {
    let unwelcome = |end: &dyn Fn(&mut Stage)| {
        let mut stage = Stage::new(10, "  connect: {rate: 1000/s, backoff: {base: 50ms, cap: 50ms}}\n");
        let set = Setting::Interval { stream: None, interval: Some(Span::from_millis(1)) };
        stage.change(|plan, now| plan.set(now, set));
        stage.run(Span::from_secs(1));
        for _ in 0..6 {
            end(&mut stage);
            stage.run(Span::from_millis(300));
        }
        stage.drain().unwelcome.len()
    };
    let cut = |stage: &mut Stage| stage.change(|plan, now| plan.disconnect(now, Share::ALL));
    assert_eq!(unwelcome(&cut), 0);
    assert!(unwelcome(&|stage| stage.shard.world.trouble(Trouble::DropAll)) > 0);
}

#[test]
fn a_device_with_much_to_say_makes_no_other_late() {
    let mut stage = Stage::new(40, "  connect: {rate: 1000/s}\n");
    stage.run(Span::from_secs(2));
    // A hundred times as fast: each device sends a message every 2 ms.
    let set = Setting::Rate {
        group: None,
        stream: None,
        factor: Some(fleet_contract::units::Factor(100_000_000)),
        over: Span::ZERO,
    };
    stage.change(|plan, now| plan.set(now, set));
    stage.run(Span::from_secs(5));
    let stats = stage.drain();
    assert!(stats.all_messages().sent > 40 * 5 * 200, "{:?}", stats.all_messages());
    assert!(stats.latency.schedule_lag.quantile(1.0).is_some_and(|lag| lag <= Span::from_millis(5)));
}
