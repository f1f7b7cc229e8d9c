//! Readings and plans of many workers at once; answers come in any order.

use std::time::Duration;

pub use fleet_contract::worker_api::Detail;
use fleet_contract::{
    stats::{Gap, Stats, WorkerStats},
    time::Micros,
    worker_api::{DRAIN, PLAN, stats_path, unrecorded_path},
};
use hyper::body::Bytes;
use tokio::task::JoinSet;

use super::{Address, CallError, Client, client::KEPT};

/// Something to ask of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its shard.
    pub ordinal: u32,
    /// Which worker of that shard: the pod's UID, or the process.
    pub id: String,
    /// Where it listens.
    pub address: Address,
    /// What is asked.
    pub question: Question,
}

/// What is asked of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// What it has measured; the books of earlier workers in its place are closed up to this epoch.
    Reading(Micros, Detail),
    /// What the worker of a gap may have sent at most before its successor, which is asked, began.
    Unrecorded(Gap, Micros),
    /// To let its devices leave.
    Drain,
    /// To run the plan of this version, written as JSON.
    Plan(u64, Bytes),
}

/// What a call came to, and whose answer it is; the id tells whether that worker is still the one of its ordinal.
#[derive(Debug)]
pub struct Answered {
    /// The shard.
    pub ordinal: u32,
    /// Which worker of that shard.
    pub id: String,
    /// The answer.
    pub answer: Answer,
}

/// The answer of a worker.
#[derive(Debug)]
pub enum Answer {
    /// A reading.
    Reading(Result<Box<WorkerStats>, CallError>),
    /// What the worker of a gap may have sent.
    Unrecorded(Gap, Result<Box<Stats>, CallError>),
    /// The worker was told to let its devices leave.
    Told(Result<(), CallError>),
    /// The worker was given the plan of this version.
    Pushed(u64, Result<(), CallError>),
}

impl Answered {
    /// Whether it is about a plan that was pushed.
    pub const fn is_push(&self) -> bool {
        matches!(self.answer, Answer::Pushed(..))
    }
}

/// Calls that are under way.
#[derive(Debug, Default)]
pub struct Calls {
    client: Client,
    /// Whether there is another round soon.
    goes_on: bool,
    under_way: JoinSet<Answered>,
}

impl Calls {
    /// Speaks through `client`.
    pub fn new(client: Client) -> Self {
        Self { client, goes_on: false, under_way: JoinSet::new() }
    }

    /// How often there are calls from now on.
    pub fn come_every(&mut self, span: Duration) {
        self.goes_on = span < KEPT;
    }

    /// Begins the calls.
    pub fn make(&mut self, calls: impl IntoIterator<Item = Call>) {
        for Call { ordinal, id, address, question } in calls {
            let client = if self.goes_on { self.client.clone() } else { self.client.once() };
            self.under_way.spawn(async move {
                let answer = match question {
                    Question::Reading(ended, detail) => {
                        let path = stats_path(ended, &detail);
                        Answer::Reading(client.get_reading(&address, &path).await.map(Box::new))
                    }
                    Question::Unrecorded(gap, until) => {
                        let path = unrecorded_path(gap.from, until);
                        Answer::Unrecorded(gap, client.get(&address, &path).await.map(Box::new))
                    }
                    Question::Drain => Answer::Told(client.post(&address, DRAIN).await),
                    Question::Plan(version, plan) => Answer::Pushed(version, client.put(&address, PLAN, plan).await),
                };
                Answered { ordinal, id, answer }
            });
        }
    }

    /// Has an answer come that nobody was asked for.
    #[cfg(test)]
    pub(crate) fn promise(&mut self, answered: Answered) {
        self.under_way.spawn(async move { answered });
    }

    /// Whether answers are under way.
    pub fn is_waiting(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// The next answer; `None` when none is under way, or one was cut off.
    pub async fn next(&mut self) -> Option<Answered> {
        self.under_way.join_next().await?.ok()
    }
}
