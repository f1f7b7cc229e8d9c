//! The workers of one run: who there is, what each measured last, which plan it runs. Pure: says what is to be asked, and
//! takes the answers, in any order; pods and processes are the same to it.
//!
//! What would close an epoch's books waits in [`Workers::closing`] until the caller has kept the sum, so that nothing
//! newer counts before.

mod member;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

use fleet_contract::{
    clock::Offset,
    plan::{Plan, Shard},
    stats::{Devices, Ended, Gap, Latency, Measured, PhasesOver, PhasesSum, Stats, SumOf, Totals, WorkerStats},
    time::Micros,
    units::Span,
};

pub use member::{Member, SILENT_MAX};

use crate::{
    api::{
        Address, CallError,
        calls::{Answer, Answered, Call, Detail, Question},
    },
    words,
};

/// How often a worker tells the times of its streams at most, where they are read in turn.
const TIMES_EVERY: Span = Span::from_secs(10);

/// Series of times of a fleet that are read each second at most, where nobody needs them. Each takes 0.1 ms of a core, so that
/// they take a tenth of one.
const SERIES_EACH_SECOND: usize = 1_000;

/// Series of phases that are over which are added up at once; more would make whatever else is to be done wait.
const SERIES_AT_ONCE: usize = 1_000;

/// The most workers that have ended unasked and are remembered by name.
const LOST_MAX: usize = 256;

/// What is said of a worker that has ended unasked, behind its name.
pub const ENDED_UNASKED: &str = " ended unasked";

/// A worker as whoever starts it knows it: a pod, or a process of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Its shard.
    pub ordinal: u32,
    /// Which worker of that shard: the pod's UID, or the process.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Where it listens, once it can be asked.
    pub address: Option<Address>,
    /// The version of the plan that it was started with, where that is known.
    pub plan_version: Option<u64>,
    /// Whether it says that it is ready.
    pub is_ready: bool,
    /// Whether it has started, now or before.
    pub has_run: bool,
    /// When it was made, where that is known.
    pub created: Option<Micros>,
    /// Whether it was told to end.
    pub is_ending: bool,
    /// The machine that it runs on, where that is not this one.
    pub node: Option<String>,
}

impl Worker {
    /// One that runs and is ready, is known by its ordinal, and of which nothing else is known.
    pub fn running(ordinal: u32, name: String, address: Option<Address>) -> Self {
        Self {
            ordinal,
            id: ordinal.to_string(),
            name,
            address,
            plan_version: None,
            is_ready: true,
            has_run: true,
            created: None,
            is_ending: false,
            node: None,
        }
    }
}

/// The workers of a fleet.
#[derive(Debug, Default)]
pub struct Workers {
    members: BTreeMap<u32, Member>,
    totals: Totals,
    /// Ordinals whose pod is gone, and readings of a new epoch: both close books.
    gone: BTreeSet<u32>,
    newer: BTreeMap<u32, WorkerStats>,
    /// Workers that have gone with all that they had measured, and when they were made: each counts as lost, and has no books.
    unread: Vec<(u32, Option<Micros>)>,
    /// The phases below this number are over, and are to be kept.
    phases_over: u32,
    /// Of these: those that nobody needs.
    phases_forgotten: u32,
    /// Their sum, where it was made elsewhere.
    added_up: Option<PhasesSum>,
    /// What workers that are gone may have sent at most.
    filled: Vec<(Gap, Stats)>,
    /// The newest of those that have ended unasked, in their order.
    lost: VecDeque<Lost>,
    /// How many there were in all.
    lost_count: u64,
}

/// A worker that has ended unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Its shard.
    pub ordinal: u32,
    /// What people call it.
    pub name: String,
    /// Its devices that were connected when it was read last; 0 of one that nobody has read.
    pub devices: u32,
    /// When it was read last.
    pub read_at: Option<Micros>,
    /// When its successor began, where that has been read: none of its devices can have been back before.
    pub replaced_at: Option<Micros>,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let devices = words::counted(self.devices.into(), "device", "devices");
        write!(f, "{}{ENDED_UNASKED}, with {devices} connected when it was read last", self.name)
    }
}

/// The most frequent causes that keep devices away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Why the broker refuses them.
    pub refused: Option<String>,
    /// Why they fail to connect.
    pub failed: Option<String>,
    /// Why they have lost their sessions.
    pub lost: Option<String>,
}

/// Whose times of single streams are read; they are most of a reading, and of the work with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimesOf {
    /// Those of every worker.
    All,
    /// Those of every worker, of the phases below this number.
    Phases(u32),
    /// Those of so many workers whose turn is ten seconds ago, the longest ago first.
    InTurn {
        /// The time.
        now: Micros,
        /// How many at most.
        workers: usize,
    },
}

impl TimesOf {
    /// Those of all workers, of which each has so many series, if they may be read within so many seconds, else of some in turn: of
    /// one at least, however many it has.
    pub fn affordable(now: Micros, workers: usize, series_each: usize, seconds: usize) -> Self {
        let most = SERIES_EACH_SECOND * seconds;
        if workers * series_each <= most {
            Self::All
        } else {
            Self::InTurn { now, workers: (most / series_each).max(1) }
        }
    }
}

/// The books that are about to be closed.
#[derive(Debug)]
pub struct Closing {
    totals: Totals,
    /// Workers that ended without draining.
    pub lost: Vec<u32>,
}

impl Closing {
    /// What has to be kept before the books are closed.
    pub const fn ended(&self) -> &Ended {
        self.totals.ended()
    }
}

impl Workers {
    /// Counts on from what was kept.
    pub fn resume(ended: Ended) -> Self {
        Self { totals: Totals::resume(ended), ..Self::default() }
    }

    /// The workers, by ordinal.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The worker of a shard.
    pub fn member(&self, ordinal: u32) -> Option<&Member> {
        self.members.get(&ordinal)
    }

    /// What ended epochs have measured.
    pub const fn ended(&self) -> &Ended {
        self.totals.ended()
    }

    /// Whether each worker that can be asked has been: before that, what is missing may only be unheard.
    pub fn are_all_heard(&self) -> bool {
        self.members.values().all(|member| member.worker.address.is_none() || member.is_heard())
    }

    /// Takes over which workers there are; one that is gone will have its books closed.
    ///
    /// Whether somebody can be asked now who could not before.
    pub fn meet(&mut self, workers: Vec<Worker>) -> bool {
        // Of several of a shard the last counts.
        let present: BTreeMap<u32, Worker> = workers.into_iter().map(|worker| (worker.ordinal, worker)).collect();
        let is_same =
            |member: &Member| present.get(&member.worker.ordinal).is_some_and(|met| met.id == member.worker.id);
        let gone: Vec<u32> =
            self.members.values().filter(|member| !is_same(member)).map(|member| member.worker.ordinal).collect();
        for ordinal in gone {
            let has_run_unheard = |member: Member| member.epoch().is_none() && member.worker.has_run;
            let member = self.members.remove(&ordinal);
            let created = member.as_ref().and_then(|member| member.worker.created);
            let was_unheard = member.is_some_and(has_run_unheard);
            let was_not_kept = self.newer.remove(&ordinal).is_some();
            // One that an earlier controller had read has an epoch of which the totals know.
            if was_unheard && self.totals.orphan(ordinal).is_some() {
                self.gone.insert(ordinal);
            } else if was_unheard || was_not_kept {
                self.unread.push((ordinal, created));
            }
            // Without books of its own it must not close those of its successor.
            if self.totals.worker(ordinal).is_some() {
                self.gone.insert(ordinal);
            }
        }
        let nowhere = self.totals.ended().open.keys().filter(|ordinal| !present.contains_key(ordinal));
        self.gone.extend(nowhere.filter(|ordinal| self.totals.orphan(**ordinal).is_some()));
        let mut is_somebody_new = false;
        for (ordinal, worker) in present {
            if let Some(member) = self.members.get_mut(&ordinal) {
                let known = &member.worker;
                is_somebody_new |= known.address != worker.address || (worker.is_ready && !known.is_ready);
                member.worker = worker;
            } else {
                is_somebody_new |= worker.address.is_some();
                self.members.insert(ordinal, Member::new(worker));
            }
        }
        is_somebody_new
    }

    /// What to ask every worker that is not being asked already for a reading.
    pub fn to_read(&mut self, times: TimesOf) -> Vec<Call> {
        self.to_read_with(times, &[])
    }

    /// The same, with these sums of times of each worker that is not asked for all of them.
    pub fn to_read_with(&mut self, times: TimesOf, sums: &[SumOf]) -> Vec<Call> {
        let (detail, in_full) = match times {
            TimesOf::All => (Detail::Full, BTreeSet::new()),
            TimesOf::Phases(number) => (Detail::with_sums(sums, Some(number)), BTreeSet::new()),
            TimesOf::InTurn { now, workers } => (Detail::with_sums(sums, None), self.next_in_turn(now, workers)),
        };
        let ended = &self.totals.ended().epochs;
        let asked = self.members.values_mut().filter(|member| !member.asked.is_waiting);
        let call = |member: &mut Member| {
            let ordinal = member.worker.ordinal;
            let ended = ended.get(&ordinal).copied().unwrap_or_default();
            let detail = if in_full.contains(&ordinal) { Detail::Full } else { detail.clone() };
            let call = member.call(Question::Reading(ended, detail))?;
            member.asked.is_waiting = true;
            Some(call)
        };
        let mut calls: Vec<Call> = asked.filter_map(call).collect();
        calls.extend(self.to_fill());
        calls
    }

    /// So many workers whose turn it is at `now` to tell the times of their streams, and that can.
    fn next_in_turn(&mut self, now: Micros, workers: usize) -> BTreeSet<u32> {
        let is_due = |member: &&mut Member| member.asked.times_at.after(TIMES_EVERY) <= now;
        let can_answer = |member: &&mut Member| !member.asked.is_waiting && member.answers();
        let mut due: Vec<_> = self.members.values_mut().filter(can_answer).filter(is_due).collect();
        due.sort_by_key(|member| member.asked.times_at);
        let next = due.into_iter().take(workers).map(|member| {
            member.asked.times_at = now;
            member.worker.ordinal
        });
        next.collect()
    }

    /// What to ask the successors of workers that took along what nobody has read.
    fn to_fill(&self) -> Vec<Call> {
        let call = |gap: &Gap| {
            let member = self.members.get(&gap.ordinal)?;
            let epoch = member.epoch().filter(|epoch| *epoch > gap.epoch)?;
            member.call(Question::Unrecorded(*gap, epoch))
        };
        let is_open = |gap: &&Gap| !self.filled.iter().any(|(filled, _)| filled == *gap);
        self.totals.ended().gaps.iter().filter(is_open).filter_map(call).collect()
    }

    /// How to tell a worker that its devices are to leave.
    pub fn to_drain(&self, ordinal: u32) -> Option<Call> {
        self.members.get(&ordinal)?.call(Question::Drain)
    }

    /// Whether a worker said last that all of its devices had left, and their messages were settled.
    pub fn has_drained(&self, ordinal: u32) -> bool {
        self.totals.worker(ordinal).is_some_and(|last| last.is_drained)
    }

    /// What to tell every worker that is known to run an older plan than this one.
    pub fn to_push(&mut self, plan: &Plan) -> Vec<Call> {
        let mut text = None;
        self.members.values_mut().filter_map(|member| member.push(plan, &mut text)).collect()
    }

    /// What to tell one worker, if it is known to run an older plan than this one.
    pub fn to_push_one(&mut self, ordinal: u32, plan: &Plan) -> Option<Call> {
        self.members.get_mut(&ordinal)?.push(plan, &mut None)
    }

    /// Takes an answer in; `Err` says why it is none.
    pub fn answered(&mut self, answered: Answered) -> Result<(), CallError> {
        let Answered { ordinal, id, answer } = answered;
        let Some(member) = self.members.get_mut(&ordinal).filter(|member| member.worker.id == id) else {
            // The worker is gone, but its last reading is the best that there is of it.
            if let Answer::Reading(Ok(reading)) = answer {
                self.take_last(ordinal, *reading);
            }
            return Ok(());
        };
        match answer {
            Answer::Reading(Ok(reading)) => {
                member.read(&reading);
                let closes_books = match self.totals.worker(ordinal) {
                    Some(last) => reading.epoch > last.epoch,
                    None => {
                        self.totals.unread(ordinal, &reading).next().is_some()
                            || self.totals.is_orphaned_by(ordinal, &reading)
                    }
                };
                if closes_books {
                    self.newer.insert(ordinal, *reading);
                } else {
                    self.totals.take(ordinal, *reading);
                }
                Ok(())
            }
            Answer::Unrecorded(gap, Ok(stats)) => {
                self.filled.push((gap, *stats));
                Ok(())
            }
            Answer::Unrecorded(_, Err(error)) => Err(error),
            Answer::Told(told) => told,
            Answer::Pushed(version, Ok(())) => {
                member.is_pushed = false;
                member.plan_version = member.plan_version.max(Some(version));
                Ok(())
            }
            Answer::Reading(Err(error)) => {
                member.failed(&error);
                Err(error)
            }
            Answer::Pushed(_, Err(error)) => {
                member.is_pushed = false;
                Err(error)
            }
        }
    }

    fn take_last(&mut self, ordinal: u32, reading: WorkerStats) {
        if self.totals.worker(ordinal).is_some_and(|last| last.epoch == reading.epoch) {
            self.totals.take(ordinal, reading);
        }
    }

    /// The phases below `number` are over: what was measured in them is to be kept with the books that are closed next.
    pub fn end_phases(&mut self, number: u32) {
        self.phases_over = self.phases_over.max(number);
    }

    /// Nobody needs what was measured in the phases below `number` any more: it goes with the books that are closed next.
    pub fn forget_phases(&mut self, number: u32) {
        self.end_phases(number);
        self.phases_forgotten = self.phases_forgotten.max(number);
    }

    /// What is to be added up before books are closed, where that is better done elsewhere: in [`PhasesOver::add_up`], while readings
    /// go on. Whoever closes them without it adds up then.
    pub fn to_add_up(&self) -> Option<PhasesOver> {
        let below = self.phases_over;
        if below <= self.ended().phases_kept.max(self.phases_forgotten) {
            return None;
        }
        let is_done = self.added_up.as_ref().is_some_and(|sum| sum.below() == below && self.totals.fits(sum));
        let phases = self.readings().flat_map(|(_, reading)| reading.stats.phases.range(..below));
        let series: usize = phases.map(|(_, phase)| phase.groups.streams().count()).sum();
        (!is_done && series > SERIES_AT_ONCE).then(|| self.totals.phases_over(below))
    }

    /// Takes the sum of what was to be added up.
    pub fn added_up(&mut self, sum: PhasesSum) {
        self.added_up = Some(sum);
    }

    /// The number that no phase has had yet.
    pub fn next_phase(&self) -> u32 {
        self.phases_over.max(self.ended().phases_kept)
    }

    /// How far the clock of each worker is ahead of ours at `now`, by its name; none where all have this machine's.
    pub fn clocks(&self, now: Micros) -> impl Iterator<Item = (&str, Offset)> {
        self.members.values().filter_map(move |member| Some((member.worker.name.as_str(), member.clock.offset(now)?)))
    }

    /// The last readings of the workers whose books are open, by ordinal.
    pub fn readings(&self) -> impl Iterator<Item = (u32, &WorkerStats)> {
        self.totals.workers()
    }

    /// Up to when everything of every worker is known that has been read, or everything of a phase; `None` where nobody has been.
    pub fn heard_until(&self, phase: Option<u32>) -> Option<Micros> {
        self.totals.known_until(phase)
    }

    /// The books that are to be closed, if there are any; nothing has changed yet.
    pub fn closing(&self) -> Option<Closing> {
        let closes: BTreeSet<u32> = self.gone.iter().chain(self.newer.keys()).copied().collect();
        let is_phase_over = self.phases_over > self.ended().phases_kept;
        let is_same = closes.is_empty() && self.unread.is_empty() && self.filled.is_empty();
        if is_same && !is_phase_over && !self.totals.has_opened() {
            return None;
        }
        let lost: Vec<u32> = closes
            .into_iter()
            .flat_map(|ordinal| self.lost(ordinal))
            .chain(self.unread.iter().map(|(ordinal, _)| *ordinal))
            .collect();
        let mut totals = self.totals.clone();
        totals.lose(u32::try_from(lost.len()).unwrap_or(u32::MAX));
        let is_of_these = |sum: &&PhasesSum| sum.below() <= self.phases_over && totals.fits(sum);
        if let Some(sum) = self.added_up.as_ref().filter(is_of_these) {
            totals.keep_sum(sum);
        }
        // What nobody needs is not added up.
        totals.forget_phases(self.phases_forgotten);
        totals.keep_phases(self.phases_over);
        for ordinal in &self.gone {
            totals.end(*ordinal);
            totals.end_orphan(*ordinal);
        }
        for (ordinal, created) in &self.unread {
            totals.miss(*ordinal, *created);
        }
        for (ordinal, reading) in &self.newer {
            totals.take(*ordinal, reading.clone());
        }
        for (gap, unrecorded) in &self.filled {
            totals.fill(*gap, unrecorded);
        }
        totals.note_open();
        Some(Closing { totals: totals.packed(), lost })
    }

    /// The ordinal of a worker, once for each of its epochs that is about to be closed and had not drained.
    fn lost(&self, ordinal: u32) -> impl Iterator<Item = u32> {
        let successor = self.newer.get(&ordinal);
        let found = || successor.into_iter().flat_map(|reading| self.totals.unread(ordinal, reading));
        let is_found = |epoch: Micros| found().any(|found| found.epoch == epoch);
        let last = self.totals.worker(ordinal).filter(|last| !last.is_drained && !is_found(last.epoch));
        let orphan = self.totals.orphan(ordinal).filter(|epoch| !is_found(*epoch));
        let lost = found().filter(|found| !found.is_drained).count() + usize::from(last.is_some() || orphan.is_some());
        std::iter::repeat_n(ordinal, lost)
    }

    /// Closes the books, now that their sum is kept.
    pub fn close(&mut self, closing: Closing) {
        let mut known = BTreeSet::new();
        for ordinal in &closing.lost {
            // Of several processes that have ended meanwhile one was read.
            let last = self.totals.worker(*ordinal).filter(|_| known.insert(*ordinal));
            let lost = self.as_lost(*ordinal, last);
            self.lost.push_back(lost);
            self.lost_count += 1;
        }
        self.lost.drain(..self.lost.len().saturating_sub(LOST_MAX));
        self.totals = closing.totals;
        self.gone.clear();
        self.newer.clear();
        self.unread.clear();
        self.filled.clear();
        self.added_up = self.added_up.take().filter(|sum| self.totals.fits(sum));
    }

    /// What is told of a worker whose books are about to be closed, by its last reading.
    fn as_lost(&self, ordinal: u32, last: Option<&WorkerStats>) -> Lost {
        let member = self.members.get(&ordinal);
        Lost {
            ordinal,
            name: member.map_or_else(|| format!("worker {ordinal}"), |member| member.worker.name.clone()),
            devices: last.map_or(0, |last| last.stats.devices.connected),
            read_at: last.map(|last| last.at),
            replaced_at: self.newer.get(&ordinal).map(|successor| successor.epoch),
        }
    }

    /// How many workers have ended unasked since this process follows them.
    pub const fn lost_count(&self) -> u64 {
        self.lost_count
    }

    /// Those that have since there were `count` of them, as far as they are remembered: each run that goes on takes note of all.
    pub fn lost_since(&self, count: u64) -> impl Iterator<Item = &Lost> {
        let number = usize::try_from(self.lost_count.saturating_sub(count)).unwrap_or(usize::MAX);
        self.lost.iter().skip(self.lost.len().saturating_sub(number))
    }

    /// What all workers measured in all epochs. Devices are those of the workers that answer: one that is away cannot say
    /// that its devices are connected.
    pub fn sum(&self) -> Stats {
        Stats { devices: self.devices(), ..self.totals.sum() }
    }

    /// What [`Workers::sum`] adds up, to be added up elsewhere while readings go on.
    pub fn measured(&self) -> Measured {
        self.totals.measured(self.devices())
    }

    /// As [`Workers::sum`], but for the times of single streams.
    pub fn counters(&self) -> Stats {
        Stats { devices: self.devices(), ..self.totals.sum_without_times() }
    }

    /// A sum of the times of streams over all workers and epochs; `None` where a worker has not told its own with its counters.
    pub fn sum_of(&self, of: &SumOf) -> Option<Latency> {
        self.totals.sum_of(of)
    }

    /// Whether every worker has settled all that it had sent, and all of its devices have left.
    pub fn are_drained(&self) -> bool {
        self.members.keys().all(|ordinal| self.totals.worker(*ordinal).is_some_and(|last| last.is_drained))
    }

    /// The devices of the workers that answer.
    pub fn devices(&self) -> Devices {
        let mut devices = Devices::default();
        for member in self.members.values().filter(|member| member.answers()) {
            let theirs = member.devices;
            devices.connected += theirs.connected;
            devices.refused += theirs.refused;
            devices.failed += theirs.failed;
            devices.leaving += theirs.leaving;
            devices.desired += theirs.desired;
        }
        devices
    }

    /// Why the broker refuses devices, why they fail to connect, and why those that are missing have lost their sessions: the
    /// most frequent causes.
    pub fn causes(&self) -> Trouble {
        let (mut refused, mut failed, mut lost) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (ordinal, reading) in self.totals.workers() {
            let Some(member) = self.members.get(&ordinal).filter(|member| member.answers()) else { continue };
            let connections = &reading.stats.connections;
            if member.devices.refused > 0 {
                count(&mut refused, &connections.refused);
            }
            if member.devices.failed + member.devices.refused > 0 || member.devices.connected < member.devices.desired {
                count(&mut failed, &connections.failed);
            }
            if member.devices.connected < member.devices.desired {
                count(&mut lost, &connections.lost);
            }
        }
        Trouble { refused: most(&refused), failed: most(&failed), lost: most(&lost) }
    }
}

fn count<'a>(sum: &mut BTreeMap<&'a str, u64>, causes: &'a BTreeMap<String, u64>) {
    for (cause, times) in causes {
        *sum.entry(cause).or_default() += times;
    }
}

fn most(causes: &BTreeMap<&str, u64>) -> Option<String> {
    causes.iter().max_by_key(|(_, times)| **times).map(|(cause, _)| (*cause).to_owned())
}

/// How many devices of a plan each pod runs, by its ordinal.
pub fn share_of(ordinal: u32, devices_per_pod: u32, devices: u32) -> u32 {
    Shard::of(ordinal, devices_per_pod).share_of(devices)
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use super::*;
    use crate::{
        fixture::{START, facts, stats_of},
        run::{
            Run,
            facts::{Asked, Program, RunFacts},
            phase::Phases,
            verdict::{self, Rule, Verdict},
        },
    };
    use fleet_contract::{stats::StreamStats, units::Span};

    fn worker(ordinal: u32, id: &str) -> Worker {
        let address = Address::Unix(Path::new("worker.sock").into());
        let running = Worker::running(ordinal, format!("demo-{ordinal}"), Some(address));
        Worker { id: id.into(), created: Some(Micros(0)), ..running }
    }

    fn reading(id: &str, epoch: u64, sequence: u64, sent: u64, is_drained: bool) -> Answered {
        let mut stats = Stats::default();
        stats.messages[0].sent = sent;
        stats.devices.connected = 10;
        let (epoch, at) = (Micros(epoch), Micros(epoch + sequence * 1_000_000));
        let reading = WorkerStats { is_drained, ..WorkerStats::new(epoch, sequence, at, 1, stats) };
        Answered { ordinal: 0, id: id.into(), answer: Answer::Reading(Ok(Box::new(reading))) }
    }

    fn sent(workers: &Workers) -> u64 {
        workers.totals.sum().messages[0].sent
    }

    /// Keeps which books are open; none is closed.
    #[track_caller]
    fn keep_open(workers: &mut Workers) {
        let closing = workers.closing().unwrap();
        assert_eq!((closing.lost.len(), &closing.ended().stats), (0, &workers.ended().stats));
        workers.close(closing);
        assert!(workers.closing().is_none());
    }

    /// A worker whose process was replaced: the books of the first one, which had sent 10 messages, are about to be closed.
    fn replaced() -> Workers {
        let mut workers = Workers::default();
        workers.meet(vec![worker(0, "a")]);
        workers.answered(reading("a", 1, 1, 10, false)).unwrap();
        keep_open(&mut workers);
        workers.answered(reading("a", 2, 1, 3, false)).unwrap();
        workers
    }

    /// Four instants of each of thirty answers: of the second worker by a clock that is 400 ms ahead and gains 15 µs a second.
    #[test]
    fn a_clock_that_is_apart_and_drifts_makes_a_run_of_short_phases_invalid() {
        let mut workers = Workers::default();
        workers.meet(vec![worker(0, "a"), worker(1, "b")]);
        let ours = |second: u64, millis: u64| START.after(Span::from_millis(1_000 * second + millis));
        for second in 1..=30 {
            let theirs =
                |ordinal: u32, at: Micros| if ordinal == 0 { at } else { at.after(Span(400_000 + 15 * second)) };
            for (ordinal, id) in [(0, "a"), (1, "b")] {
                let mut answered = reading(id, START.0, second, 10, false);
                answered.ordinal = ordinal;
                let Answer::Reading(Ok(reading)) = &mut answered.answer else { panic!("it is a reading") };
                (reading.begun, reading.at) = (theirs(ordinal, ours(second, 3)), theirs(ordinal, ours(second, 4)));
                reading.asked = Some((ours(second, 0), ours(second, 5)));
                workers.answered(answered).unwrap();
            }
        }
        let now = ours(31, 0);
        let name = workers.member(1).unwrap().worker.name.clone();
        let [_, (_, offset)] = workers.clocks(now).collect::<Vec<_>>()[..] else { panic!("two clocks") };
        let (truth, bound) = (400_450, i64::try_from(offset.bound.0).unwrap());
        assert!((offset.ahead - truth).abs() <= bound && bound < 5_000, "{offset:?}");
        let judged = |phases: &str| {
            let mut facts = facts();
            facts.asked.phases = Phases::new(serde_saphyr::from_str(phases).unwrap());
            facts.workers.see_clocks(workers.clocks(now));
            verdict::judge(&stats_of(1_000), &facts, &[])
        };
        // A tenth of the shortest phase is allowed.
        assert_eq!(judged("[{name: long, duration: 20s}]").0, Verdict::Passed);
        let (verdict, reasons) = judged("[{name: long, duration: 20s}, {name: short, duration: 2s}]");
        assert_eq!((verdict, reasons[0].name), (Verdict::Invalid, Rule::ClocksApart));
        assert!(reasons[0].message.contains(&format!("found that of {name} 401 ms ahead of it")), "{}", reasons[0]);
    }

    #[test]
    fn who_has_ended_unasked_is_told_by_name_to_each_run() {
        let mut workers = replaced();
        let closing = workers.closing().unwrap();
        workers.close(closing);
        let name = workers.member(0).unwrap().worker.name.clone();
        let told = format!("{name} ended unasked, with 10 devices connected when it was read last");
        for _ in 0..2 {
            assert_eq!(workers.lost_since(0).map(ToString::to_string).collect::<Vec<_>>(), std::slice::from_ref(&told));
        }
        let lost = workers.lost_since(0).next().unwrap();
        assert_eq!((lost.read_at, lost.replaced_at), (Some(Micros(1_000_001)), Some(Micros(2))));
        assert_eq!((workers.lost_count(), workers.lost_since(1).count()), (1, 0));
    }

    #[test]
    fn a_new_epoch_counts_only_when_the_old_one_is_kept() {
        let mut workers = replaced();
        assert_eq!(sent(&workers), 10);
        let closing = workers.closing().unwrap();
        assert_eq!((closing.ended().stats.messages[0].sent, closing.lost.as_slice()), (10, [0].as_slice()));
        workers.close(closing);
        assert_eq!(sent(&workers), 13);
        assert!(workers.closing().is_none());
    }

    #[test]
    fn a_pod_that_is_gone_leaves_its_drained_books() {
        let mut workers = Workers::default();
        workers.meet(vec![worker(0, "a")]);
        workers.answered(reading("a", 1, 1, 10, false)).unwrap();
        workers.meet(vec![]);
        workers.answered(reading("a", 1, 2, 12, true)).unwrap();
        let closing = workers.closing().unwrap();
        assert!(closing.lost.is_empty(), "it drained, and its last reading came late but came");
        workers.close(closing);
        assert_eq!((sent(&workers), workers.devices().connected), (12, 0));
    }

    #[test]
    fn a_pod_that_was_replaced_before_it_ran_closes_no_books() {
        let mut workers = Workers::default();
        workers.meet(vec![Worker { has_run: false, ..worker(0, "a") }]);
        workers.meet(vec![worker(0, "b")]);
        workers.answered(reading("b", 1, 1, 10, false)).unwrap();
        keep_open(&mut workers);
        workers.answered(reading("b", 1, 2, 20, false)).unwrap();
        assert_eq!((sent(&workers), workers.ended().workers_lost), (20, 0));
    }

    /// A worker whose pod has gone together with the controller that had read it.
    #[test]
    fn a_worker_of_an_earlier_controller_is_lost_wherever_it_is_missed() {
        let mut earlier = Workers::default();
        earlier.meet(vec![worker(0, "a")]);
        earlier.answered(reading("a", 5, 1, 10, false)).unwrap();
        keep_open(&mut earlier);
        let kept = earlier.ended().clone();
        let check = |what: &str, then: &dyn Fn(&mut Workers)| {
            let mut workers = Workers::resume(kept.clone());
            then(&mut workers);
            let closing = workers.closing().expect(what);
            assert_eq!((closing.lost.as_slice(), closing.ended().workers_lost), ([0].as_slice(), 1), "{what}");
            workers.close(closing);
            assert_eq!(workers.ended().gaps, [Gap { ordinal: 0, epoch: Micros(5), from: Micros(5) }], "{what}");
            assert!(workers.closing().is_none(), "{what}");
        };
        check("another pod answers", &|workers| {
            workers.meet(vec![worker(0, "b")]);
            workers.answered(reading("b", 7, 1, 3, false)).unwrap();
        });
        check("there is no pod", &|workers| {
            workers.meet(vec![]);
        });
        check("its pod goes before it answers", &|workers| {
            workers.meet(vec![worker(0, "a")]);
            workers.meet(vec![]);
        });
        check("its pod is replaced before it answers", &|workers| {
            workers.meet(vec![worker(0, "a")]);
            workers.meet(vec![worker(0, "b")]);
            workers.answered(reading("b", 7, 1, 3, false)).unwrap();
        });
        let mut workers = Workers::resume(kept);
        workers.meet(vec![worker(0, "a")]);
        workers.answered(reading("a", 5, 2, 20, false)).unwrap();
        assert!(workers.closing().is_none(), "it goes on");
    }

    #[test]
    fn a_worker_that_ran_and_was_never_read_is_lost_and_stays_counted() {
        let mut workers = Workers::default();
        workers.meet(vec![worker(0, "a")]);
        workers.meet(vec![worker(0, "b")]);
        workers.answered(reading("b", 1, 1, 10, false)).unwrap();
        let closing = workers.closing().unwrap();
        assert_eq!((closing.lost.as_slice(), closing.ended().workers_lost), ([0].as_slice(), 1));
        workers.close(closing);
        assert!(workers.closing().is_none());
        workers.answered(reading("b", 1, 2, 20, false)).unwrap();
        // How much it may have sent since its pod was made, the new one tells.
        let asked =
            workers.to_read(TimesOf::All).into_iter().find(|call| matches!(call.question, Question::Unrecorded(..)));
        let gap = Gap { ordinal: 0, epoch: Micros(0), from: Micros(0) };
        assert_eq!(asked.map(|call| call.question), Some(Question::Unrecorded(gap, Micros(1))));
        let mut stats = Stats::default();
        stats.messages[0].unrecorded = 40;
        let answer = Answer::Unrecorded(gap, Ok(Box::new(stats)));
        workers.answered(Answered { ordinal: 0, id: "b".into(), answer }).unwrap();
        let closing = workers.closing().unwrap();
        workers.close(closing);
        assert_eq!((workers.sum().messages[0].unrecorded, workers.ended().gaps.len()), (40, 0));
        assert!(workers.to_read(TimesOf::All).iter().all(|call| !matches!(call.question, Question::Unrecorded(..))));
        let successor = Workers::resume(workers.ended().clone());
        assert_eq!((sent(&workers), successor.ended().workers_lost), (20, 1));
    }

    #[test]
    fn times_are_read_of_as_many_workers_as_may_be() {
        let of = |workers, series_each, seconds| TimesOf::affordable(START, workers, series_each, seconds);
        assert_eq!(of(10, 100, 1), TimesOf::All);
        assert_eq!(of(0, 0, 1), TimesOf::All);
        assert_eq!(of(1_000, 50, 1), TimesOf::InTurn { now: START, workers: 20 });
        assert_eq!(of(1_000, 50, 15), TimesOf::InTurn { now: START, workers: 300 });
        assert_eq!(of(2, 1_010, 1), TimesOf::InTurn { now: START, workers: 1 }, "however many series it has");
    }

    #[test]
    fn times_are_read_in_turn_where_they_are_many() {
        let mut workers = Workers::default();
        let ids = ["a", "b", "c", "d"];
        workers.meet((0..).zip(ids).map(|(ordinal, id)| worker(ordinal, id)).collect());
        // The last one is never read.
        for (ordinal, id) in (0..3).zip(ids) {
            let mut answered = reading(id, 0, 1, 1, false);
            answered.ordinal = ordinal;
            workers.answered(answered).unwrap();
        }
        let in_full = |workers: &mut Workers, times: TimesOf| -> Vec<u32> {
            let calls = workers.to_read(times);
            workers.members.values_mut().for_each(|member| member.asked.is_waiting = false);
            let is_full = |call: &Call| matches!(call.question, Question::Reading(_, Detail::Full));
            calls.iter().filter(|call| is_full(call)).map(|call| call.ordinal).collect()
        };
        let at = |second: u64, workers: usize| TimesOf::InTurn { now: START.after(Span::from_secs(second)), workers };
        assert_eq!(in_full(&mut workers, TimesOf::All), [0, 1, 2, 3]);
        assert_eq!(in_full(&mut workers, at(0, 2)), [0, 1]);
        assert_eq!(in_full(&mut workers, at(1, 2)), [2], "the others told them a second ago");
        assert_eq!(in_full(&mut workers, at(2, 2)), [0_u32; 0]);
        assert_eq!(in_full(&mut workers, at(10, 1)), [0]);
        assert_eq!(in_full(&mut workers, at(11, 1)), [1]);
        // One that does not answer takes nobody's turn.
        for _ in 0..SILENT_MAX {
            let answer = Answer::Reading(Err(CallError::Timeout(Duration::from_secs(2))));
            workers.answered(Answered { ordinal: 2, id: "c".into(), answer }).unwrap_err();
        }
        assert_eq!(in_full(&mut workers, at(30, 1)), [0]);
        assert_eq!(in_full(&mut workers, at(31, 1)), [1]);
        let of = SumOf { distribution: "end_to_end".into(), phase: Some(3), group: None, stream: None, qos: None };
        let wanted = [of];
        let calls = workers.to_read_with(at(32, 1), &wanted);
        workers.members.values_mut().for_each(|member| member.asked.is_waiting = false);
        let has_sums = |question: &Question| matches!(question, Question::Reading(_, Detail::Sums(sums, None)) if sums[..] == wanted);
        assert!(calls.len() == 4 && calls.iter().all(|call| has_sums(&call.question)), "nobody's turn: {calls:?}");
        let of_phases = workers.to_read(TimesOf::Phases(3));
        let is_of_phases = |call: &Call| matches!(call.question, Question::Reading(_, Detail::Phases(3)));
        assert!(of_phases.len() == 4 && of_phases.iter().all(is_of_phases), "{of_phases:?}");
    }

    #[test]
    fn a_phase_is_kept_with_the_books_when_every_worker_has_settled_it() {
        let mut workers = Workers::default();
        workers.meet(vec![worker(0, "a"), worker(1, "b")]);
        let mut of = |ordinal: u32, id: &str, seconds: u64, sent: u64| {
            let mut answered = reading(id, 0, seconds, sent, false);
            answered.ordinal = ordinal;
            let Answer::Reading(Ok(reading)) = &mut answered.answer else { unreachable!("it is one") };
            let mut stream = StreamStats::default();
            stream.messages.sent = sent;
            for number in [0, 1] {
                reading.stats.phases.entry(number).or_default().groups.add("cars", "state", &stream);
            }
            workers.answered(answered).unwrap();
        };
        of(0, "a", 20, 7);
        of(1, "b", 9, 5);
        let fleet = crate::fixture::facts().fleet;
        let mut plan = Plan::new(1, Micros(0), 9);
        for (number, seconds) in [(0, 0), (1, 5)] {
            let at = Micros(seconds * 1_000_000);
            plan.set(at, fleet_contract::plan::Setting::Phase(number));
        }
        let facts = RunFacts::new(fleet, String::new(), &plan, Asked::default(), Program::default());
        let mut run = Run::new(facts, Span::ZERO);
        // The first phase ends after 5 s, `lossAfter` are 10 s, and the worker that was read longest ago was read after 9.
        run.tick(Micros(21_000_000), &plan, &mut workers);
        keep_open(&mut workers);
        let mut answered = reading("b", 0, 16, 6, false);
        answered.ordinal = 1;
        workers.answered(answered).unwrap();
        run.tick(Micros(22_000_000), &plan, &mut workers);
        let closing = workers.closing().unwrap();
        assert_eq!((closing.ended().phases_kept, closing.lost.len()), (1, 0));
        assert!(Run::without_kept_phases(&plan, &workers).is_none(), "nobody has kept it yet");
        workers.close(closing);
        let kept = Run::without_kept_phases(&plan, &workers).unwrap();
        assert_eq!((kept.version, kept.phases().collect::<Vec<_>>()), (plan.version + 1, vec![(Micros(5_000_000), 1)]));
        assert!(workers.closing().is_none());
        assert_eq!(workers.sum().phases[&0].total().0.sent, 7, "what the second one said last has no phase any more");
    }

    #[test]
    fn phases_of_many_series_are_added_up_elsewhere_while_readings_go_on() {
        let mut workers = Workers::default();
        workers.meet(vec![worker(0, "a")]);
        let read = |workers: &mut Workers, sequence: u64, streams: usize, sent: u64| {
            let mut answered = reading("a", 0, sequence, sent, false);
            let Answer::Reading(Ok(reading)) = &mut answered.answer else { unreachable!("it is one") };
            let mut stream = StreamStats::default();
            stream.messages.sent = sent;
            for number in 0..streams {
                reading.stats.phases.entry(0).or_default().groups.add("cars", &number.to_string(), &stream);
            }
            workers.answered(answered).unwrap();
        };
        read(&mut workers, 1, SERIES_AT_ONCE + 1, 1);
        keep_open(&mut workers);
        assert!(workers.to_add_up().is_none(), "it goes on");
        workers.end_phases(1);
        let sum = workers.to_add_up().unwrap().add_up();
        read(&mut workers, 2, SERIES_AT_ONCE + 1, 2);
        workers.added_up(sum);
        assert!(workers.to_add_up().is_none(), "it is done");
        let closing = workers.closing().unwrap();
        let ended = closing.ended();
        assert_eq!((ended.phases_kept, ended.stats.phases[&0].total().0.sent), (1, SERIES_AT_ONCE as u64 + 1));
        workers.close(closing);
        assert_eq!((workers.sum().phases[&0].total().0.sent, sent(&workers)), (SERIES_AT_ONCE as u64 + 1, 2));
        // Few are added up with the books.
        workers.end_phases(2);
        assert!(workers.to_add_up().is_none());
    }

    #[test]
    fn a_worker_that_does_not_answer_has_no_connected_devices() {
        let mut workers = Workers::default();
        workers.meet(vec![worker(0, "a")]);
        workers.answered(reading("a", 1, 1, 10, false)).unwrap();
        assert_eq!(workers.devices().connected, 10);
        for _ in 0..SILENT_MAX {
            let answer = Answer::Reading(Err(CallError::Timeout(Duration::from_secs(2))));
            assert!(workers.answered(Answered { ordinal: 0, id: "a".into(), answer }).is_err());
        }
        assert_eq!(workers.devices().connected, 0);
    }

    #[test]
    fn an_answer_of_an_earlier_pod_is_not_the_new_ones() {
        let mut workers = Workers::default();
        workers.meet(vec![worker(0, "a")]);
        workers.meet(vec![worker(0, "b")]);
        workers.answered(reading("a", 1, 1, 10, false)).unwrap();
        assert_eq!((sent(&workers), workers.member(0).unwrap().plan_version), (0, None));
    }

    #[test]
    fn rates_are_those_of_each_worker() {
        let mut workers = Workers::default();
        workers.meet(vec![worker(0, "a")]);
        workers.answered(reading("a", 1_000_000, 1, 100, false)).unwrap();
        workers.answered(reading("a", 1_000_000, 3, 160, false)).unwrap();
        let rate = workers.member(0).unwrap().messages_per_second;
        assert!((rate - 30.0).abs() < 1e-9, "{rate}");
    }
}
