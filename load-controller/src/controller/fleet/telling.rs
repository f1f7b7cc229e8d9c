//! What people are told of a fleet: its status, written when it differs.

use std::{sync::Arc, time::Duration};

use kube::Resource as _;
use tokio::time::Instant;

use super::Task;
use crate::{
    controller::{
        Error,
        conditions::{self, READY, Word},
        note::Note,
        observe::Observed,
        reason::Reason,
        refusal::Refusal,
        shortage::Shortage,
        status::{self, View},
    },
    resource::{Fleet, FleetStatus, Owner},
    run::workers::{Member, Workers},
};

/// How long who has just met a fleet listens before the status is written.
pub(super) const HEARING: Duration = Duration::from_secs(5);
/// Status is written no more often than this.
const STATUS_PAUSE: Duration = Duration::from_secs(1);

impl Task {
    /// Writes the status if it differs; figures alone at most once a second. That of a stalled fleet is left to the next look.
    pub(super) async fn write_status(&mut self) -> Result<(), Error> {
        if !self.told.is_due || self.told.is_stalled {
            return Ok(());
        }
        let Some(fleet) = self.stores.fleets.get(&self.key) else { return Ok(()) };
        let Some(owner) = self.met.as_ref().map(|met| met.owner.clone()) else { return Ok(()) };
        if fleet.metadata.uid.as_deref() != Some(&owner.uid) {
            return Ok(());
        }
        let observed = self.look(&owner);
        self.write_status_of(&fleet, &owner, &observed).await
    }

    /// The same, of what has just been looked at.
    pub(super) async fn write_status_of(
        &mut self,
        fleet: &Arc<Fleet>,
        owner: &Owner,
        observed: &Observed,
    ) -> Result<(), Error> {
        let is_heard = self.workers().is_some_and(Workers::are_all_heard);
        if !is_heard && self.met.as_ref().is_some_and(|met| met.at.elapsed() < HEARING) {
            // Who has just taken over would tell that nobody is connected.
            return Ok(());
        }
        self.ask_for_causes(owner, observed).await;
        let Some((known, status, words)) = self.status_now(fleet, observed) else { return Ok(()) };
        if known == status {
            self.told.is_due = false;
            self.told.status = Some(status);
            return Ok(());
        }
        let is_recent = self.told.status_at.is_some_and(|at| at.elapsed() < STATUS_PAUSE);
        if is_recent && status::differs_in_figures_only(&known, &status) {
            return Ok(());
        }
        self.context.writer.status(owner, &status).await?;
        let notes = status::notes(&known.conditions, &words);
        self.told.status = Some(status);
        self.told.status_at = Some(Instant::now());
        self.told.is_due = false;
        self.tell(fleet, notes).await;
        Ok(())
    }

    /// The status that is known, and that of now with its conditions; and shows the figures as metrics.
    fn status_now(&mut self, fleet: &Arc<Fleet>, observed: &Observed) -> Option<(FleetStatus, FleetStatus, [Word; 6])> {
        self.note_shortage(fleet);
        let refusals: Vec<Refusal> =
            self.refusals.list().into_iter().chain(self.causes.refused.iter().cloned()).collect();
        let refusals: Vec<Refusal> = self.limited.refusal().into_iter().cloned().chain(refusals).collect();
        let workers = self.workers()?;
        let is_unreadable = |member: &&Member| member.is_unreadable && !member.worker.is_ending;
        let unreadable = workers
            .members()
            .find(is_unreadable)
            .map(|member| Refusal::unreadable_worker(&member.worker.name, member.error.as_deref().unwrap_or_default()));
        let refusals: Vec<Refusal> = unreadable.into_iter().chain(refusals).collect();
        // What we wrote last is newer than what the watch may show.
        let known = self.told.status.clone().or_else(|| fleet.status.clone()).unwrap_or_default();
        let view = View {
            fleet,
            seen: self.seen(),
            previous: &known,
            document: self.wish.document.as_ref(),
            problems: self.problems(),
            observed,
            decided: self.wish.decided.as_ref(),
            plan: self.plan.as_ref(),
            workers,
            refusals: &refusals,
            worker_cause: self.causes.worker.as_ref(),
            broker_cause: self.causes.broker.as_ref(),
            shortage: self.shortage,
            wanted: self.devices_wanted(),
            now: self.now(),
        };
        let namespace = self.key.namespace.as_deref().unwrap_or_default();
        self.context.metrics.show(namespace, &self.key.name, status::figures(&view));
        let (status, words) = status::status(&view);
        Some((known, status, words))
    }

    /// Takes note of how many devices are missing now.
    fn note_shortage(&mut self, fleet: &Fleet) {
        let wanted = self.devices_wanted();
        let (Some(met), Some(_)) = (&self.met, &self.plan) else { return };
        let was_ready = || fleet.status.as_ref().is_some_and(|status| conditions::holds(&status.conditions, READY));
        if self.shortage == Shortage::default() && was_ready() {
            self.shortage = Shortage::of_ready_fleet(wanted);
        }
        self.shortage = self.shortage.seen(met.workers.devices().connected, wanted, self.now());
    }

    /// Tells what is new; a warning that each look brings again is told once.
    pub(super) async fn tell(&mut self, fleet: &Fleet, notes: Vec<Note>) {
        let about = fleet.object_ref(&());
        for note in notes {
            let is_standing = matches!(note.reason, Reason::UnfitAutoscaler | Reason::PodForced);
            if is_standing && self.told.standing.contains(&note) {
                continue;
            }
            self.told.events.tell(&self.context.writer, &about, &note).await;
            if is_standing {
                self.told.standing.push(note);
            }
        }
    }
}
