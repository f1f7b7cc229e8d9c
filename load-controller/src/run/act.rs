//! What a test does to pods and brokers beside what its devices do: whom it means, and what came of it. Pure.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, btree_map::Entry},
};

use fleet_contract::units::Share;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::fault::Spanned;

/// The acts of a run that have begun, by the number of their fault. Kept, so that none is done twice.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Acts(BTreeMap<u32, Act>);

/// An act that has begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Act {
    /// The pods that are to end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<Target>,
    /// The names of those that it has ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<String>,
    /// What came of it; `None` as long as it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// A pod that is to end: this very one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// What came of an act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// So many pods were ended, or commands have succeeded.
    Done(u64),
    /// Why nothing came of it.
    Failed(String),
}

impl Acts {
    /// Notes that an act begins.
    pub(super) fn begin(&mut self, number: u32, pods: Vec<Target>) {
        self.0.insert(number, Act { pods, ended: Vec::new(), outcome: None });
    }

    /// Notes which pods an act has ended so far, by their names.
    pub(super) fn has_ended(&mut self, number: u32, pods: Vec<String>) {
        if let Entry::Occupied(mut act) = self.0.entry(number) {
            act.get_mut().ended = pods;
        }
    }

    /// Notes what came of an act that has begun; only the first time.
    pub(super) fn end(&mut self, number: u32, outcome: Outcome) {
        if let Entry::Occupied(mut act) = self.0.entry(number) {
            act.get_mut().outcome.get_or_insert(outcome);
        }
    }

    /// Whether an act has begun.
    pub fn has(&self, number: u32) -> bool {
        self.0.contains_key(&number)
    }

    /// Those that go on.
    pub fn under_way(&self) -> impl Iterator<Item = (u32, &Act)> {
        self.0.iter().filter(|(_, act)| act.outcome.is_none()).map(|(number, act)| (*number, act))
    }

    /// How much an act has done.
    pub fn done(&self, number: u32) -> u64 {
        match self.outcome(number) {
            Some(Outcome::Done(count)) => *count,
            Some(Outcome::Failed(_)) | None => 0,
        }
    }

    /// Why nothing came of an act, if nothing did.
    pub fn failure(&self, number: u32) -> Option<&str> {
        match self.outcome(number) {
            Some(Outcome::Failed(why)) => Some(why),
            Some(Outcome::Done(_)) | None => None,
        }
    }

    fn outcome(&self, number: u32) -> Option<&Outcome> {
        self.0.get(&number)?.outcome.as_ref()
    }

    /// The names of the pods that acts have ended, one as often as it was.
    pub fn pods_ended(&self) -> impl Iterator<Item = &str> {
        self.0.values().flat_map(|act| &act.ended).map(String::as_str)
    }

    /// How many workers these faults have ended.
    pub fn workers_ended(&self, faults: &[Spanned<'_>]) -> u64 {
        let ending = faults.iter().filter(|spanned| spanned.fault.ends_workers());
        ending.filter_map(|spanned| self.0.get(&spanned.number)).map(|act| act.ended.len() as u64).sum()
    }
}

/// A share of the pods of a fleet, at least one where there is any: always the same ones of the same by seed and fault.
pub fn drawn<T>(mut pods: Vec<T>, share: Share, seed: u64, number: u32, name: impl Fn(&T) -> &str) -> Vec<T> {
    let count = (pods.len() * usize::from(share.basis_points())).div_ceil(10_000);
    pods.sort_by_cached_key(|pod| {
        let hash = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(number.to_be_bytes());
        Reverse(hash.chain_update(name(pod)).finalize())
    });
    pods.truncate(count);
    pods
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_pods_is_drawn_by_the_seed() {
        let pods = || (0..10).map(|ordinal| format!("rooms-{ordinal}")).collect::<Vec<_>>();
        let draw = |percent: u16, seed, number| {
            let share = Share::from_basis_points(percent * 100).unwrap();
            drawn(pods(), share, seed, number, String::as_str)
        };
        for (percent, count) in [(1, 1), (10, 1), (11, 2), (50, 5), (100, 10)] {
            assert_eq!(draw(percent, 1, 7).len(), count, "{percent} %");
        }
        assert_eq!(draw(30, 1, 7), draw(30, 1, 7));
        let others: Vec<_> = (0..5).map(|number| draw(30, 1, number)).collect();
        assert!(others.iter().any(|other| *other != others[0]) && draw(30, 2, 0) != draw(30, 3, 0), "{others:?}");
        assert!(drawn(Vec::<String>::new(), Share::ALL, 1, 7, String::as_str).is_empty());
    }

    #[test]
    fn an_act_is_done_once() {
        let mut acts = Acts::default();
        acts.end(3, Outcome::Done(1));
        assert!(!acts.has(3), "it has not begun");
        let pods = vec![Target { name: "rooms-1".into(), uid: "u".into() }];
        acts.begin(3, pods.clone());
        assert_eq!(acts.under_way().map(|(number, act)| (number, &act.pods)).collect::<Vec<_>>(), [(3, &pods)]);
        acts.end(3, Outcome::Done(1));
        acts.end(3, Outcome::Failed("late".into()));
        assert_eq!((acts.done(3), acts.failure(3), acts.under_way().count()), (1, None, 0));
        acts.begin(4, Vec::new());
        acts.end(4, Outcome::Failed("exit code 1".into()));
        assert_eq!((acts.done(4), acts.failure(4)), (0, Some("exit code 1")));
        let text = serde_json::to_string(&acts).unwrap();
        assert_eq!(serde_json::from_str::<Acts>(&text).unwrap(), acts);
    }
}
