//! What is counted and timed for each stream, by the stream's place among those of all groups and by the phase in which the
//! message fell due; and how a reader gets it.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex},
};

use fleet_contract::{
    series::{FOLDED, SERIES_MAX},
    stats::{Latencies, Messages, Stats, StreamStats},
    time::Micros,
};

use super::{
    lock,
    phases::{Phase, Phases},
};
use crate::{
    blueprint::{Blueprint, Group},
    index::{SeriesAt, StreamIndex},
    observe::ledger::{Counts, PhaseMark},
};

/// The counters and times of all streams, in each of the phases whose messages are still judged.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    tables: Tables,
    /// When the phase that was counted in last begins, and how long it lasts, in microseconds.
    begin: u64,
    length: u64,
    /// By which mark the ledger knows that phase.
    mark: PhaseMark,
    /// Those of the plan.
    phases: Phases,
    /// What was left for a reader so far, without times, by phase and by the stream's place.
    left: BTreeMap<Phase, Vec<Messages>>,
}

/// Tables of one shard, or the sum of several.
#[derive(Debug, Clone, Default)]
pub(super) struct Tables {
    /// That of the phase that was counted in last.
    last: Table,
    phase: Phase,
    others: BTreeMap<Phase, Table>,
    names: Arc<[Name]>,
}

/// What was counted and timed in one phase.
#[derive(Debug, Clone, Default)]
struct Table {
    streams: Vec<StreamStats>,
    /// The times that are not told apart by stream.
    latency: Latencies,
}

/// A group and the name of one of its streams.
type Name = (Box<str>, Box<str>);

impl Streams {
    /// Nothing yet, for each stream of the fleet.
    pub(super) fn new(blueprint: &Blueprint, phases: Phases) -> Self {
        let streams =
            || blueprint.groups.iter().flat_map(|group| group.model.streams().iter().map(move |it| (group, it)));
        let stats = streams().map(|(_, stream)| StreamStats::of(stream.qos())).collect();
        let names = streams().map(|(group, stream)| ((*group.name).into(), stream.name().into())).collect();
        Self::of_table(Table { streams: stats, latency: Latencies::default() }, names, phases)
    }

    fn of_table(last: Table, names: Arc<[Name]>, phases: Phases) -> Self {
        let tables = Tables { last, phase: None, others: BTreeMap::new(), names };
        let mut streams = Self { tables, begin: 0, length: 0, mark: PhaseMark::NONE, phases, left: BTreeMap::new() };
        streams.turn_to(Micros(0));
        streams
    }

    /// Follows another version of the plan.
    pub(super) fn follow(&mut self, phases: &Phases) {
        if self.phases != *phases {
            self.phases = phases.clone();
            self.tables.end_phases(phases);
            self.turn_to(Micros(self.begin));
        }
    }

    /// A stream of a group, for what concerns a message that fell due at `due`.
    pub(super) fn of(&mut self, group: &Group, stream: StreamIndex, due: Micros) -> &mut StreamStats {
        self.at(group.place_of(stream), due)
    }

    /// The stream at a place, for what concerns a message that fell due at `due`.
    pub(super) fn at(&mut self, place: SeriesAt, due: Micros) -> &mut StreamStats {
        &mut self.table(due).streams[place.place()]
    }

    /// The times that are not told apart by stream, of what was to be at `due`.
    pub(super) fn latency(&mut self, due: Micros) -> &mut Latencies {
        &mut self.table(due).latency
    }

    /// By which mark the ledger knows the phase of a message that fell due at `due`.
    pub(super) fn mark(&mut self, due: Micros) -> PhaseMark {
        self.table(due);
        self.mark
    }

    /// The counters of the stream at a place, as the ledger asks for them.
    pub(super) fn counts(&mut self, place: SeriesAt) -> StreamCounts<'_> {
        StreamCounts { streams: self, place }
    }

    fn table(&mut self, due: Micros) -> &mut Table {
        if due.0.wrapping_sub(self.begin) >= self.length {
            self.turn_to(due);
        }
        &mut self.tables.last
    }

    #[cold]
    fn turn_to(&mut self, due: Micros) {
        let (phase, within) = self.phases.at(due);
        (self.begin, self.length, self.mark) = (within.start, within.end - within.start, mark(phase));
        self.tables.turn_to(phase);
    }

    /// Remembers the counters of what is about to be left for a reader.
    fn note_left(&mut self) {
        for (phase, table) in self.tables.iter() {
            let left = self.left.entry(phase).or_default();
            left.resize(table.streams.len(), Messages::default());
            for (left, stream) in left.iter_mut().zip(&table.streams) {
                left.merge(&stream.messages);
            }
        }
    }

    /// Counts the messages of all of them, whether they were left for a reader or not, and no times.
    pub(super) fn count_in(&self, stats: &mut Stats) {
        let mut count = |phase: Phase, place: usize, messages: &Messages| {
            let (qos, (group, name)) = (self.tables.last.streams[place].qos, &self.tables.names[place]);
            stats.messages[qos as usize].merge(messages);
            stats.groups.messages_mut(group, name, qos).merge(messages);
            if let Some(number) = self.phases.number(phase) {
                let phase = stats.phases.entry(number).or_default();
                phase.groups.messages_mut(group, name, qos).merge(messages);
            }
        };
        for (phase, table) in self.tables.iter() {
            table.streams.iter().enumerate().for_each(|(place, stream)| count(phase, place, &stream.messages));
        }
        for (phase, left) in &self.left {
            left.iter().enumerate().for_each(|(place, messages)| count(*phase, place, messages));
        }
    }

    /// Counts all of them in what was measured.
    pub(super) fn add_to(&self, stats: &mut Stats) {
        self.tables.add_to(stats, &self.phases);
    }
}

impl Tables {
    /// The tables, each with its phase.
    fn iter(&self) -> impl Iterator<Item = (Phase, &Table)> {
        [(self.phase, &self.last)].into_iter().chain(self.others.iter().map(|(phase, table)| (*phase, table)))
    }

    fn turn_to(&mut self, phase: Phase) {
        if phase != self.phase {
            let wanted = self.others.remove(&phase).unwrap_or_else(|| self.last.emptied());
            let before = mem::replace(&mut self.last, wanted);
            self.others.insert(mem::replace(&mut self.phase, phase), before);
        }
    }

    fn of_phase(&mut self, phase: Phase) -> &mut Table {
        self.turn_to(phase);
        &mut self.last
    }

    /// Counts all of them in what was measured, and apart what belongs to one of `phases`.
    ///
    /// What would be more than [`SERIES_MAX`] is told by group and quality of service: first what belongs to phases, and where there
    /// are more streams than that, all.
    pub(super) fn add_to(&self, stats: &mut Stats, phases: &Phases) {
        let streams = self.names.len();
        let open = self.iter().filter(|(phase, _)| phases.number(*phase).is_some()).count();
        let [folds, folds_phases] = [streams, (1 + open).saturating_mul(streams)].map(|series| series > SERIES_MAX);
        for (phase, table) in self.iter() {
            stats.latency.merge(&table.latency);
            for (stream, name) in table.streams.iter().zip(&*self.names) {
                let (group, name) = told(stream, name, folds);
                stats.add_stream(group, name, stream);
            }
            if let Some(number) = phases.number(phase) {
                let sum = stats.phases.entry(number).or_default();
                sum.latency.merge(&table.latency);
                for (stream, name) in table.streams.iter().zip(&*self.names) {
                    let (group, name) = told(stream, name, folds_phases);
                    sum.groups.add(group, name, stream);
                }
            }
        }
    }

    /// Forgets of what was counted that it was in a phase, where `phases` does not name that.
    pub(super) fn end_phases(&mut self, phases: &Phases) {
        let is_over = |phase: &Phase| phase.is_some() && phases.number(*phase).is_none();
        let over: Vec<Phase> = self.iter().map(|(phase, _)| phase).filter(is_over).collect();
        for phase in over {
            self.turn_to(None);
            if let Some(table) = self.others.remove(&phase) {
                self.last.merge(&table);
            }
        }
    }

    /// Nothing, for the same streams.
    fn emptied(&self) -> Self {
        let (last, names) = (self.last.emptied(), Arc::clone(&self.names));
        Self { last, phase: self.phase, others: BTreeMap::new(), names }
    }

    /// Begins anew, and keeps the memory of one table, as far as it was used.
    fn clear(&mut self) {
        self.last.clear();
        self.others.clear();
    }

    /// Adds what another counted for the same streams.
    fn merge(&mut self, other: &Self) {
        if self.names.is_empty() {
            *self = other.emptied();
        }
        for (phase, table) in other.iter() {
            self.of_phase(phase).merge(table);
        }
    }
}

/// By which group and name a stream is told.
fn told<'a>(stream: &StreamStats, (group, name): &'a Name, folds: bool) -> (&'a str, &'a str) {
    (group, if folds { FOLDED[stream.qos as usize] } else { name })
}

impl Table {
    /// Nothing, for the same streams.
    fn emptied(&self) -> Self {
        let streams = self.streams.iter().map(|stream| StreamStats::of(stream.qos)).collect();
        Self { streams, latency: Latencies::default() }
    }

    /// Begins anew, and keeps the memory that was used.
    fn clear(&mut self) {
        self.streams.iter_mut().for_each(StreamStats::clear);
        self.latency.clear();
    }

    /// Adds what another counted for the same streams.
    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.streams.iter_mut().zip(&other.streams) {
            mine.merge(theirs);
        }
        self.latency.merge(&other.latency);
    }
}

/// The mark of a phase: those of 63 in a row differ, which is more than are open at a time.
const fn mark(phase: Phase) -> PhaseMark {
    match phase {
        None => PhaseMark::NONE,
        Some(number) => PhaseMark::new((number % 63) as u8 + 1),
    }
}

/// The counters of the stream at a place, in each phase.
pub(super) struct StreamCounts<'a> {
    streams: &'a mut Streams,
    place: SeriesAt,
}

impl Counts for StreamCounts<'_> {
    fn of(&mut self, of: PhaseMark) -> &mut Messages {
        let Self { streams, place } = self;
        if streams.mark != of {
            let begin = streams.phases.numbers().find(|(_, number)| mark(Some(*number)) == of);
            // One that the plan has forgotten belongs to the run alone.
            streams.table(begin.map_or(Micros(0), |(begin, _)| begin));
        }
        &mut streams.tables.last.streams[place.place()].messages
    }

    fn number(&self, of: PhaseMark) -> Option<u32> {
        self.streams.phases.numbers().map(|(_, number)| number).find(|number| mark(Some(*number)) == of)
    }
}

/// Where a shard leaves what it has counted since it left something last. The histograms of many streams take a megabyte,
/// and copying it would hold the devices up: shard and reader exchange two of them instead, and one more for each reading
/// that was not taken.
#[derive(Debug, Default)]
pub(super) struct Exchange(Mutex<Places>);

#[derive(Debug, Default)]
struct Places {
    /// Left by the shard, until the reader takes it: more than one where a reader did not wait.
    full: Vec<Tables>,
    /// Left by the reader, for the shard to go on with.
    spare: Option<Tables>,
}

impl Exchange {
    /// The shard leaves what it has counted. It adds up counters and no times, because its devices wait.
    pub(super) fn leave(&self, counted: &mut Streams) {
        counted.note_left();
        let counted = &mut counted.tables;
        let mut places = lock(&self.0);
        let mut spare = places.spare.take().unwrap_or_else(|| counted.emptied());
        spare.phase = counted.phase;
        places.full.push(mem::replace(counted, spare));
    }

    /// The reader adds what was left to `sum`.
    pub(super) fn take_into(&self, sum: &mut Tables) {
        let all_left = mem::take(&mut lock(&self.0).full);
        for mut full in all_left {
            sum.merge(&full);
            full.clear();
            lock(&self.0).spare = Some(full);
        }
    }
}

#[cfg(test)]
mod tests {
    use fleet_contract::{fleet::Qos, series::DISTRIBUTIONS, units::Span};

    use super::*;
    use crate::{index::DeviceIndex, random::Source};

    const FIRST: SeriesAt = SeriesAt::new(0);

    #[test]
    fn more_streams_than_a_worker_tells_apart_are_told_by_group_and_qos() {
        let told = |count: usize, begins: &[u64]| {
            let mut streams = streams(count, begins);
            for place in 0..count {
                streams.at(SeriesAt::new(place), Micros(15)).messages.sent += 1;
            }
            let mut stats = Stats::default();
            streams.add_to(&mut stats);
            assert_eq!((stats.all_messages().sent, stats.phases[&0].total().0.sent), (count as u64, count as u64));
            [&stats.groups, &stats.phases[&0].groups].map(|groups| groups.streams().count())
        };
        assert_eq!(told(500, &[10]), [500, 500]);
        assert_eq!(told(600, &[10]), [600, 1], "phases come first");
        assert_eq!(told(1_100, &[10]), [1, 1]);
    }

    /// So many streams of one group, and phases 0, 1, … that begin at these instants.
    fn streams(count: usize, begins: &[u64]) -> Streams {
        let table = Table { streams: vec![StreamStats::of(Qos::AtLeastOnce); count], latency: Latencies::default() };
        let names = (0..count).map(|number| ("cars".into(), format!("s{number}").into())).collect();
        Streams::of_table(table, names, begins.iter().map(|at| Micros(*at)).zip(0..).collect())
    }

    /// Times as a busy broker has them: log-normal around 1.5 ms, with one in a thousand up to a second late.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from microseconds to seconds")]
    fn times(count: u64) -> Vec<Span> {
        let draws = ["usual", "late", "how late"].map(|name| Source::new(1, name).of(DeviceIndex::new(0)));
        let time = |number| {
            let [usual, late, how_late] = draws.map(|draws| draws.at(number));
            let late = if late.unit() < 0.001 { how_late.unit() * 1e6 } else { 0.0 };
            Span((1_500.0 * (0.5 * usual.normal()).exp() + late) as u64)
        };
        (0..count).map(time).collect()
    }

    fn memory(tables: &Tables) -> usize {
        let of =
            |latencies: &Latencies| DISTRIBUTIONS.iter().map(|row| (row.get)(latencies).memory_bytes()).sum::<usize>();
        let of_stream = |stream: &StreamStats| size_of::<StreamStats>() + of(&stream.latency);
        let of_table = |table: &Table| table.streams.iter().map(of_stream).sum::<usize>() + of(&table.latency);
        tables.iter().map(|(_, table)| size_of::<Table>() + of_table(table)).sum()
    }

    /// The most memory of what a thread counts in and exchanges, and that of a reader's sum, over a hundred readings; in each
    /// of them every stream has a thousand times of each kind in each phase.
    fn used(count: usize, begins: &[u64]) -> (usize, usize) {
        const EACH: usize = 1_000;
        let times = times(100 * EACH as u64);
        let mut counted = streams(count, begins);
        let (exchange, mut sum) = (Exchange::default(), Tables::default());
        let dues: &[u64] = if begins.is_empty() { &[0] } else { begins };
        let mut most = 0;
        for reading in 0..100 {
            for (place, due) in (0..count).flat_map(|place| dues.iter().map(move |due| (place, Micros(*due)))) {
                for time in &times[EACH * ((reading + place) % 100)..][..EACH] {
                    let latency = &mut counted.at(SeriesAt::new(place), due).latency;
                    latency.publish_ack.record(*time);
                    latency.end_to_end.record(*time);
                    counted.latency(due).schedule_lag.record(*time);
                }
            }
            let spare = lock(&exchange.0).spare.as_ref().map_or(0, memory);
            let left = counted.left.values().map(|left| size_of_val(left.as_slice())).sum::<usize>();
            most = most.max(memory(&counted.tables) + spare + left);
            exchange.leave(&mut counted);
            exchange.take_into(&mut sum);
        }
        (most, memory(&sum))
    }

    #[test]
    fn what_is_counted_takes_little_memory() {
        // The default fleet, whose groups have five streams together; and five groups of five streams with two open phases.
        for (count, begins, limit) in [(5, &[][..], 512 << 10), (25, &[10, 20][..], 4 << 20)] {
            let (thread, sum) = used(count, begins);
            println!("{count} streams, {} phases: {thread} bytes a thread, {sum} bytes of their sum", begins.len());
            assert!(thread <= limit && sum <= limit, "{count} streams: {thread} and {sum} bytes");
        }
    }

    fn sum_of(tables: &Tables, streams: &Streams) -> Stats {
        let mut stats = Stats::default();
        tables.add_to(&mut stats, &streams.phases);
        stats
    }

    #[test]
    fn nothing_is_lost_between_shard_and_reader_whoever_is_late() {
        let mut counted = streams(1, &[]);
        let (exchange, mut sum) = (Exchange::default(), Tables::default());
        let mut all = 0;
        // Each row: how often the shard leaves something before the reader looks.
        for leaves in [1, 0, 3, 1, 2] {
            for _ in 0..leaves {
                all += 1;
                counted.at(FIRST, Micros(all)).messages.sent += 1;
                counted.at(FIRST, Micros(all)).latency.end_to_end.record(Span(100 * all));
                exchange.leave(&mut counted);
                assert_eq!(counted.at(FIRST, Micros(all)).messages.sent, 0);
            }
            exchange.take_into(&mut sum);
            let stats = sum_of(&sum, &counted);
            assert_eq!((stats.messages[1].sent, stats.latency.end_to_end.count()), (all, all));
            assert!(stats.phases.is_empty());
        }
        assert_eq!(sum.last.streams[0].latency.end_to_end.max(), Some(Span(100 * all)));
    }

    #[test]
    fn a_message_counts_in_the_phase_in_which_it_was_due_and_in_the_run() {
        let mut counted = streams(2, &[1_000, 2_000, 3_000]);
        let (exchange, mut sum) = (Exchange::default(), Tables::default());
        // Some are told long after they were due, when a reader has looked in between.
        for (number, due) in [500, 1_000, 1_999, 2_000, 5_000, 1_500, 999, 2_999].into_iter().enumerate() {
            counted.at(SeriesAt::new(number % 2), Micros(due)).messages.sent += 1;
            counted.latency(Micros(due)).schedule_lag.record(Span(due));
            let mark = counted.mark(Micros(due));
            // Something else is counted in between.
            counted.at(FIRST, Micros(9_000));
            counted.counts(SeriesAt::new(number % 2)).of(mark).lost += 1;
            let of_phase = (due / 1_000).min(3).checked_sub(1);
            assert_eq!(counted.counts(FIRST).number(mark).map(u64::from), of_phase, "due at {due}");
            if number % 3 == 0 {
                exchange.leave(&mut counted);
                exchange.take_into(&mut sum);
            }
        }
        exchange.leave(&mut counted);
        exchange.take_into(&mut sum);
        let stats = sum_of(&sum, &counted);
        let of_phases: Vec<_> = stats.phases.iter().map(|(number, phase)| (*number, phase.total())).collect();
        let found: Vec<_> = of_phases
            .iter()
            .map(|(number, (messages, latency))| (*number, messages.sent, messages.lost, latency.schedule_lag.count()))
            .collect();
        assert_eq!(found, [(0, 3, 3, 3), (1, 2, 2, 2), (2, 1, 1, 1)]);
        assert_eq!((stats.messages[1].sent, stats.messages[1].lost, stats.latency.schedule_lag.count()), (8, 8, 8));

        // The first two are kept elsewhere.
        counted.follow(&[(Micros(3_000), 2)].into_iter().collect());
        sum.end_phases(&counted.phases);
        counted.at(FIRST, Micros(1_200)).messages.sent += 1;
        exchange.leave(&mut counted);
        exchange.take_into(&mut sum);
        let stats = sum_of(&sum, &counted);
        assert_eq!((stats.phases.keys().copied().collect::<Vec<_>>(), stats.messages[1].sent), (vec![2], 9));
        assert_eq!(sum.iter().count(), 2);
    }
}
