//! Reading the workers of a fleet: when, what becomes of their answers, and how books are closed.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use tokio::time::Instant;

use super::{CADENCE_WATCHED, Task, now};
use crate::{
    controller::{Error, conditions, note::Note, object::Key},
    phase::Phase,
    resource::names,
    timeline::Timeline,
    workers::{self, CallError, Closing, Member, Workers},
};

/// How often workers are read whose devices have lost their broker: it may be away for a minute or for a day.
const CADENCE_MISSING: Duration = Duration::from_secs(5);
/// How often all others are read.
const CADENCE_IDLE: Duration = Duration::from_secs(15);

impl Task {
    /// How often the workers are to be read now.
    pub(super) fn cadence(&self) -> Duration {
        let is_watched = self.watched_until.is_some_and(|until| Instant::now() < until);
        let needs_a_look = |member: &Member| member.pod.is_terminating || member.is_doubtful();
        let needs_a_look = self.workers.iter().flat_map(Workers::members).any(needs_a_look);
        let is_progressing =
            self.status.as_ref().is_none_or(|status| conditions::holds(&status.conditions, conditions::RECONCILING));
        let is_missing = self.status.as_ref().is_some_and(|status| status.connected < status.devices);
        if is_watched || needs_a_look || is_progressing || self.shortage.is_changing() {
            CADENCE_WATCHED
        } else if is_missing {
            CADENCE_MISSING
        } else {
            CADENCE_IDLE
        }
    }

    /// Once a second: reads workers that are due, closes books, writes the status if it is due.
    ///
    /// Counts from the instant that the tick was meant for: by its own clock, each second one that comes a little
    /// sooner than the last would find that its time has not come, and leave a second out.
    pub(super) async fn tick(&mut self, at: Instant) -> std::ops::ControlFlow<()> {
        if self.stores.fleets.get(&self.key).is_none() {
            return std::ops::ControlFlow::Break(());
        }
        let cadence = self.cadence();
        self.next_pull = self.next_pull.min(at + cadence);
        if at >= self.next_pull {
            self.next_pull = at + cadence;
            if let Some(workers) = &mut self.workers {
                self.context.metrics.pulls.inc_by(workers.pull() as u64);
            }
            // A pod that nobody can ask is known by its silence alone.
            self.status_is_due = true;
        }
        self.keep_up().await;
        std::ops::ControlFlow::Continue(())
    }

    /// Closes books and writes the status; after a failure not before its time.
    pub(super) async fn keep_up(&mut self) {
        if Instant::now() < self.retry_at {
            return;
        }
        let settled = self.settle().await;
        match settled.and(self.write_status().await) {
            Ok(()) => self.failures = 0,
            Err(error) => self.retry_at = Instant::now() + self.failed(error).retry,
        }
    }

    /// Takes in an answer; with the last of a round the books are closed and the status is looked at.
    pub(super) async fn answered(&mut self, answered: workers::Answered) {
        let Some(workers) = &mut self.workers else { return };
        let is_push = answered.is_push();
        let taken = workers.answered(answered);
        let metrics = &self.context.metrics;
        match (is_push, &taken) {
            (true, _) => metrics.pushes.with_label_values(&[if taken.is_ok() { "taken" } else { "failed" }]).inc(),
            (false, Err(error)) => metrics.pull_failures.with_label_values(&[<&str>::from(error)]).inc(),
            (false, Ok(())) => {}
        }
        if let Err(error @ CallError::Refused { .. }) = &taken {
            tracing::debug!(fleet = %self.key, %error, "a worker refuses");
        }
        // Whoever has come back with an older plan gets the newest one again.
        self.push();
        if self.is_waiting() {
            return;
        }
        self.status_is_due = true;
        self.keep_up().await;
        self.note_reading();
    }

    /// Keeps the sum of the epochs that have ended, and only then closes their books.
    pub(super) async fn settle(&mut self) -> Result<(), Error> {
        let (Some(workers), Some(owner)) = (&self.workers, self.owner.clone()) else { return Ok(()) };
        let closing = workers.closing();
        let key = Key::of::<ConfigMap>(names::totals(&owner.name));
        if closing.is_none() && !self.totals_are_gone || !self.refusals.is_due(&key, 0, Instant::now()) {
            return Ok(());
        }
        let ended = closing.as_ref().map_or(workers.ended(), Closing::ended);
        let written = self.context.writer.totals(&owner, ended, self.totals_object.clone()).await;
        match self.unless_refused(&key, 0, written) {
            Ok(Some(version)) => self.totals_object = version,
            Ok(None) => return Ok(()),
            Err(error @ Error::Conflict { .. }) => {
                // Somebody else has counted: what they kept counts, and the workers are read again.
                let read = self.context.writer.read_totals(&owner).await;
                if matches!(read, Err(Error::Refused(_))) {
                    // The next look stalls the fleet.
                    self.workers = None;
                }
                let (ended, version) = read?;
                self.workers = Some(Workers::resume(self.context.workers.clone(), ended));
                self.totals_object = version;
                self.next_pull = Instant::now();
                return Err(error);
            }
            Err(error) => return Err(error),
        }
        self.totals_are_gone = false;
        let (Some(closing), Some(workers)) = (closing, &mut self.workers) else { return Ok(()) };
        let lost = closing.lost.clone();
        workers.close(closing);
        if !lost.is_empty()
            && let Some(fleet) = self.stores.fleets.get(&self.key)
        {
            self.tell(&fleet, vec![Note::lost(&lost)]).await;
        }
        Ok(())
    }

    /// Puts what has been read into the timeline.
    pub(super) fn note_reading(&mut self) {
        let (Some(workers), Some(plan)) = (&self.workers, &self.plan) else { return };
        let timeline = self.timeline.get_or_insert_with(|| Timeline::new(plan.start));
        let now = now();
        timeline.push(now, &workers.sum(plan, now), Phase::under(plan, now));
    }
}
