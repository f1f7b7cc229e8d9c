//! Readings and plans of many workers at once; answers come in any order.

use std::{sync::Arc, time::Duration};

use fleet_contract::{
    stats::{Gap, Stats, SumOf, WorkerStats},
    time::Micros,
};
use hyper::body::Bytes;
use tokio::task::JoinSet;

use super::{
    Address, CallError, Client,
    client::{KEPT, json},
};

/// The longest list of sums in a question: a path may have 64 KiB. Whoever wants more has all times told.
const SUMS_BYTES_MAX: usize = 16 << 10;

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

/// How much of what a worker has measured is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// All of it.
    Full,
    /// All but the times of single streams.
    Brief,
    /// As brief, with the times of the phases below this number.
    Phases(u32),
    /// As brief, with these sums of times, and perhaps with the times of the phases below this number.
    Sums(Arc<[SumOf]>, Option<u32>),
}

impl Detail {
    /// Counters, the times of the phases below a number if there is one, and these sums of others.
    pub fn with_sums(sums: &[SumOf], times_below: Option<u32>) -> Self {
        match times_below {
            _ if written(sums).len() > SUMS_BYTES_MAX => Self::Full,
            _ if !sums.is_empty() => Self::Sums(sums.into(), times_below),
            Some(number) => Self::Phases(number),
            None => Self::Brief,
        }
    }

    /// What it adds to the path of a reading.
    fn query(&self) -> String {
        let below = |number: &u32| format!("&times_below={number}");
        match self {
            Self::Full => String::new(),
            Self::Brief => "&brief=true".into(),
            Self::Phases(number) => format!("&brief=true{}", below(number)),
            // A worker of an earlier release passes over what it does not know: it is to tell all then.
            Self::Sums(sums, number) => {
                format!("&sums={}{}", written(sums), number.as_ref().map(below).unwrap_or_default())
            }
        }
    }
}

/// Sums as they stand in a path: JSON of which all but letters, digits and `-`, `.`, `_` are written as percent and number (RFC
/// 3986, section 2.1).
fn written(sums: &[SumOf]) -> String {
    let written = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(*byte).to_string(),
        other => format!("%{other:02X}"),
    };
    json(&sums).iter().map(written).collect()
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
                        let path = format!("/v1/stats?ended={}{}", ended.0, detail.query());
                        Answer::Reading(client.get_reading(&address, &path).await.map(Box::new))
                    }
                    Question::Unrecorded(gap, until) => {
                        let path = format!("/v1/unrecorded?after={}&until={}", gap.from.0, until.0);
                        Answer::Unrecorded(gap, client.get(&address, &path).await.map(Box::new))
                    }
                    Question::Drain => Answer::Told(client.post(&address, "/v1/drain").await),
                    Question::Plan(version, plan) => {
                        Answer::Pushed(version, client.put(&address, "/v1/plan", plan).await)
                    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(group: &str) -> SumOf {
        let distribution = "end_to_end".into();
        SumOf { distribution, phase: Some(2), group: Some(group.into()), stream: None, qos: None }
    }

    #[test]
    fn what_is_asked_for_beside_counters_is_in_the_path() {
        let query = |sums: &[SumOf], below: Option<u32>| Detail::with_sums(sums, below).query();
        assert_eq!(query(&[], None), "&brief=true");
        assert_eq!(query(&[], Some(3)), "&brief=true&times_below=3");
        let sums =
            "&sums=%5B%7B%22distribution%22%3A%22end_to_end%22%2C%22phase%22%3A2%2C%22group%22%3A%22a%26b%22%7D%5D";
        assert_eq!(query(&[of("a&b")], None), sums);
        assert_eq!(query(&[of("a&b")], Some(3)), format!("{sums}&times_below=3"));
        // Too many for a path.
        assert_eq!(query(&vec![of("a"); 300], Some(3)), "");
    }
}
