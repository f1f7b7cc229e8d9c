//! Runs on virtual time, from seeds: phases that end, are skipped and are kept, workers that die, readers that die, and all that
//! was measured in the end what an oracle knows that was told everything.

use std::collections::BTreeMap;

use fleet_contract::{
    clock::Offset,
    fleet::Qos,
    load_test::Criterion,
    plan::Plan,
    series::{DELIVERED, SENT},
    stats::{Devices, Ended, Epoch, Latency, LostMessage, Stats, StreamStats, SumOf, WorkerStats},
};

use super::{
    facts::{Asked, Program},
    phase::Phases,
    saved::Saved,
    timeline::Point,
    workers::{TimesOf, Worker, Workers},
    *,
};
use crate::{
    api::calls::{Answer, Answered, Detail},
    fixture::{self, START},
    report::Report,
    run::threshold::Outcome,
};

/// Numbers that a seed makes (splitmix64).
struct Seed(u64);

impl Seed {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    const fn happens(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What a process has measured since it began.
struct Process {
    epoch: Micros,
    sequence: u64,
    stats: Stats,
    /// What the one before it had recorded.
    before: Vec<Epoch>,
}

/// What was in a phase, one by one: times of what was delivered in microseconds, and how much was lost.
#[derive(Default)]
struct Truth {
    times: Vec<u64>,
    lost: u64,
}

/// What came of a run, and what is true of it.
struct Played {
    report: Report,
    truth: BTreeMap<u32, Truth>,
    phases: Phases,
    thresholds: Vec<Criterion>,
    deaths: u32,
    readers: u32,
}

/// A run that is part of a longer one, its workers, and all that ever happened in it.
struct World {
    seed: Seed,
    now: Micros,
    start: Micros,
    plan: Plan,
    processes: Vec<Process>,
    workers: Workers,
    run: Run,
    truth: BTreeMap<u32, Truth>,
    /// Workers and readers that have died.
    deaths: u32,
    readers: u32,
}

impl World {
    fn new(number: u64) -> Self {
        let mut seed = Seed(number);
        let count = 1 + seed.below(6);
        let phase = |index: u64, seed: &mut Seed| {
            format!("{{name: p{index}, duration: {}s, measure: {}}}", 1 + seed.below(6), seed.happens(70))
        };
        let phases: Vec<String> = (0..count).map(|index| phase(index, &mut seed)).collect();
        let first = u32::try_from(seed.below(5)).unwrap();
        let phases = Phases::numbered(serde_saphyr::from_str(&format!("[{}]", phases.join(", "))).unwrap(), first);
        let threshold = |seed: &mut Seed| {
            let mut criterion = Criterion::of(match seed.below(3) {
                0 => "lost < 3".parse().unwrap(),
                1 => format!("end_to_end.p{} < {}us", 1 + seed.below(99), 1 + seed.below(9_000)).parse().unwrap(),
                _ => format!("delivered >= {}", seed.below(200)).parse().unwrap(),
            });
            criterion.phase = Some(format!("p{}", seed.below(count)));
            criterion
        };
        let thresholds = (0..seed.below(8)).map(|_| threshold(&mut seed)).collect();
        let mut plan = Plan::new(7, START, 100);
        let start = START.after(Span::from_secs(3 + seed.below(5)));
        let mut fleet = fixture::facts().fleet;
        fleet.spec.loss_after = Span::from_secs(2);
        phases.plan(&mut plan, &fleet.spec, start);
        let asked =
            Asked { load_test: Some("seeded".into()), duration: phases.last(), phases, thresholds, ..Asked::default() };
        let facts = RunFacts::new(fleet, "hash".into(), &plan, asked, Program::default()).beginning_at(start, &plan);
        let processes: Vec<Process> = (0..=seed.below(4)).map(|_| Process::new(START)).collect();
        let mut world = Self {
            seed,
            now: START,
            start,
            plan,
            processes,
            workers: Workers::resume(Ended { phases_kept: first, ..Ended::default() }),
            run: Run::part(facts, Span::from_millis(250), Before::default()),
            truth: BTreeMap::new(),
            deaths: 0,
            readers: 0,
        };
        world.meet();
        world
    }

    fn meet(&mut self) {
        let worker = |ordinal: usize| {
            let ordinal = u32::try_from(ordinal).unwrap();
            Worker { created: Some(START), ..Worker::running(ordinal, format!("demo-{ordinal}"), None) }
        };
        self.workers.meet((0..self.processes.len()).map(worker).collect());
    }

    /// The phase of what falls due now, by the plan.
    fn phase(&self) -> Option<u32> {
        self.plan.phases().take_while(|(begins, _)| *begins <= self.now).map(|(_, number)| number).last()
    }

    /// Each worker sends for a second.
    fn send(&mut self) {
        let phase = self.phase();
        for process in &mut self.processes {
            let mut stream = StreamStats::of(Qos::AtLeastOnce);
            for _ in 0..self.seed.below(12) {
                let (is_lost, time) = (self.seed.happens(4), 1 + self.seed.below(10_000));
                let messages = &mut stream.messages;
                messages.offered += 1;
                messages.sent += 1;
                messages.observed += 1;
                let truth = phase.map(|number| self.truth.entry(number).or_default());
                if is_lost {
                    messages.lost += 1;
                    truth.into_iter().for_each(|truth| truth.lost += 1);
                } else {
                    messages.acknowledged += 1;
                    messages.delivered += 1;
                    stream.latency.end_to_end.record(Span(time));
                    truth.into_iter().for_each(|truth| truth.times.push(time));
                }
            }
            process.stats.add_stream("all", "reading", &stream);
            if let Some(number) = phase {
                process.stats.phases.entry(number).or_default().groups.add("all", "reading", &stream);
            }
        }
    }

    /// All of them are read, in full or not.
    fn read(&mut self, detail: &Detail) {
        let is_brief = *detail == Detail::Brief;
        let wanted = self.run.wants_times(self.now, &self.plan, &self.workers).filter(|_| is_brief);
        for (ordinal, process) in (0..).zip(&mut self.processes) {
            let first = self.plan.phases().next().map_or(u32::MAX, |(_, number)| number);
            process.stats.phases.retain(|number, _| *number >= first);
            process.stats.devices = Devices { desired: 100, connected: 100, ..Devices::default() };
            process.sequence += 1;
            let reading = WorkerStats {
                before: process.before.clone(),
                ..WorkerStats::new(process.epoch, process.sequence, self.now, self.plan.version, process.stats.clone())
            };
            let reading = match wanted {
                Some(TimesOf::Phases(number)) => reading.brief(Some(number)),
                None if is_brief && self.seed.happens(50) => reading.brief(None),
                _ => reading,
            };
            let answer = Answer::Reading(Ok(Box::new(reading)));
            self.workers.answered(Answered { ordinal, id: ordinal.to_string(), answer }).unwrap();
        }
        self.keep();
    }

    /// What is to be kept is kept, and the plan forgets the phases that are.
    fn keep(&mut self) {
        if let Some(closing) = self.workers.closing() {
            self.workers.close(closing);
        }
        if let Some(plan) = Run::without_kept_phases(&self.plan, &self.workers) {
            self.plan = plan;
        }
    }

    /// A worker dies of which all has just been read, in full.
    fn kill(&mut self, ordinal: usize) {
        let dead = &mut self.processes[ordinal];
        let mut stats = dead.stats.clone();
        drop(stats.split_times());
        stats.latency = fleet_contract::stats::Latencies::default();
        let left = Epoch { epoch: dead.epoch, at: self.now, is_drained: false, stats };
        let mut next = Process::new(Micros(self.now.0 + 1));
        next.before = vec![left];
        *dead = next;
        self.deaths += 1;
    }

    /// Whoever reads dies; another one has what was kept.
    fn replace_reader(&mut self) {
        let ended: Ended = serde_json::from_str(&serde_json::to_string(self.workers.ended()).unwrap()).unwrap();
        let saved: Saved = serde_json::from_str(&serde_json::to_string(&Saved::of(&self.run)).unwrap()).unwrap();
        self.workers = Workers::resume(ended);
        self.meet();
        let asked = saved.asked("seeded".into());
        let facts = RunFacts::new(self.run.facts().fleet.clone(), "hash".into(), &self.plan, asked, Program::default());
        self.run = saved.resume(facts, Span::from_millis(250), &self.plan, self.now);
    }

    /// The run from its first second to its end.
    fn play(mut self) -> Played {
        loop {
            self.now = self.now.after(Span::from_secs(1));
            assert!(self.now < START.after(Span::from_secs(600)), "it never ends");
            self.send();
            self.read(&Detail::Brief);
            if self.now < self.start {
                self.run.wait(&self.workers);
                continue;
            }
            match self.run.tick(self.now, &self.plan, &mut self.workers) {
                Step::None => {}
                Step::Drain => self.run.drain(self.now, &self.plan),
                Step::End => break,
            }
            self.keep();
            if self.run.follows_plan() && self.seed.happens(3) {
                // It takes effect before the next second.
                if let Ok(plan) = self.run.skip(&self.plan, self.now) {
                    self.plan = plan;
                }
            }
            if self.seed.happens(4) {
                self.replace_reader();
                self.read(&Detail::Brief);
                self.readers += 1;
            }
            if self.seed.happens(4) {
                // What nobody has read of its times would be lost.
                self.read(&Detail::Full);
                let ordinal = usize::try_from(self.seed.below(self.processes.len() as u64)).unwrap();
                self.kill(ordinal);
            }
        }
        self.run.end(self.now, false);
        let report = Report::of(&self.run, &self.plan, &self.workers);
        let Asked { phases, thresholds, .. } = self.run.facts().asked.clone();
        assert_eq!(report.generator.workers_lost, self.deaths, "each worker that died is counted");
        let told = report.events.iter().filter(|event| event.kind == EventKind::WorkerLost).count();
        assert_eq!(u32::try_from(told).unwrap(), self.deaths, "and told once, whoever reads");
        Played { report, truth: self.truth, phases, thresholds, deaths: self.deaths, readers: self.readers }
    }
}

impl Process {
    fn new(epoch: Micros) -> Self {
        Self { epoch, sequence: 0, stats: Stats::default(), before: Vec::new() }
    }
}

/// Whether a threshold of one phase is met, by all that happened in it.
fn is_met(criterion: &Criterion, truth: &Truth) -> bool {
    let text = criterion.expect.to_string();
    let (column, rest) = text.split_once(['.', ' ']).unwrap();
    let (operator, bound) = rest.rsplit_once(' ').unwrap();
    match column {
        "lost" => truth.lost < bound.parse().unwrap() && !(truth.times.is_empty() && truth.lost == 0),
        "delivered" => {
            truth.times.len() as u64 >= bound.parse().unwrap() && !(truth.times.is_empty() && truth.lost == 0)
        }
        _ => {
            let percent: usize = operator.strip_prefix('p').unwrap().split(' ').next().unwrap().parse().unwrap();
            let told_apart = |micros: u64| Latency::told_apart(Span(micros)).0;
            let mut times: Vec<u64> = truth.times.iter().map(|time| told_apart(*time)).collect();
            times.sort_unstable();
            times.extend(std::iter::repeat_n(u64::MAX, usize::try_from(truth.lost).unwrap()));
            let rank = (percent * times.len()).div_ceil(100);
            rank > 0 && times[rank - 1] < told_apart(bound.parse::<Span>().unwrap().0)
        }
    }
}

#[test]
fn phases_and_thresholds_come_to_what_happened_whoever_dies_and_whatever_is_skipped() {
    let (mut phases_seen, mut judged, mut messages, mut died) = (0, 0, 0, (0, 0));
    for number in 0..1_000 {
        let Played { report, truth, phases, thresholds, deaths, readers } = World::new(number).play();
        assert!(
            !report.reasons.iter().any(|reason| reason.message.contains("counters that add up")),
            "{number}: {:?}",
            report.reasons
        );
        let nothing = Truth::default();
        let of = |number: u32| truth.get(&number).unwrap_or(&nothing);
        let mut all = (0, 0);
        for (place, found) in phases.numbers().zip(&report.phases) {
            let truth = of(place);
            let expected = (truth.times.len() as u64 + truth.lost, truth.times.len() as u64);
            let counted = (found.counts.get(&SENT).unwrap(), found.counts.get(&DELIVERED).unwrap());
            assert_eq!(counted, expected, "seed {number}, phase {place}");
            all = (all.0 + expected.0, all.1 + expected.1);
            phases_seen += 1;
        }
        let total = report.messages.all;
        assert_eq!((total.get(&SENT).unwrap(), total.get(&DELIVERED).unwrap()), all, "seed {number}");
        let in_timeline: u64 = report.timeline.points.iter().map(|point| point.messages.sent).sum();
        assert_eq!(in_timeline, all.0, "seed {number}: the timeline has all of them");
        let is_untimed = |point: &&Point| point.messages.delivered > 0 && point.end_to_end.p99.is_none();
        assert_eq!(report.timeline.points.iter().find(is_untimed), None, "seed {number}: and their times");
        for (criterion, found) in thresholds.iter().zip(&report.thresholds) {
            let place = phases.all().iter().position(|phase| Some(&phase.name) == criterion.phase.as_ref()).unwrap();
            let truth = of(phases.numbers().start + u32::try_from(place).unwrap());
            let expected = if is_met(criterion, truth) { Outcome::Passed } else { Outcome::Failed };
            assert_eq!(
                found.outcome,
                expected,
                "seed {number}: {} of {} and {}",
                criterion.expect,
                truth.times.len(),
                truth.lost
            );
            judged += 1;
        }
        messages += all.0;
        died = (died.0 + deaths, died.1 + readers);
    }
    println!("{phases_seen} phases, {judged} thresholds, {messages} messages, {died:?} workers and readers died");
    assert!(phases_seen > 3_000 && judged > 2_500 && died.0 > 500 && died.1 > 500, "{phases_seen} {judged} {died:?}");
}

/// A run of two phases whose first is to end it when its messages of these streams take too long, and its one worker.
fn to_be_ended(now: Micros, streams: &str) -> (Run, Plan, Workers) {
    let phases = Phases::new(
        serde_saphyr::from_str("[{name: steady, duration: 5s, measure: true}, {name: cool, duration: 60s}]").unwrap(),
    );
    let text = format!("[{{expect: 'end_to_end.p99 < 250ms', phase: steady, {streams}abortOnFail: {{}}}}]");
    let thresholds = serde_saphyr::from_str(&text).unwrap();
    let mut fleet = fixture::facts().fleet;
    fleet.spec.loss_after = Span::from_secs(2);
    let mut plan = Plan::new(7, START, 100);
    phases.plan(&mut plan, &fleet.spec, START);
    let asked =
        Asked { load_test: Some("ended".into()), duration: phases.last(), phases, thresholds, ..Asked::default() };
    let facts = RunFacts::new(fleet, "hash".into(), &plan, asked, Program::default());
    let mut world = World::new(0);
    world.processes.truncate(1);
    world.workers = Workers::default();
    world.meet();
    let mut run = Run::part(facts, Span::from_millis(250), Before::default());
    run.tick(now, &plan, &mut world.workers);
    (run, plan, world.workers)
}

/// The worker's reading at `at`: of a thousand messages of the first phase one was lost, and all others took so long.
fn one_of_a_thousand_lost(at: Micros, took: Span) -> WorkerStats {
    let mut stream = StreamStats::of(Qos::AtLeastOnce);
    let messages = &mut stream.messages;
    for count in [&mut messages.offered, &mut messages.sent, &mut messages.observed] {
        *count = 1_000;
    }
    (messages.acknowledged, messages.delivered, messages.lost) = (1_000, 999, 1);
    (0..999).for_each(|_| stream.latency.end_to_end.record(took));
    let mut stats = Stats::default();
    stats.add_stream("all", "reading", &stream);
    stats.phases.entry(0).or_default().groups.add("all", "reading", &stream);
    WorkerStats::new(START, at.0, at, 1, stats)
}

#[test]
fn a_threshold_on_times_does_not_end_a_run_for_want_of_times() {
    let at = |second: u64| START.after(Span::from_secs(second));
    let (mut run, plan, mut workers) = to_be_ended(at(1), "");
    for second in 2..=20 {
        let reading = one_of_a_thousand_lost(at(second), Span::from_millis(1));
        let times_below = match run.wants_times(at(second), &plan, &workers) {
            Some(TimesOf::Phases(number)) => Some(number),
            _ => None,
        };
        let sums = run.wants_sums(at(second), &workers);
        assert_eq!(sums.len(), usize::from(workers.ended().phases_kept == 0), "what is kept is known");
        // Not each reading is the answer to the last question.
        let reading = if second % 3 == 0 { reading.brief(None) } else { reading.summed(sums, times_below) };
        let answer = Answer::Reading(Ok(Box::new(reading)));
        workers.answered(Answered { ordinal: 0, id: "0".into(), answer }).unwrap();
        assert_eq!(run.tick(at(second), &plan, &mut workers), Step::None, "after {second} s");
        if let Some(closing) = workers.closing() {
            workers.close(closing);
        }
    }
    assert_eq!(workers.ended().phases_kept, 1);
}

#[test]
fn a_phase_that_could_not_be_kept_at_once_is_kept_as_of_one_instant() {
    let at = |second: u64| START.after(Span::from_secs(second));
    let (mut run, plan, mut workers) = to_be_ended(at(1), "");
    // Some messages of the first phase are still sent after its end, one a second.
    for second in 7..=10 {
        let mut stream = StreamStats::of(Qos::AtLeastOnce);
        let messages = &mut stream.messages;
        for count in [&mut messages.offered, &mut messages.sent, &mut messages.observed, &mut messages.delivered] {
            *count = second;
        }
        (0..second).for_each(|_| stream.latency.end_to_end.record(Span::from_millis(1)));
        let mut stats = Stats::default();
        stats.add_stream("all", "reading", &stream);
        stats.phases.entry(0).or_default().groups.add("all", "reading", &stream);
        let times_below = match run.wants_times(at(second), &plan, &workers) {
            Some(TimesOf::Phases(number)) => Some(number),
            _ => None,
        };
        let reading = WorkerStats::new(START, second, at(second), 1, stats).brief(times_below);
        let answer = Answer::Reading(Ok(Box::new(reading)));
        workers.answered(Answered { ordinal: 0, id: "0".into(), answer }).unwrap();
        run.tick(at(second), &plan, &mut workers);
    }
    let closing = workers.closing().unwrap();
    assert_eq!(closing.ended().phases_kept, 1);
    let (messages, latency) = closing.ended().stats.phases[&0].total();
    assert_eq!((messages.delivered, latency.end_to_end.count()), (8, 8));
}

#[test]
fn a_load_test_that_is_all_of_a_run_has_the_messages_of_its_phases_as_one_that_is_a_part() {
    let now = START.after(Span::from_secs(80));
    let (part, plan, mut workers) = to_be_ended(now, "");
    let mut reading = one_of_a_thousand_lost(now, Span::from_millis(1));
    // Some fall due until the devices have left.
    let mut behind = StreamStats::of(Qos::AtLeastOnce);
    (behind.messages.offered, behind.messages.sent, behind.messages.observed) = (7, 7, 7);
    reading.stats.add_stream("all", "reading", &behind);
    reading.stats.phases.entry(2).or_default().groups.add("all", "reading", &behind);
    // The one that was lost was due in the first phase, and sent when the last one was over.
    reading.stats.lost = vec![LostMessage {
        sent: START.after(Span::from_secs(70)),
        device: 3,
        stream: "reading".into(),
        seq: 9,
        qos: Qos::AtLeastOnce,
        acknowledged: true,
        phase: Some(0),
    }];
    let answer = Answer::Reading(Ok(Box::new(reading)));
    workers.answered(Answered { ordinal: 0, id: "0".into(), answer }).unwrap();
    let stats = |run: &Run| run.stats(&plan, &workers);
    let facts = part.facts().clone();
    let whole = stats(&Run::new(facts.clone(), Span::from_millis(100)));
    assert_eq!((whole.all_messages().sent, whole.latency.end_to_end.count()), (1_000, 999));
    assert_eq!((whole.all_messages().lost, whole.lost.len()), (1, 1), "who is lost has a name");
    assert_eq!(whole, stats(&part));
    let asked = Asked { load_test: None, ..facts.asked.clone() };
    let no_test = stats(&Run::new(RunFacts { asked, ..facts }, Span::from_millis(100)));
    assert_eq!(no_test.all_messages().sent, 1_007, "parts of a run that are measured apart do not cut it");
}

#[test]
fn a_report_that_is_made_elsewhere_is_that_of_the_run_and_nothing_newer_is_in_it() {
    let at = |second: u64| START.after(Span::from_secs(second));
    let (mut run, plan, mut workers) = to_be_ended(at(1), "");
    let mut tell = |workers: &mut Workers, second: u64, took: Span| {
        let answer = Answer::Reading(Ok(Box::new(one_of_a_thousand_lost(at(second), took))));
        workers.answered(Answered { ordinal: 0, id: "0".into(), answer }).unwrap();
        run.tick(at(second), &plan, workers);
        (run.draft(&plan, workers), Report::of(&run, &plan, workers))
    };
    let (draft, report) = tell(&mut workers, 2, Span::from_millis(1));
    tell(&mut workers, 3, Span::from_millis(200));
    let (stats, facts) = draft.add_up();
    let drafted = Report::new(&stats, &facts);
    assert_eq!((drafted.messages.all.get(&SENT), stats.latency.end_to_end.count()), (Some(1_000), 999));
    assert_eq!(drafted, report);
}

#[test]
fn a_sum_of_the_times_of_a_stream_ends_a_run() {
    let at = |second: u64| START.after(Span::from_secs(second));
    for (streams, is_ended) in [("", true), ("stream: reading, ", true), ("group: none, ", false)] {
        let (mut run, plan, mut workers) = to_be_ended(at(1), streams);
        let sums = run.wants_sums(at(2), &workers);
        assert_eq!((sums.len(), run.wants_times(at(2), &plan, &workers)), (1, None), "{streams}");
        let reading = one_of_a_thousand_lost(at(2), Span::from_secs(1)).summed(sums, None);
        let answer = Answer::Reading(Ok(Box::new(reading)));
        workers.answered(Answered { ordinal: 0, id: "0".into(), answer }).unwrap();
        let expected = if is_ended { Step::Drain } else { Step::None };
        assert_eq!(run.tick(at(2), &plan, &mut workers), expected, "{streams}");
        // All times are told, once its messages have settled.
        run.drain(at(2), &plan);
        assert!(run.wants_sums(at(3), &workers).is_empty());
        assert_eq!(run.wants_times(at(4), &plan, &workers), None);
        assert_eq!(run.wants_times(at(5), &plan, &workers), Some(TimesOf::All));
    }
}

#[test]
fn devices_of_a_worker_that_has_ended_are_missing_as_long_as_the_run_follows_its_plan() {
    let at = |second: u64| START.after(Span::from_secs(second));
    let (mut run, plan, mut workers) = to_be_ended(at(1), "");
    let read = |workers: &mut Workers, epoch: u64, second: u64, connected: u32| {
        let stats = Stats { devices: Devices { desired: 100, connected, ..Devices::default() }, ..Stats::default() };
        let reading = WorkerStats::new(at(epoch), second, at(second), 1, stats);
        let answer = Answer::Reading(Ok(Box::new(reading)));
        workers.answered(Answered { ordinal: 0, id: "0".into(), answer }).unwrap();
        if let Some(closing) = workers.closing() {
            workers.close(closing);
        }
    };
    let missing = |run: &Run| run.facts.timeline.events().list()[0].missing_device_seconds;
    read(&mut workers, 0, 2, 100);
    run.tick(at(2), &plan, &mut workers);
    // It is replaced a second after it was read, and has 40 devices after one more.
    read(&mut workers, 3, 4, 40);
    run.tick(at(4), &plan, &mut workers);
    assert_eq!(missing(&run), Some(160.0));
    read(&mut workers, 3, 5, 90);
    run.tick(at(5), &plan, &mut workers);
    assert_eq!(missing(&run), Some(170.0));
    // Devices leave by intent.
    run.drain(at(5), &plan);
    read(&mut workers, 3, 9, 0);
    run.tick(at(9), &plan, &mut workers);
    assert_eq!(missing(&run), Some(170.0));
    // Each run that goes on with these workers is told of it: of all until it was replaced, and all for six seconds more.
    let (mut other, ..) = to_be_ended(at(1), "");
    other.tick(at(9), &plan, &mut workers);
    assert_eq!(missing(&other), Some(700.0));
}

#[test]
fn a_run_that_goes_on_elsewhere_wants_the_times_that_may_end_it_and_knows_the_farthest_clock() {
    let now = START.after(Span::from_secs(3));
    let (mut run, plan, workers) = to_be_ended(now, "");
    run.facts.workers.see_clocks([("f-7", Offset { ahead: -40, bound: Span(5) })]);
    let distribution = "end_to_end".into();
    let sums = [SumOf { distribution, phase: Some(0), group: None, stream: None, qos: None }];
    assert_eq!(run.wants_sums(now, &workers), sums);
    let saved: Saved = serde_json::from_str(&serde_json::to_string(&Saved::of(&run)).unwrap()).unwrap();
    let asked = saved.asked("ended".into());
    let facts = RunFacts::new(run.facts().fleet.clone(), "hash".into(), &plan, asked, Program::default());
    let resumed = saved.resume(facts, Span::from_millis(250), &plan, now);
    assert_eq!(resumed.wants_sums(now, &Workers::default()), sums);
    assert_eq!(resumed.facts.workers.clock_farthest.unwrap().0, "f-7");
}
