//! What is known of one worker.

use fleet_contract::{
    clock::OtherClock,
    plan::Plan,
    stats::{Devices, WorkerStats},
    time::Micros,
};
use hyper::body::Bytes;

use super::Worker;
use crate::api::{
    CallError,
    calls::{Call, Question},
    client::json,
};

/// Readings that a worker may miss in a row before it counts as silent.
pub const SILENT_MAX: u32 = 3;

/// One worker.
#[derive(Debug)]
pub struct Member {
    /// Who it is.
    pub worker: Worker,
    /// The version of the plan that it runs, as far as is known.
    pub plan_version: Option<u64>,
    /// Its devices at its last reading.
    pub devices: Devices,
    /// Messages sent a second, between its last two readings.
    pub messages_per_second: f64,
    /// Bytes sent a second, between its last two readings.
    pub bytes_per_second: f64,
    /// Processors in use, between its last two readings.
    pub cpu_cores: f64,
    /// Its resident memory, in bytes.
    pub memory_bytes: u64,
    /// Why it did not answer last, if so.
    pub error: Option<String>,
    /// Whether it did answer, in a format that this release cannot read.
    pub is_unreadable: bool,
    /// What it was asked for.
    pub(super) asked: Asked,
    /// Whether it is being given a plan.
    pub(super) is_pushed: bool,
    /// How far its clock is ahead of ours.
    pub(super) clock: OtherClock,
    silent: u32,
    /// Readings in a row by which a thread of it hangs.
    hung: u32,
    last: Option<Counters>,
}

/// What a worker was asked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Whether a reading has not come yet.
    pub(super) is_waiting: bool,
    /// When its turn was last to tell the times of its streams.
    pub(super) times_at: Micros,
}

/// What rates are made from.
#[derive(Debug, Clone, Copy)]
struct Counters {
    epoch: Micros,
    at: Micros,
    messages: u64,
    bytes: u64,
    cpu_seconds: f64,
}

impl Member {
    pub(super) fn new(worker: Worker) -> Self {
        Self {
            plan_version: worker.plan_version,
            worker,
            devices: Devices::default(),
            messages_per_second: 0.0,
            bytes_per_second: 0.0,
            cpu_cores: 0.0,
            memory_bytes: 0,
            error: None,
            is_unreadable: false,
            asked: Asked::default(),
            is_pushed: false,
            clock: OtherClock::default(),
            silent: 0,
            hung: 0,
            last: None,
        }
    }

    /// What to ask it, if it can be asked.
    pub(super) fn call(&self, question: Question) -> Option<Call> {
        let Worker { ordinal, id, address, .. } = &self.worker;
        Some(Call { ordinal: *ordinal, id: id.clone(), address: address.clone()?, question })
    }

    /// How to tell it that plan, if it is known to run an older one and was not told yet. `text` is the plan written once for
    /// all who are told: mostly nobody is behind, and then it is not written at all.
    pub(super) fn push(&mut self, plan: &Plan, text: &mut Option<Bytes>) -> Option<Call> {
        let is_behind = !self.is_pushed && self.plan_version.is_some_and(|running| running < plan.version);
        if !is_behind {
            return None;
        }
        let call = self.call(Question::Plan(plan.version, text.get_or_insert_with(|| json(plan)).clone()))?;
        self.is_pushed = true;
        Some(call)
    }

    /// For how many readings in a row it has not answered, or has told that a thread of it hangs, which is as bad.
    pub const fn missed(&self) -> u32 {
        if self.silent > self.hung { self.silent } else { self.hung }
    }

    /// Whether it has answered, and lately.
    pub const fn answers(&self) -> bool {
        self.last.is_some() && self.silent < SILENT_MAX
    }

    /// Whether it was asked often enough to know that it does not answer.
    pub const fn is_silent(&self) -> bool {
        self.silent >= SILENT_MAX
    }

    /// Whether it has been asked, and has answered or not.
    pub const fn is_heard(&self) -> bool {
        self.last.is_some() || self.silent > 0
    }

    /// Whether it has missed a reading, and may have ended: another look will tell.
    pub const fn is_doubtful(&self) -> bool {
        self.silent > 0 && self.silent < SILENT_MAX
    }

    /// The start of its process, once it has answered.
    pub fn epoch(&self) -> Option<Micros> {
        self.last.map(|last| last.epoch)
    }

    pub(super) fn read(&mut self, reading: &WorkerStats) {
        let stats = &reading.stats;
        let now = Counters {
            epoch: reading.epoch,
            at: reading.at,
            messages: stats.messages.iter().map(|messages| messages.sent).sum(),
            bytes: stats.bytes.sent,
            cpu_seconds: stats.generator.cpu_seconds(),
        };
        let nothing = Counters { at: now.epoch, messages: 0, bytes: 0, cpu_seconds: 0.0, ..now };
        let before = self.last.filter(|last| last.epoch == now.epoch).unwrap_or(nothing);
        let seconds = now.at.since(before.at).as_secs_f64();
        if seconds > 0.0 {
            self.messages_per_second = now.messages.saturating_sub(before.messages) as f64 / seconds;
            self.bytes_per_second = now.bytes.saturating_sub(before.bytes) as f64 / seconds;
            self.cpu_cores = (now.cpu_seconds - before.cpu_seconds).max(0.0) / seconds;
        }
        self.last = Some(now);
        if let Some(exchange) = reading.exchange() {
            self.clock.note(exchange);
        }
        self.devices = stats.devices;
        self.memory_bytes = stats.generator.memory_bytes;
        self.plan_version = Some(reading.plan_version);
        self.asked.is_waiting = false;
        self.silent = 0;
        self.hung = if stats.generator.shards_silent == 0 { 0 } else { self.hung.saturating_add(1) };
        self.error = None;
        self.is_unreadable = false;
    }

    pub(super) fn failed(&mut self, error: &CallError) {
        self.asked.is_waiting = false;
        self.silent = self.silent.saturating_add(1);
        self.error = Some(error.to_string());
        self.is_unreadable = matches!(error, CallError::Unreadable(_));
    }
}
