//! Writing what was decided: in the order that growth and shrinkage need, and around what the API server refuses.

use std::time::Duration;

use fleet_contract::plan::Plan;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use tokio::time::Instant;

use super::{Met, Task};
use crate::{
    controller::{
        Error,
        object::{Key, Object},
        observe::Observed,
        plan::{self, Steps, Turn},
        status::Decided,
    },
    resource::{Fleet, Owner, names, secret},
};

/// How often the Secret of a fleet is created again, in case that somebody has deleted it.
pub(super) const SECRET_AGE: Duration = Duration::from_mins(1);

/// How long Kubernetes may take to delete the Secret of an earlier fleet of the same name.
const LEAVING: Duration = Duration::from_secs(5);

impl Task {
    /// Applies the steps. Plan before pods: who grows finds its numbers, who shrinks lets its devices leave in order.
    ///
    /// The StatefulSet of the workers needs all other objects. So it comes last, and waits while one is refused.
    pub(super) async fn apply(
        &mut self,
        fleet: &Fleet,
        owner: &Owner,
        observed: &Observed,
        steps: Steps,
    ) -> Result<(), Error> {
        self.forget_refusals(owner, &steps);
        self.write_secret(owner).await?;
        self.find_former_token(owner, observed).await?;
        for object in &steps.objects {
            self.write(owner, object).await?;
        }
        if steps.is_new_plan {
            self.write_plan(owner, &steps.plan).await?;
        }
        // Those that already run need not wait for the pods.
        self.push();
        if let Some(workers) = &steps.stateful_set
            && self.refusals.are_none_but(workers.key())
        {
            self.write(owner, workers).await?;
        }
        if let Some(met) = &self.met {
            self.calls.make(steps.drains.iter().filter_map(|pod| met.workers.to_drain(pod.ordinal)));
        }
        for pod in &steps.forces {
            self.context.writer.force(owner, pod).await?;
        }
        for deletion in &steps.deletions {
            self.context.writer.delete(owner, deletion).await?;
        }
        self.wish.decided = Some(Decided {
            generation: self.wish.generation().or(fleet.metadata.generation),
            replicas: steps.replicas,
            revision: steps.revision.number,
            size: steps.size,
            broker_devices_max: steps.broker_devices_max,
            waits_for_turn: steps.turn == Turn::Waits && !self.is_tested(),
            is_tested: self.is_tested(),
        });
        self.told.standing.retain(|known| steps.notes.contains(known));
        self.tell(fleet, steps.notes).await;
        Ok(())
    }

    /// Writes an object, unless it was refused lately.
    async fn write(&mut self, owner: &Owner, object: &Object) -> Result<(), Error> {
        let wish = object.wish();
        if !self.refusals.is_due(object.key(), wish, Instant::now()) {
            return Ok(());
        }
        let written = self.context.writer.object(owner, object).await;
        self.unless_refused(object.key(), wish, written).map(drop)
    }

    /// Writes the Secret when the fleet is met, and from then on creates it again if somebody has deleted it. It is not
    /// watched, so that is tried now and then.
    async fn write_secret(&mut self, owner: &Owner) -> Result<(), Error> {
        let (key, now) = (Key::of::<Secret>(names::secrets(&owner.name)), Instant::now());
        let is_recent = self.kept.secret_at.is_some_and(|at| now.duration_since(at) < SECRET_AGE);
        if is_recent || !self.refusals.is_due(&key, 0, now) {
            return Ok(());
        }
        let wanted = secret::build(owner, &self.context.key);
        let written = match self.kept.secret_at {
            None => self.context.writer.secret(owner, &wanted).await,
            Some(_) => self.context.writer.create_secret(owner, &wanted).await.map(drop),
        };
        let written = match written {
            // That of an earlier fleet of this name may be about to go.
            Err(Error::Refused(_)) if self.met.as_ref().is_some_and(|met| met.at.elapsed() < LEAVING) => {
                Err(Error::Conflict { object: key.to_string() })
            }
            written => written,
        };
        if self.unless_refused(&key, 0, written)?.is_some() {
            self.kept.secret_at = Some(now);
        }
        Ok(())
    }

    /// Looks up the token that workers of an earlier release know, while there are any.
    async fn find_former_token(&mut self, owner: &Owner, observed: &Observed) -> Result<(), Error> {
        let is_known = self.met.as_ref().is_none_or(|met| met.tokens.former.is_some());
        if is_known || plan::old_workers(observed) == 0 {
            return Ok(());
        }
        let former = self.context.writer.former_token(owner).await?;
        if let Some(Met { tokens, .. }) = &mut self.met {
            // Without one the workers refuse any token.
            tokens.former = Some(former.unwrap_or_else(|| tokens.current.clone()));
        }
        self.meet_workers(observed);
        Ok(())
    }

    pub(super) async fn write_plan(&mut self, owner: &Owner, plan: &Plan) -> Result<(), Error> {
        let key = Key::of::<ConfigMap>(names::plan(&owner.name));
        if !self.refusals.is_due(&key, plan.version, Instant::now()) {
            return Ok(());
        }
        let written = self.context.writer.plan(owner, plan, self.kept.plan.clone()).await;
        if let Some(version) = self.unless_refused(&key, plan.version, written)? {
            self.kept.plan = version;
            self.plan = Some(plan.clone());
            self.pace.next_pull = Instant::now();
        }
        Ok(())
    }

    /// Notes a refusal, which is no failure; `None` is what was refused.
    pub(super) fn unless_refused<T>(
        &mut self,
        key: &Key,
        wish: u64,
        written: Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        match written {
            Ok(value) => {
                self.refusals.remove(key);
                Ok(Some(value))
            }
            Err(error @ Error::Refused(_)) => {
                self.count_failure(&error);
                let Error::Refused(refusal) = error else { return Ok(None) };
                tracing::warn!(fleet = %self.key, reason = %refusal.reason, refusal.message, "a write is refused");
                self.refusals.add(key, wish, refusal, Instant::now());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Forgets what was refused and is not to be written any more. The totals are written apart.
    fn forget_refusals(&mut self, owner: &Owner, steps: &Steps) {
        let mut wanted: Vec<Key> =
            steps.objects.iter().chain(&steps.stateful_set).map(|object| object.key().clone()).collect();
        wanted.push(Key::of::<ConfigMap>(names::totals(&owner.name)));
        wanted.extend(steps.is_new_plan.then(|| Key::of::<ConfigMap>(names::plan(&owner.name))));
        wanted.push(Key::of::<Secret>(names::secrets(&owner.name)));
        self.refusals.retain(|key| wanted.contains(key));
    }
}
