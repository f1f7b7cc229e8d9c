//! Which query is answered when, which one waits and which one is deleted. Pure: the time is an argument.
//!
//! A namespace has [`LIVE_MAX`] places. A query with a place is answered at most once a second, and after a large answer
//! later. A place that is left rests for the same pause, so that a new query is no way around it.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use crate::resource::fleet_query::{FleetQuery, LIVE_MAX, QuerySpec};

/// How long a query lives without renewal.
const LIFE: Duration = Duration::from_secs(60);

/// The shortest time between two answers of a place, and before a failed call is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Bytes of answers that a place gives in a second: the API server's store keeps each of them for minutes.
const BYTES_PER_SECOND: usize = 64 << 10;

/// Queries of a namespace that wait for a place; more are deleted at once, so that nobody fills the store with them.
const WAITING_MAX: usize = 5;

/// One query, whatever else has or had its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// When it was made.
    created: Option<Timestamp>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Answer it; then [`Schedule::answered`] or [`Schedule::failed`].
    Answer(Key, QuerySpec),
    /// Write that it waits for a place; if that fails it is not written.
    Refuse(Key),
    /// Delete it; then [`Schedule::failed`] if it is still there.
    Delete(Key),
}

/// All queries of the watched namespaces.
#[derive(Debug, Default)]
pub struct Schedule {
    namespaces: HashMap<String, Namespace>,
}

/// The order in which queries get a place: by age; the UID tells those of one second apart.
type Position = (Option<Timestamp>, String);

#[derive(Debug, Default)]
struct Namespace {
    queries: BTreeMap<Position, Query>,
    /// When the places can be taken again that queries have left.
    resting: Vec<Instant>,
}

#[derive(Debug)]
struct Query {
    name: String,
    spec: QuerySpec,
    renewed_at: Instant,
    /// The renewal that was answered last.
    answered: Option<i64>,
    /// When it may be answered, or deletion tried again.
    due: Instant,
    state: State,
    /// Whether the watch has shown it since it began anew.
    is_listed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Has no place.
    Waiting,
    /// Has no place, and its status says so.
    Refused,
    /// Has a place.
    Live,
    /// Has a place and is being answered.
    Asked,
    /// Is to be deleted.
    Over,
    /// Is being deleted.
    Leaving,
}

impl Key {
    fn of(query: &FleetQuery) -> Option<Self> {
        let meta = &query.metadata;
        Some(Self {
            namespace: meta.namespace.clone()?,
            name: meta.name.clone()?,
            uid: meta.uid.clone()?,
            created: meta.creation_timestamp.as_ref().map(|created| created.0),
        })
    }

    fn position(&self) -> Position {
        (self.created, self.uid.clone())
    }
}

impl Schedule {
    /// Takes in a query as the watch shows it.
    pub fn observe(&mut self, query: &FleetQuery, now: Instant) {
        let Some(key) = Key::of(query) else { return };
        if query.metadata.deletion_timestamp.is_some() {
            return self.forget(query, now);
        }
        let position = key.position();
        let queries = &mut self.namespaces.entry(key.namespace).or_default().queries;
        let known = queries.entry(position).or_insert_with(|| Query {
            name: key.name,
            spec: query.spec.clone(),
            renewed_at: now,
            answered: query.status.as_ref().and_then(|status| status.observed_renewal),
            due: now,
            state: State::Waiting,
            is_listed: true,
        });
        known.is_listed = true;
        if query.spec.renew > known.spec.renew {
            known.spec.renew = query.spec.renew;
            known.renewed_at = now;
        }
    }

    /// Takes in that a query is gone.
    pub fn forget(&mut self, query: &FleetQuery, now: Instant) {
        let Some(key) = Key::of(query) else { return };
        if let Some(namespace) = self.namespaces.get_mut(&key.namespace) {
            namespace.forget(&key.position(), now);
        }
    }

    /// The watch begins anew, and shows all queries again until [`Self::listed`].
    pub fn relist(&mut self) {
        let queries = self.namespaces.values_mut().flat_map(|namespace| namespace.queries.values_mut());
        queries.for_each(|query| query.is_listed = false);
    }

    /// The watch has shown all queries: others are gone.
    pub fn listed(&mut self, now: Instant) {
        for namespace in self.namespaces.values_mut() {
            let gone = namespace.queries.iter().filter(|(_, query)| !query.is_listed);
            let gone: Vec<Position> = gone.map(|(position, _)| position.clone()).collect();
            gone.iter().for_each(|position| namespace.forget(position, now));
        }
    }

    /// What is to be done now, at most `room` steps; answers come first, and of these the one that is due for longest.
    pub fn steps(&mut self, now: Instant, room: usize) -> Vec<Step> {
        self.namespaces.retain(|_, namespace| namespace.settle(now));
        let (mut answers, mut others) = (Vec::new(), Vec::new());
        for (name, namespace) in &mut self.namespaces {
            let is_full = namespace.live() == LIVE_MAX;
            for ((created, uid), query) in &mut namespace.queries {
                let wanted = match query.state {
                    State::Live => (query.is_unanswered() && query.due <= now).then_some(&mut answers),
                    State::Waiting => is_full.then_some(&mut others),
                    State::Over => (query.due <= now).then_some(&mut others),
                    State::Refused | State::Asked | State::Leaving => None,
                };
                let key =
                    || Key { namespace: name.clone(), name: query.name.clone(), uid: uid.clone(), created: *created };
                if let Some(wanted) = wanted {
                    wanted.push((key(), query));
                }
            }
        }
        answers.sort_by_key(|(_, query)| query.due);
        answers.into_iter().chain(others).take(room).map(|(key, query)| query.begin(key)).collect()
    }

    /// An answer of so many bytes to a renewal is written.
    pub fn answered(&mut self, key: &Key, renewal: i64, bytes: usize, now: Instant) {
        if let Some(query) = self.get(key) {
            query.state = State::Live;
            query.answered = Some(renewal);
            let pause = Duration::from_secs_f64(bytes as f64 / BYTES_PER_SECOND as f64);
            query.due = now + pause.max(PAUSE);
        }
    }

    /// A step failed, and is tried again.
    pub fn failed(&mut self, key: &Key, now: Instant) {
        if let Some(query) = self.get(key) {
            query.due = now + PAUSE;
            query.state = match query.state {
                State::Asked => State::Live,
                State::Leaving => State::Over,
                state => state,
            };
        }
    }

    /// When [`Self::steps`] is to be asked next, if nothing happens before.
    pub fn next(&self) -> Option<Instant> {
        self.namespaces.values().filter_map(Namespace::next).min()
    }

    fn get(&mut self, key: &Key) -> Option<&mut Query> {
        self.namespaces.get_mut(&key.namespace)?.queries.get_mut(&key.position())
    }
}

impl Namespace {
    fn live(&self) -> usize {
        self.queries.values().filter(|query| query.state.has_place()).count()
    }

    /// Ends queries whose time is over or that are too many, and gives free places away; whether anything is left.
    fn settle(&mut self, now: Instant) -> bool {
        self.resting.retain(|usable| *usable > now);
        for query in self.queries.values_mut().filter(|query| query.may_end() && query.ends_at() <= now) {
            if query.state == State::Live && query.due > now {
                self.resting.push(query.due);
            }
            (query.state, query.due) = (State::Over, now);
        }
        let (mut taken, mut waiting) = (self.live() + self.resting.len(), 0);
        for query in self.queries.values_mut().filter(|query| query.state.is_waiting()) {
            if taken < LIVE_MAX {
                taken += 1;
                (query.state, query.due) = (State::Live, now);
                continue;
            }
            waiting += 1;
            if waiting > WAITING_MAX {
                (query.state, query.due) = (State::Over, now);
            }
        }
        !self.queries.is_empty() || !self.resting.is_empty()
    }

    fn forget(&mut self, position: &Position, now: Instant) {
        match self.queries.remove(position) {
            Some(query) if query.state == State::Asked => self.resting.push(now + PAUSE),
            Some(query) if query.state == State::Live && query.due > now => self.resting.push(query.due),
            _ => {}
        }
    }

    fn next(&self) -> Option<Instant> {
        let is_waiting = self.queries.values().any(|query| query.state.is_waiting());
        let usable = self.resting.iter().min().copied().filter(|_| is_waiting || self.queries.is_empty());
        self.queries.values().filter_map(Query::next).chain(usable).min()
    }
}

impl Query {
    fn is_unanswered(&self) -> bool {
        self.answered.is_none_or(|answered| answered < self.spec.renew)
    }

    fn ends_at(&self) -> Instant {
        self.renewed_at + LIFE
    }

    fn may_end(&self) -> bool {
        self.state == State::Live || self.state.is_waiting()
    }

    fn begin(&mut self, key: Key) -> Step {
        match self.state {
            State::Live => {
                self.state = State::Asked;
                Step::Answer(key, self.spec.clone())
            }
            State::Waiting => {
                self.state = State::Refused;
                Step::Refuse(key)
            }
            _ => {
                self.state = State::Leaving;
                Step::Delete(key)
            }
        }
    }

    fn next(&self) -> Option<Instant> {
        match self.state {
            State::Live if self.is_unanswered() => Some(self.due.min(self.ends_at())),
            State::Live | State::Waiting | State::Refused => Some(self.ends_at()),
            State::Over => Some(self.due),
            State::Asked | State::Leaving => None,
        }
    }
}

impl State {
    const fn has_place(self) -> bool {
        matches!(self, Self::Live | Self::Asked)
    }

    const fn is_waiting(self) -> bool {
        matches!(self, Self::Waiting | Self::Refused)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

    use super::*;
    use crate::resource::fleet_query::{QueryStatus, What};

    const ROOM: usize = 64;

    fn query(namespace: &str, number: i64, renew: i64) -> FleetQuery {
        FleetQuery {
            metadata: ObjectMeta {
                namespace: Some(namespace.into()),
                name: Some(format!("q{number}")),
                uid: Some(format!("uid-{number}")),
                creation_timestamp: Some(Time(Timestamp::from_second(1_700_000_000 + number).unwrap())),
                ..ObjectMeta::default()
            },
            spec: QuerySpec { fleet: Some("f".into()), what: What::Report, renew, ..QuerySpec::default() },
            status: None,
        }
    }

    /// A schedule and its clock.
    struct Lab {
        schedule: Schedule,
        now: Instant,
    }

    impl Lab {
        fn new() -> Self {
            Self { schedule: Schedule::default(), now: Instant::now() }
        }

        fn show(&mut self, number: i64, renew: i64) {
            self.schedule.observe(&query("a", number, renew), self.now);
        }

        fn gone(&mut self, number: i64) {
            self.schedule.forget(&query("a", number, 0), self.now);
        }

        fn pass(&mut self, seconds: f64) {
            self.now += Duration::from_secs_f64(seconds);
        }

        /// The next steps, as `answer q1`.
        fn steps(&mut self) -> Vec<String> {
            self.take(ROOM).iter().map(title).collect()
        }

        fn take(&mut self, room: usize) -> Vec<Step> {
            self.schedule.steps(self.now, room)
        }

        /// Does all that is to be done; each answer has so many bytes.
        fn work(&mut self, bytes: usize) -> Vec<String> {
            let steps = self.take(ROOM);
            for step in &steps {
                match step {
                    Step::Answer(key, spec) => self.schedule.answered(key, spec.renew, bytes, self.now),
                    Step::Delete(key) => self.gone(key.name[1..].parse().unwrap()),
                    Step::Refuse(_) => {}
                }
            }
            steps.iter().map(title).collect()
        }
    }

    fn title(step: &Step) -> String {
        match step {
            Step::Answer(key, _) => format!("answer {}", key.name),
            Step::Refuse(key) => format!("refuse {}", key.name),
            Step::Delete(key) => format!("delete {}", key.name),
        }
    }

    #[test]
    fn a_query_is_answered_once_for_each_renewal_and_at_most_once_a_second() {
        let mut lab = Lab::new();
        lab.show(1, 0);
        assert_eq!(lab.work(10), ["answer q1"]);
        lab.pass(5.0);
        lab.show(1, 0);
        assert!(lab.work(10).is_empty(), "nobody has asked again");
        for renew in 1..=30 {
            lab.show(1, renew);
            let expected: &[&str] = if renew % 10 == 1 { &["answer q1"] } else { &[] };
            assert_eq!(lab.work(10), expected, "renewal {renew}");
            lab.pass(0.1);
        }
    }

    #[test]
    fn one_that_is_being_answered_is_not_asked_again_and_what_fails_is_tried_again() {
        let mut lab = Lab::new();
        lab.show(1, 0);
        let steps = lab.take(ROOM);
        let [Step::Answer(key, _)] = steps.as_slice() else { panic!("{steps:?}") };
        lab.show(1, 1);
        assert!(lab.steps().is_empty());
        lab.schedule.failed(key, lab.now);
        assert!(lab.steps().is_empty());
        lab.pass(1.0);
        assert_eq!(lab.steps(), ["answer q1"]);
    }

    #[test]
    fn a_large_answer_is_followed_by_a_longer_pause() {
        let mut lab = Lab::new();
        lab.show(1, 0);
        lab.work(4 * BYTES_PER_SECOND);
        lab.show(1, 1);
        lab.pass(3.9);
        assert!(lab.steps().is_empty());
        assert_eq!(lab.schedule.next(), Some(lab.now + Duration::from_millis(100)));
        lab.pass(0.1);
        assert_eq!(lab.steps(), ["answer q1"]);
    }

    #[test]
    fn without_renewal_it_is_deleted_after_a_minute_and_with_it_later() {
        let mut lab = Lab::new();
        lab.show(1, 0);
        lab.show(2, 0);
        lab.work(10);
        lab.pass(30.0);
        lab.show(2, 1);
        lab.work(10);
        lab.pass(29.9);
        assert!(lab.steps().is_empty());
        lab.pass(0.1);
        assert_eq!(lab.work(10), ["delete q1"]);
        lab.pass(30.0);
        assert_eq!(lab.steps(), ["delete q2"]);
    }

    #[test]
    fn a_deletion_that_fails_is_tried_again() {
        let mut lab = Lab::new();
        lab.show(1, 0);
        lab.work(10);
        lab.pass(60.0);
        let steps = lab.take(ROOM);
        let [Step::Delete(key)] = steps.as_slice() else { panic!("{steps:?}") };
        lab.schedule.failed(key, lab.now);
        assert!(lab.steps().is_empty());
        lab.pass(1.0);
        assert_eq!(lab.steps(), ["delete q1"]);
    }

    #[test]
    fn a_sixth_query_of_a_namespace_waits_until_one_of_the_five_ends() {
        let mut lab = Lab::new();
        (1..=6).for_each(|number| lab.show(number, 0));
        let five = ["answer q1", "answer q2", "answer q3", "answer q4", "answer q5"];
        assert_eq!(lab.work(10), [&five[..], &["refuse q6"]].concat());
        lab.schedule.observe(&query("b", 7, 0), lab.now);
        assert_eq!(lab.work(10), ["answer q7"], "another namespace has places of its own");
        lab.pass(2.0);
        assert!(lab.steps().is_empty(), "it is told once");
        lab.gone(3);
        assert_eq!(lab.steps(), ["answer q6"]);
    }

    #[test]
    fn who_waits_beyond_the_fifth_is_deleted_at_once() {
        let mut lab = Lab::new();
        (1..=500).for_each(|number| lab.show(number, 0));
        let steps = lab.steps();
        let count = |what: &str| steps.iter().filter(|step| step.starts_with(what)).count();
        assert_eq!((steps.len(), count("answer"), count("refuse")), (ROOM, 5, 5));
        assert_eq!(count("delete"), ROOM - 10);
        assert!(!steps.contains(&"delete q10".into()) && steps.contains(&"delete q11".into()), "the newest go");
    }

    #[test]
    fn a_new_query_is_no_way_around_the_pause() {
        let mut lab = Lab::new();
        let mut answers = 0;
        for number in 1..=100 {
            lab.show(number, 0);
            answers += lab.work(10).iter().filter(|step| step.starts_with("answer")).count();
            lab.gone(number);
            lab.pass(0.1);
        }
        assert_eq!(answers, 50, "five a second for ten seconds");
    }

    #[test]
    fn a_place_that_is_left_while_it_is_asked_rests_too() {
        let mut lab = Lab::new();
        for number in 1..=6 {
            lab.show(number, 0);
            assert_eq!(lab.steps().len(), usize::from(number < 6), "query {number}");
            lab.gone(number);
        }
    }

    #[test]
    fn who_was_answered_by_the_controller_before_is_not_answered_again() {
        let mut lab = Lab::new();
        let status = |renewal| Some(QueryStatus { observed_renewal: Some(renewal), ..QueryStatus::default() });
        lab.schedule.observe(&FleetQuery { status: status(3), ..query("a", 1, 3) }, lab.now);
        lab.schedule.observe(&FleetQuery { status: status(3), ..query("a", 2, 4) }, lab.now);
        assert_eq!(lab.work(10), ["answer q2"]);
        lab.pass(60.0);
        assert_eq!(lab.steps(), ["delete q1", "delete q2"]);
    }

    #[test]
    fn what_the_watch_does_not_show_again_is_gone() {
        let mut lab = Lab::new();
        lab.show(1, 0);
        lab.show(2, 0);
        lab.work(10);
        lab.schedule.relist();
        lab.show(2, 0);
        lab.schedule.listed(lab.now);
        lab.pass(60.0);
        assert_eq!(lab.steps(), ["delete q2"]);
    }

    #[test]
    fn a_query_under_a_name_that_was_used_before_is_another_one() {
        let mut lab = Lab::new();
        lab.show(1, 0);
        lab.work(10);
        let mut other = query("a", 2, 0);
        other.metadata.name = Some("q1".into());
        lab.schedule.observe(&other, lab.now);
        let steps = lab.take(ROOM);
        let [Step::Answer(key, _)] = steps.as_slice() else { panic!("{steps:?}") };
        assert_eq!(key.uid, "uid-2");
    }

    #[test]
    fn the_one_that_is_due_for_longest_is_answered_first() {
        let mut lab = Lab::new();
        lab.schedule.observe(&query("b", 9, 0), lab.now);
        lab.schedule.steps(lab.now, 0);
        lab.pass(0.1);
        (1..=3).for_each(|number| lab.show(number, 0));
        let first: Vec<String> = lab.take(1).iter().map(title).collect();
        assert_eq!(first, ["answer q9"]);
    }

    #[test]
    fn with_nothing_to_do_nothing_is_kept() {
        let mut lab = Lab::new();
        lab.show(1, 0);
        lab.work(10);
        lab.gone(1);
        assert!(lab.schedule.next().is_some(), "the place rests");
        lab.pass(1.0);
        assert!(lab.steps().is_empty() && lab.schedule.next().is_none() && lab.schedule.namespaces.is_empty());
    }
}
