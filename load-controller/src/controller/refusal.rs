//! Writes that the API server refuses: which object, why, and when to try again. Pure.
//!
//! A refusal is no failure of the controller: it lasts until somebody changes the cluster or the document. So it is
//! shown as the condition `Stalled`, and the write is repeated ever more seldom.

use std::{collections::BTreeMap, time::Duration};

use fleet_contract::format::Unreadable;
use kube::core::Status;
use tokio::time::Instant;

use super::{object::Key, reason::Reason};

/// The wait after the first refusal; it doubles with each further one.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest wait between two attempts.
const RETRY_MAX: Duration = Duration::from_mins(1);

/// A write that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of cause.
    pub reason: Reason,
    /// The object and the cause, in a sentence.
    pub message: String,
}

impl Refusal {
    /// The refusal that an answer of the API server is; `None` for a failure that another attempt may mend.
    pub fn of(key: &Key, status: &Status) -> Option<Self> {
        matches!(status.code, 400 | 403 | 422).then(|| {
            let reason = classify(&status.message, status.code);
            Self { reason, message: format!("{key} cannot be written: {}", status.message) }
        })
    }

    /// An object of that name exists and belongs to somebody else; `holder` says to whom, where that is known.
    pub fn name_taken(key: &Key, holder: Option<&str>) -> Self {
        let holder = holder.map_or(String::new(), |holder| format!("; it belongs to {holder}"));
        Self { reason: Reason::NameTaken, message: format!("{key} exists and is not this fleet's{holder}") }
    }

    /// An object of the fleet's own that this release cannot read. It is not written over.
    pub fn unreadable(key: &Key, error: &Unreadable) -> Self {
        let message = format!(
            "{key} cannot be read: {error}; a controller of the release that wrote it goes on, and without the object the \
             fleet begins anew"
        );
        Self { reason: Reason::Unreadable, message }
    }

    /// The same of what is kept of a load test.
    pub fn unreadable_test(key: &Key, error: &Unreadable) -> Self {
        let message = format!(
            "{key} cannot be read: {error}; a controller of the release that wrote it goes on, and without the object a load \
             test that has begun is over"
        );
        Self { reason: Reason::Unreadable, message }
    }

    /// A worker whose readings this release cannot read.
    pub fn unreadable_worker(pod: &str, error: &str) -> Self {
        Self { reason: Reason::Unreadable, message: format!("the worker of pod {pod} is not understood: {error}") }
    }

    /// The refusal of a pod, from the event of the StatefulSet that could not create it.
    pub fn of_pod(event: &str) -> Self {
        // "create Pod a-3 in StatefulSet a failed error: CAUSE"
        let cause = event.rsplit_once("error: ").map_or(event, |(_, cause)| cause);
        Self { reason: classify(cause, 403), message: format!("pods cannot be created: {cause}") }
    }
}

/// The kind of a refusal, by the words that Kubernetes' admission plugins use.
fn classify(message: &str, code: u16) -> Reason {
    let has = |text: &str| message.contains(text);
    if has("exceeded quota") || has("failed quota") {
        Reason::QuotaExceeded
    } else if has("violates PodSecurity") {
        Reason::PodSecurityViolated
    } else if has("denied the request") || has("denied request") {
        Reason::AdmissionDenied
    } else if (has("maximum ") || has("minimum ")) && has(" usage per ") || has("limit to request ratio") {
        Reason::LimitRangeExceeded
    } else if code == 403 {
        Reason::Forbidden
    } else {
        Reason::Invalid
    }
}

/// The writes of one fleet that are refused at present.
#[derive(Debug, Default)]
pub struct Refusals(BTreeMap<Key, Refused>);

#[derive(Debug)]
struct Refused {
    refusal: Refusal,
    /// What was to be written: another wish is tried at once.
    wish: u64,
    attempts: u32,
    retry_at: Instant,
}

impl Refusals {
    /// Whether a write may be tried at `now`; `wish` names what is to be written.
    pub fn is_due(&self, key: &Key, wish: u64, now: Instant) -> bool {
        self.0.get(key).is_none_or(|known| now >= known.retry_at || known.wish != wish)
    }

    /// Notes that a write was refused at `now`.
    pub fn add(&mut self, key: &Key, wish: u64, refusal: Refusal, now: Instant) {
        let before = self.0.get(key).filter(|known| known.wish == wish).map_or(0, |known| known.attempts);
        let wait = RETRY_FIRST.saturating_mul(1 << before.min(16)).min(RETRY_MAX);
        self.0.insert(key.clone(), Refused { refusal, wish, attempts: before + 1, retry_at: now + wait });
    }

    /// Forgets the refusals of an object that was written, or is as it should be.
    pub fn remove(&mut self, key: &Key) {
        self.0.remove(key);
    }

    /// Forgets the refusals of objects that need no write any more.
    pub fn retain(&mut self, wanted: impl Fn(&Key) -> bool) {
        self.0.retain(|key, _| wanted(key));
    }

    /// Whether no write is refused but that of `key`.
    pub fn are_none_but(&self, key: &Key) -> bool {
        self.0.keys().all(|refused| refused == key)
    }

    /// What is refused, by kind and name of the object.
    pub fn list(&self) -> Vec<Refusal> {
        self.0.values().map(|refused| refused.refusal.clone()).collect()
    }

    /// The time until the next attempt, seen from `now`.
    pub fn next(&self, now: Instant) -> Option<Duration> {
        self.0.values().map(|refused| refused.retry_at.saturating_duration_since(now)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: &str, expected: Reason) {
        assert_eq!(Refusal::of_pod(message).reason, expected, "{message}");
    }

    #[test]
    fn causes_are_told_apart_by_the_words_of_kubernetes() {
        let create = "create Pod f-0 in StatefulSet f failed error: pods \"f-0\" is forbidden: ";
        check(&format!("{create}exceeded quota: small, requested: pods=1, used: pods=4"), Reason::QuotaExceeded);
        check(&format!("{create}failed quota: small: must specify limits.cpu"), Reason::QuotaExceeded);
        check(
            &format!("{create}violates PodSecurity \"restricted:latest\": unrestricted"),
            Reason::PodSecurityViolated,
        );
        check(
            &format!("{create}maximum memory usage per Container is 10Mi, but limit is 16Mi"),
            Reason::LimitRangeExceeded,
        );
        check("create Pod f-0 failed error: admission webhook \"no\" denied the request: no", Reason::AdmissionDenied);
        check(&format!("{create}no PriorityClass with name high was found"), Reason::Forbidden);
        let cause = Refusal::of_pod(&format!("{create}exceeded quota: small")).message;
        assert_eq!(cause, "pods cannot be created: pods \"f-0\" is forbidden: exceeded quota: small");
    }

    fn key() -> Key {
        Key { kind: "Service".into(), name: "db".into() }
    }

    #[test]
    fn a_refused_write_is_repeated_ever_more_seldom_and_another_wish_at_once() {
        let start = Instant::now();
        let mut refusals = Refusals::default();
        assert!(refusals.is_due(&key(), 1, start) && refusals.are_none_but(&Key { kind: "Pod".into(), ..key() }));
        let mut now = start;
        let mut waits = Vec::new();
        for _ in 0..8 {
            refusals.add(&key(), 1, Refusal::name_taken(&key(), None), now);
            let wait = refusals.next(now).unwrap();
            assert!(!refusals.is_due(&key(), 1, now) && refusals.is_due(&key(), 1, now + wait));
            waits.push(wait.as_secs());
            now += wait;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(refusals.is_due(&key(), 2, now), "another wish");
        assert_eq!(refusals.list()[0].message, "Service db exists and is not this fleet's");
        assert!(refusals.are_none_but(&key()) && !refusals.are_none_but(&Key { kind: "Pod".into(), ..key() }));
        refusals.remove(&key());
        assert_eq!((refusals.list(), refusals.next(now)), (Vec::new(), None));
    }

    #[test]
    fn a_server_that_is_down_or_asks_to_wait_refuses_nothing() {
        let status = |code| Status { code, ..Status::default() };
        assert!([409, 429, 500, 503, 504].into_iter().all(|code| Refusal::of(&key(), &status(code)).is_none()));
        assert!([400, 403, 422].into_iter().all(|code| Refusal::of(&key(), &status(code)).is_some()));
    }
}
