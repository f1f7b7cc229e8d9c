//! The observer of the played broker, on virtual time: copies of messages reach it late, twice or not at all, as the seed says,
//! and what the ledger is to find follows from when each of them came.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, mpsc::SyncSender},
};

use fleet_contract::{
    plan::Setting,
    stamp::Stamp,
    stats::{LostMessage, Stats},
    time::Micros,
    units::{Factor, Span},
};

use super::{DEVICES, MODEL, Stage, played::Trouble};
use crate::{
    blueprint::Blueprint,
    index::DeviceIndex,
    observe::{Arrival, Arrivals, Mark},
    random::Source,
};

/// The longest way of a copy, but for few.
const USUAL: Span = Span::from_millis(50);

/// So much longer than the time after which messages are lost is the longest way of these few.
const TARDY: Span = Span::from_millis(1_500);

/// A message: its device, its stream and its number.
type Key = (u32, String, u32);

/// What the broker has taken, and what it has passed on.
#[derive(Debug)]
pub(super) struct Observer {
    blueprint: Arc<Blueprint>,
    seed: u64,
    /// Empty after each turn of the shard, so that one batch has its place there.
    arrivals: SyncSender<Arrivals>,
    /// Copies on their way, in the order in which they come.
    way: BTreeMap<(Micros, u64), (Key, Arrival)>,
    /// How many copies there were.
    copies: u64,
    /// How many messages were passed on.
    passed: u64,
    taken: BTreeMap<Key, Seen>,
}

/// What is known of a message that the broker has taken.
#[derive(Debug, Default)]
struct Seen {
    due: Micros,
    /// When copies of it came.
    came: Vec<Micros>,
}

impl Observer {
    pub(super) fn new(seed: u64, blueprint: Arc<Blueprint>, arrivals: SyncSender<Arrivals>) -> Self {
        Self { blueprint, seed, arrivals, way: BTreeMap::new(), copies: 0, passed: 0, taken: BTreeMap::new() }
    }

    /// The broker has taken a message, for the first time or again.
    pub(super) fn took(&mut self, topic: &str, stamp: &Stamp) {
        let (key, _) = self.recognise(topic, stamp);
        self.taken.entry(key).or_default().due = stamp.due;
    }

    /// The broker passes a message on: one in forty not at all, one in twenty twice, and a copy in fifty when it is lost.
    pub(super) fn pass_on(&mut self, topic: &str, stamp: &Stamp, now: Micros) {
        let (key, arrival) = self.recognise(topic, stamp);
        self.passed += 1;
        let source = Source::new(self.seed, "observer");
        let draw = |number: u32, below: u64| source.of(DeviceIndex::new(number)).at(self.passed).below(below);
        let copies = match draw(0, 40) {
            0 => 0,
            1 | 2 => 2,
            _ => 1,
        };
        for copy in 0..copies {
            let delay = if draw(1 + 2 * copy, 50) == 0 {
                Span(self.blueprint.loss_after.0 + draw(2 + 2 * copy, TARDY.0))
            } else {
                Span(1 + draw(2 + 2 * copy, USUAL.0))
            };
            let at = now.after(delay);
            self.copies += 1;
            self.way.insert((at, self.copies), (key.clone(), Arrival { at, ..arrival }));
        }
    }

    /// As the real one does it: by the topic and the stamp.
    fn recognise(&self, topic: &str, stamp: &Stamp) -> (Key, Arrival) {
        let model = &self.blueprint.groups[0].model;
        let (stream, device) = model.recognise(topic.as_bytes()).expect("a topic of the only model");
        let mark = Mark::Stamp { seq: stamp.seq, due: stamp.due, body: None };
        let arrival = Arrival { device, stream, mark, at: stamp.due, may_repeat: false };
        ((device.number(), model.stream(stream).name().to_owned(), stamp.seq), arrival)
    }

    /// When the next copy comes.
    pub(super) fn next(&self) -> Micros {
        self.way.first_key_value().map_or(Micros::NEVER, |((at, _), _)| *at)
    }

    /// Hands what has come by now to the shard.
    pub(super) fn hand_over(&mut self, now: Micros) {
        let mut batch = Vec::new();
        while let Some(copy) = self.way.first_entry()
            && copy.key().0 <= now
        {
            let (key, arrival) = copy.remove();
            self.taken.entry(key).or_default().came.push(now);
            batch.push(arrival);
        }
        if !batch.is_empty() {
            self.arrivals.try_send(Arrivals::Messages(batch)).unwrap();
        }
    }

    /// What holds for every history: what came in time is not lost, and nothing is found that did not come.
    #[track_caller]
    pub(super) fn check(&self, seed: u64, stats: &Stats) {
        let (all, foreign) = (stats.all_messages(), stats.observer.foreign);
        assert_eq!(all.observed, all.delivered + all.lost + all.unknown, "seed {seed}: {all:?}");
        assert!(all.lost_acknowledged <= all.lost && all.reordered <= all.delivered, "seed {seed}: {all:?}");
        let loss_after = self.blueprint.loss_after;
        let came: u64 = self.taken.values().map(|seen| seen.came.len() as u64).sum();
        let distinct = self.taken.values().filter(|seen| !seen.came.is_empty()).count() as u64;
        let is_in_time = |seen: &&Seen| seen.came.first().is_some_and(|at| *at <= seen.due.after(loss_after));
        let in_time = self.taken.values().filter(is_in_time).count() as u64;
        assert!(all.delivered <= distinct, "seed {seed}: {distinct} came, {all:?}");
        assert!(in_time <= all.delivered + all.unobserved, "seed {seed}: {in_time} came in time, {all:?}");
        assert!(all.duplicated <= came - distinct, "seed {seed}: {distinct} came, in {came} copies, {all:?}");
        let judged = all.delivered + all.duplicated + all.late + foreign;
        assert!(judged <= came, "seed {seed}: {came} copies came, {foreign} were foreign, {all:?}");
        for lost in &stats.lost {
            let seen = self.taken.get(&(lost.device, lost.stream.clone(), lost.seq));
            let came_in_time =
                seen.and_then(|seen| seen.came.first()).is_some_and(|at| *at <= lost.sent.after(loss_after));
            assert!(!came_in_time, "seed {seed}: {lost:?} came in time, {seen:?}");
            assert!(seen.is_some() || !lost.acknowledged, "seed {seed}: {lost:?} was acknowledged by nobody");
        }
    }

    /// What holds to the message where all are observed, no device goes, and nothing accuses a device.
    #[track_caller]
    fn check_exactly(&self, seed: u64, stats: &Stats) {
        self.check(seed, stats);
        let all = stats.all_messages();
        assert_eq!((all.observed, all.unknown, stats.observer.foreign), (all.sent, 0, 0), "seed {seed}: {all:?}");
        assert_eq!(stats.lost.len() as u64, all.lost, "seed {seed}: each is known by name");
        let lost: BTreeSet<Key> = stats.lost.iter().map(|lost| (lost.device, lost.stream.clone(), lost.seq)).collect();
        let (mut delivered, mut duplicated, mut late) = (0, 0, 0);
        for (key, seen) in &self.taken {
            let came = seen.came.len() as u64;
            if lost.contains(key) {
                late += came;
            } else {
                assert!(came > 0, "seed {seed}: {key:?} was dropped, and is not lost");
                delivered += 1;
                duplicated += came - 1;
            }
        }
        let found = (all.delivered, all.duplicated, all.late);
        assert_eq!(found, (delivered, duplicated, late), "seed {seed}: {all:?}");
    }

    /// The messages that the broker has taken and of which no copy came.
    fn dropped(&self) -> impl Iterator<Item = &Key> {
        self.taken.iter().filter(|(_, seen)| seen.came.is_empty()).map(|(key, _)| key)
    }
}

impl Stage {
    /// The observer, which there is.
    fn observer(&self) -> &Observer {
        self.shard.world.observer.as_ref().unwrap()
    }

    /// Lets nothing more fall due, and all that is under way come.
    fn fall_silent(&mut self) {
        self.shard.world.heal();
        self.change(|plan, now| plan.set(now, Setting::Paused(true)));
        self.run(Span::from_secs(12));
        assert_eq!(self.observer().next(), Micros::NEVER);
    }
}

/// A history without faults of the plan, after which nothing is under way.
fn history(seed: u64) -> Stats {
    let source = Source::new(seed, "observed history");
    let draw = |number: u32, below: u64| source.of(DeviceIndex::new(number)).at(0).below(below);
    let session = ["clean", "persistent"][usize::try_from(draw(0, 2)).unwrap()];
    let spec = format!(
        "  observe: all\n  connect: {{rate: 50/s, session: {session}, keepAlive: 2s, timeout: 1s, backoff: {{base: 100ms, cap: \
         1s}}}}\n"
    );
    let mut stage = Stage::of(DEVICES, &spec, "{name: all, model: m}", &[("m", MODEL)]);
    stage.observe(seed);
    stage.change(|plan, now| plan.set(now, Setting::Phase(0)));
    for step in 1..9 {
        let number = 10 * step;
        stage.run(Span::from_millis(1 + draw(number, 1_500)));
        let span = |below: u64| Span::from_millis(draw(number + 1, below));
        match draw(number + 2, 7) {
            0 => stage.shard.world.trouble(Trouble::DropAll),
            1 => stage.shard.world.trouble(Trouble::DropOne(draw(number + 1, u64::from(DEVICES)))),
            2 => stage.shard.world.trouble(Trouble::Stall(span(4_000))),
            3 => stage.shard.world.trouble(Trouble::Refuse(span(2_000))),
            4 => stage.shard.world.trouble(Trouble::Forget),
            5 => stage.shard.world.trouble(Trouble::Swallow(span(1_000))),
            _ => {
                let factor = Some(Factor(u32::try_from(draw(number + 1, 3_000_000)).unwrap()));
                let set = Setting::Rate { group: None, stream: None, factor, over: Span::ZERO };
                stage.change(|plan, now| plan.set(now, set));
            }
        }
    }
    stage.fall_silent();
    let stats = stage.drain();
    super::check(seed, &stats, &stage.shard.world);
    stage.observer().check_exactly(seed, &stats);
    stats
}

#[test]
fn what_a_broker_drops_doubles_and_delays_is_found_to_the_message() {
    let mut seen = [0; 5];
    for seed in 0..40 {
        let all = history(seed).all_messages();
        let found = [all.delivered, all.lost, all.lost_acknowledged, all.late, all.duplicated];
        seen.iter_mut().zip(found).for_each(|(count, found)| *count += found);
    }
    // What never happened was not tested.
    let [delivered, lost, acknowledged, late, duplicated] = seen;
    assert!(delivered > 1_000 && lost > 50 && acknowledged > 20 && late > 5 && duplicated > 20, "{seen:?}");
}

#[test]
fn what_a_broker_acknowledges_and_drops_is_found_as_lost() {
    let mut stage = Stage::new(DEVICES, "  observe: all\n  connect: {rate: 1000/s}\n");
    stage.observe(0);
    stage.run(Span::from_secs(2));
    stage.shard.world.trouble(Trouble::Swallow(Span::from_secs(2)));
    stage.run(Span::from_secs(6));
    stage.fall_silent();
    let stats = stage.drain();
    stage.observer().check_exactly(0, &stats);
    let dropped: Vec<&Key> = stage.observer().dropped().collect();
    // Two seconds of six devices with messages after 500, 400 and 900 ms each.
    assert!(dropped.len() >= 50, "{}", dropped.len());
    for (device, stream, seq) in dropped {
        let is_it = |lost: &&LostMessage| (lost.device, &lost.stream, lost.seq) == (*device, stream, *seq);
        let lost = stats.lost.iter().find(is_it).unwrap();
        assert_eq!(lost.acknowledged, stream != "zero", "{lost:?}");
    }
}
