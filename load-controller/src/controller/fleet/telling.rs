//! What people are told of a fleet: its status, written when it differs.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Task, now};
use crate::{
    controller::{
        Error,
        observe::Observed,
        status::{self, View},
    },
    resource::{Fleet, FleetStatus, Owner},
    workers::Workers,
};

/// How long who has just met a fleet listens before the status is written.
const HEARING: Duration = Duration::from_secs(5);
/// Status is written no more often than this.
const STATUS_PAUSE: Duration = Duration::from_secs(1);
/// How often it is asked why pods are missing.
const QUOTA_PAUSE: Duration = Duration::from_secs(5);

impl Task {
    /// Writes the status if it differs; figures alone at most once a second.
    pub(super) async fn write_status(&mut self) -> Result<(), Error> {
        if !self.status_is_due {
            return Ok(());
        }
        let Some(fleet) = self.stores.fleets.get(&self.key) else { return Ok(()) };
        let Some(owner) = self.owner.clone() else { return Ok(()) };
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
        let is_heard = self.workers.as_ref().is_some_and(Workers::are_all_heard);
        if !is_heard && self.met_at.elapsed() < HEARING {
            // Who has just taken over would tell that nobody is connected.
            return Ok(());
        }
        self.ask_for_quota(owner, observed).await;
        let Some((known, status)) = self.status_now(fleet, observed) else { return Ok(()) };
        if known == status {
            self.status_is_due = false;
            self.status = Some(status);
            return Ok(());
        }
        let is_recent = self.status_at.is_some_and(|at| at.elapsed() < STATUS_PAUSE);
        if is_recent && status::differs_in_figures_only(&known, &status) {
            return Ok(());
        }
        self.context.writer.status(owner, &status).await?;
        let notes = status::notes(&known, &status);
        self.status = Some(status);
        self.status_at = Some(Instant::now());
        self.status_is_due = false;
        self.tell(fleet, notes).await;
        Ok(())
    }

    /// The status that is known, and that of now; and shows the figures as metrics.
    pub(super) fn status_now(&self, fleet: &Arc<Fleet>, observed: &Observed) -> Option<(FleetStatus, FleetStatus)> {
        let workers = self.workers.as_ref()?;
        // What we wrote last is newer than what the watch may show.
        let known = self.status.clone().or_else(|| fleet.status.clone()).unwrap_or_default();
        let view = View {
            fleet,
            seen: self.seen(),
            previous: &known,
            document: self.document.as_ref(),
            problems: self.problems(),
            observed,
            decided: self.decided.as_ref(),
            plan: self.plan.as_ref(),
            workers,
            quota: self.quota.as_ref().and_then(|(_, message)| message.as_deref()),
            now: now(),
        };
        let namespace = self.key.namespace.as_deref().unwrap_or_default();
        self.context.metrics.show(namespace, &self.key.name, status::figures(&view));
        let status = status::status(&view);
        Some((known, status))
    }

    /// Why the StatefulSet has too few pods stands only in its events.
    pub(super) async fn ask_for_quota(&mut self, owner: &Owner, observed: &Observed) {
        let wanted = self.decided.map_or(0, |decided| decided.replicas as usize);
        if observed.pods.len() >= wanted {
            self.quota = None;
            return;
        }
        if self.quota.as_ref().is_some_and(|(at, _)| at.elapsed() < QUOTA_PAUSE) {
            return;
        }
        // Pods that were asked for a moment ago are not missing yet.
        let is_first = self.quota.is_none();
        let message = if is_first { None } else { self.refusal_of_pods(owner).await };
        self.quota = Some((Instant::now(), message));
    }

    pub(super) async fn refusal_of_pods(&self, owner: &Owner) -> Option<String> {
        let events = self.context.writer.refused_creations(owner).await.ok()?;
        let newest = events.into_iter().max_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0))?;
        newest.message.filter(|message| message.contains("quota"))
    }
}
