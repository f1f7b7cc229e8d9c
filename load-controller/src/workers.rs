//! The workers of one fleet as the controller knows them: who there is, what each measured last, which plan it runs.
//!
//! One task owns this value and asks it to pull and push; answers come back through [`Workers::answered`] in any order.
//! What would close an epoch's books waits in [`Workers::closing`] until the caller has kept the sum, so that nothing
//! newer counts before.

pub mod client;
mod member;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use fleet_contract::{
    plan::{Plan, Shard},
    stats::{Devices, Ended, Stats, Totals, WorkerStats},
    time::Micros,
};
use hyper::body::Bytes;
use tokio::task::JoinSet;

pub use client::{Address, CallError, Client};
pub use member::{Member, SILENT_MAX};

use crate::{controller::observe::WorkerPod, resource::names::WORKER_PORT};

/// What a call came to.
#[derive(Debug)]
pub enum Answer {
    /// A reading.
    Reading(Result<Box<WorkerStats>, CallError>),
    /// The worker was given the plan of this version.
    Pushed(u64, Result<(), CallError>),
}

/// An answer, and whose it is; the UID tells whether that pod is still the one of its ordinal.
#[derive(Debug)]
pub struct Answered {
    ordinal: u32,
    uid: String,
    answer: Answer,
}

impl Answered {
    /// Whether it is about a plan that was pushed.
    pub const fn is_push(&self) -> bool {
        matches!(self.answer, Answer::Pushed(..))
    }
}

/// The workers of a fleet.
#[derive(Debug, Default)]
pub struct Workers {
    client: Client,
    members: BTreeMap<u32, Member>,
    totals: Totals,
    /// Ordinals whose pod is gone, and readings of a new epoch: both close books.
    gone: BTreeSet<u32>,
    newer: BTreeMap<u32, WorkerStats>,
    /// Ordinals of workers that have gone with all that they had measured: each counts as lost, and has no books.
    unread: Vec<u32>,
    calls: JoinSet<Answered>,
}

/// The tokens of a fleet's workers. Never printed.
#[derive(Clone)]
pub struct Tokens {
    /// That of workers that mount the fleet's Secret.
    pub current: Arc<str>,
    /// That of workers of an earlier release, once it is known.
    pub former: Option<Arc<str>>,
}

impl Tokens {
    /// The token of workers of this release.
    pub fn of(current: &str) -> Self {
        Self { current: current.into(), former: None }
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(…)")
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
    /// Speaks through `client`, and counts on from what was kept.
    pub fn resume(client: Client, ended: Ended) -> Self {
        Self { client, totals: Totals::resume(ended), ..Self::default() }
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
        self.members.values().all(|member| member.address.is_none() || member.is_heard())
    }

    /// Takes over which pods there are; a pod that is gone will have its books closed.
    ///
    /// Whether somebody can be asked now who could not before.
    pub fn meet(&mut self, pods: &[WorkerPod], tokens: &Tokens) -> bool {
        let present: BTreeMap<u32, &WorkerPod> = pods.iter().map(|pod| (pod.ordinal, pod)).collect();
        let is_same = |member: &Member| present.get(&member.pod.ordinal).is_some_and(|pod| pod.uid == member.pod.uid);
        let gone: Vec<u32> = self.members.values().filter(|member| !is_same(member)).map(|m| m.pod.ordinal).collect();
        for ordinal in gone {
            let has_run_unheard = |member: Member| member.epoch().is_none() && member.pod.has_run;
            let was_unheard = self.members.remove(&ordinal).is_some_and(has_run_unheard);
            let was_not_kept = self.newer.remove(&ordinal).is_some();
            if was_unheard || was_not_kept {
                self.unread.push(ordinal);
            }
            // Without books of its own it must not close those of its successor.
            if self.totals.worker(ordinal).is_some() {
                self.gone.insert(ordinal);
            }
        }
        let mut is_somebody_new = false;
        for (ordinal, pod) in present {
            let member = self.members.entry(ordinal).or_insert_with(|| Member::new(pod.clone()));
            let address = address(pod, tokens);
            is_somebody_new |= member.address != address || (pod.is_ready && !member.pod.is_ready);
            member.pod = pod.clone();
            member.address = address;
        }
        is_somebody_new
    }

    /// Asks every worker for a reading that is not being asked already; how many that are.
    pub fn pull(&mut self) -> usize {
        let asked = self.members.values_mut().filter(|member| !member.is_asked);
        let mut count = 0;
        for member in asked {
            let Some(address) = member.address.clone() else { continue };
            member.is_asked = true;
            count += 1;
            let (client, ordinal, uid) = (self.client.clone(), member.pod.ordinal, member.pod.uid.clone());
            self.calls.spawn(async move {
                let reading = client.stats(&address).await.map(Box::new);
                Answered { ordinal, uid, answer: Answer::Reading(reading) }
            });
        }
        count
    }

    /// Gives the plan to every worker that is known to run an older one.
    pub fn push(&mut self, plan: &Plan) {
        let version = plan.version;
        let is_behind =
            |member: &&mut Member| !member.is_pushed && member.plan_version.is_some_and(|running| running < version);
        // Each answer leads here, and mostly nobody is behind: then nothing is to be written.
        let mut text = None;
        for member in self.members.values_mut().filter(is_behind) {
            let Some(address) = member.address.clone() else { continue };
            let text =
                text.get_or_insert_with(|| Bytes::from(serde_json::to_vec(plan).expect("a plan is a value of JSON")));
            member.is_pushed = true;
            let (client, text) = (self.client.clone(), text.clone());
            let (ordinal, uid) = (member.pod.ordinal, member.pod.uid.clone());
            self.calls.spawn(async move {
                let pushed = client.put_plan(&address, text).await;
                Answered { ordinal, uid, answer: Answer::Pushed(version, pushed) }
            });
        }
    }

    /// Whether answers are under way.
    pub fn is_waiting(&self) -> bool {
        !self.calls.is_empty()
    }

    /// The next answer; `None` when none is under way, or one was cut off.
    pub async fn next(&mut self) -> Option<Answered> {
        self.calls.join_next().await?.ok()
    }

    /// Takes an answer in; `Err` says why it is none.
    pub fn answered(&mut self, answered: Answered) -> Result<(), CallError> {
        let Answered { ordinal, uid, answer } = answered;
        let Some(member) = self.members.get_mut(&ordinal).filter(|member| member.pod.uid == uid) else {
            // The pod is gone, but its last reading is the best that there is of it.
            if let Answer::Reading(Ok(reading)) = answer {
                self.take_last(ordinal, *reading);
            }
            return Ok(());
        };
        match answer {
            Answer::Reading(Ok(reading)) => {
                member.read(&reading);
                match self.totals.worker(ordinal) {
                    Some(last) if reading.epoch > last.epoch => drop(self.newer.insert(ordinal, *reading)),
                    _ => self.totals.take(ordinal, *reading),
                }
                Ok(())
            }
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

    /// The books that are to be closed, if there are any; nothing has changed yet.
    pub fn closing(&self) -> Option<Closing> {
        let closes: BTreeSet<u32> = self.gone.iter().chain(self.newer.keys()).copied().collect();
        if closes.is_empty() && self.unread.is_empty() {
            return None;
        }
        let is_lost = |ordinal: &u32| self.totals.worker(*ordinal).is_some_and(|last| !last.is_drained);
        let lost: Vec<u32> = closes.into_iter().filter(is_lost).chain(self.unread.iter().copied()).collect();
        let mut totals = self.totals.clone();
        totals.lose(u32::try_from(lost.len()).unwrap_or(u32::MAX));
        self.gone.iter().for_each(|ordinal| totals.end(*ordinal));
        for (ordinal, reading) in &self.newer {
            totals.take(*ordinal, reading.clone());
        }
        Some(Closing { totals: totals.packed(), lost })
    }

    /// Closes the books, now that their sum is kept.
    pub fn close(&mut self, closing: Closing) {
        self.totals = closing.totals;
        self.gone.clear();
        self.newer.clear();
        self.unread.clear();
    }

    /// What all workers measured in all epochs. Devices are those of the workers that answer: one that is away cannot
    /// say that its devices are connected, and how many are wanted the plan says.
    pub fn sum(&self, plan: &Plan, now: Micros) -> Stats {
        let mut sum = self.totals.sum();
        sum.devices = self.devices();
        sum.devices.desired = plan.devices(now);
        sum
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

    /// Why the broker refuses devices, and why they fail for reasons of their own: the most frequent causes.
    pub fn causes(&self) -> (Option<String>, Option<String>) {
        let (mut refused, mut failed) = (BTreeMap::new(), BTreeMap::new());
        for (ordinal, reading) in self.totals.workers() {
            let Some(member) = self.members.get(&ordinal).filter(|member| member.answers()) else { continue };
            let connections = &reading.stats.connections;
            if member.devices.refused > 0 {
                count(&mut refused, &connections.refused);
            }
            if member.devices.failed + member.devices.refused > 0 || member.devices.connected < member.devices.desired {
                count(&mut failed, &connections.failed);
            }
        }
        (most(&refused), most(&failed))
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

fn address(pod: &WorkerPod, tokens: &Tokens) -> Option<Address> {
    let ip = pod.ip.as_ref()?.parse().ok()?;
    let token = if pod.secret.is_some() { &tokens.current } else { tokens.former.as_ref()? };
    Some(Address { socket: SocketAddr::new(ip, WORKER_PORT), token: Arc::clone(token) })
}

/// How many devices of a plan each pod runs, by its ordinal.
pub fn share_of(ordinal: u32, devices_per_pod: u32, devices: u32) -> u32 {
    Shard::of(ordinal, devices_per_pod).share_of(devices)
}

#[cfg(test)]
mod tests {
    use fleet_contract::format::Format;

    use super::*;

    fn pod(ordinal: u32, uid: &str) -> WorkerPod {
        WorkerPod {
            name: format!("demo-{ordinal}"),
            uid: uid.into(),
            ordinal,
            ip: Some("127.0.0.1".into()),
            node: None,
            unreachable_since: None,
            created: None,
            is_ready: true,
            has_run: true,
            is_terminating: false,
            document: None,
            secret: Some("demo-secrets".into()),
            unschedulable: None,
            diagnosis: None,
        }
    }

    fn tokens() -> Tokens {
        Tokens::of("now")
    }

    #[test]
    fn a_worker_of_an_earlier_release_is_shown_its_own_token() {
        let old = WorkerPod { secret: None, ..pod(0, "a") };
        let token = |pod: &WorkerPod, tokens: &Tokens| address(pod, tokens).map(|address| address.token.to_string());
        assert_eq!(token(&old, &tokens()), None, "it is not known yet");
        let tokens = Tokens { former: Some("then".into()), ..tokens() };
        assert_eq!(token(&old, &tokens).as_deref(), Some("then"));
        assert_eq!(token(&pod(1, "b"), &tokens).as_deref(), Some("now"));
        assert_eq!(format!("{tokens:?}"), "Tokens(…)");
    }

    fn reading(uid: &str, epoch: u64, sequence: u64, sent: u64, is_drained: bool) -> Answered {
        let mut stats = Stats::default();
        stats.messages[0].sent = sent;
        stats.devices.connected = 10;
        let (epoch, at) = (Micros(epoch), Micros(epoch + sequence * 1_000_000));
        let reading = WorkerStats { format: Format::FIRST, epoch, sequence, at, plan_version: 1, is_drained, stats };
        Answered { ordinal: 0, uid: uid.into(), answer: Answer::Reading(Ok(Box::new(reading))) }
    }

    fn sent(workers: &Workers) -> u64 {
        workers.totals.sum().messages[0].sent
    }

    #[test]
    fn a_new_epoch_counts_only_when_the_old_one_is_kept() {
        let mut workers = Workers::default();
        workers.meet(&[pod(0, "a")], &tokens());
        workers.answered(reading("a", 1, 1, 10, false)).unwrap();
        assert!(workers.closing().is_none());
        workers.answered(reading("a", 2, 1, 3, false)).unwrap();
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
        workers.meet(&[pod(0, "a")], &tokens());
        workers.answered(reading("a", 1, 1, 10, false)).unwrap();
        workers.meet(&[], &tokens());
        workers.answered(reading("a", 1, 2, 12, true)).unwrap();
        let closing = workers.closing().unwrap();
        assert!(closing.lost.is_empty(), "it drained, and its last reading came late but came");
        workers.close(closing);
        assert_eq!((sent(&workers), workers.devices().connected), (12, 0));
    }

    #[test]
    fn a_pod_that_was_replaced_before_it_ran_closes_no_books() {
        let mut workers = Workers::default();
        workers.meet(&[WorkerPod { has_run: false, ..pod(0, "a") }], &tokens());
        workers.meet(&[pod(0, "b")], &tokens());
        workers.answered(reading("b", 1, 1, 10, false)).unwrap();
        assert!(workers.closing().is_none());
        workers.answered(reading("b", 1, 2, 20, false)).unwrap();
        assert_eq!((sent(&workers), workers.ended().workers_lost), (20, 0));
    }

    #[test]
    fn a_worker_that_ran_and_was_never_read_is_lost_and_stays_counted() {
        let mut workers = Workers::default();
        workers.meet(&[pod(0, "a")], &tokens());
        workers.meet(&[pod(0, "b")], &tokens());
        workers.answered(reading("b", 1, 1, 10, false)).unwrap();
        let closing = workers.closing().unwrap();
        assert_eq!((closing.lost.as_slice(), closing.ended().workers_lost), ([0].as_slice(), 1));
        workers.close(closing);
        assert!(workers.closing().is_none());
        workers.answered(reading("b", 1, 2, 20, false)).unwrap();
        let successor = Workers::resume(Client::default(), workers.ended().clone());
        assert_eq!((sent(&workers), successor.ended().workers_lost), (20, 1));
    }

    #[test]
    fn a_worker_that_does_not_answer_has_no_connected_devices() {
        let mut workers = Workers::default();
        workers.meet(&[pod(0, "a")], &tokens());
        workers.answered(reading("a", 1, 1, 10, false)).unwrap();
        assert_eq!(workers.devices().connected, 10);
        for _ in 0..SILENT_MAX {
            let answer = Answer::Reading(Err(CallError::Timeout));
            assert!(workers.answered(Answered { ordinal: 0, uid: "a".into(), answer }).is_err());
        }
        assert_eq!(workers.devices().connected, 0);
    }

    #[test]
    fn an_answer_of_an_earlier_pod_is_not_the_new_ones() {
        let mut workers = Workers::default();
        workers.meet(&[pod(0, "a")], &tokens());
        workers.meet(&[pod(0, "b")], &tokens());
        workers.answered(reading("a", 1, 1, 10, false)).unwrap();
        assert_eq!((sent(&workers), workers.member(0).unwrap().plan_version), (0, None));
    }

    #[test]
    fn rates_are_those_of_each_worker() {
        let mut workers = Workers::default();
        workers.meet(&[pod(0, "a")], &tokens());
        workers.answered(reading("a", 1_000_000, 1, 100, false)).unwrap();
        workers.answered(reading("a", 1_000_000, 3, 160, false)).unwrap();
        let rate = workers.member(0).unwrap().messages_per_second;
        assert!((rate - 30.0).abs() < 1e-9, "{rate}");
    }
}
