//! Writing what was decided: in the order that growth and shrinkage need, and around what the API server refuses.

use fleet_contract::plan::Plan;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use tokio::time::Instant;

use super::Task;
use crate::{
    controller::{
        Error,
        object::{Key, Object},
        observe::Observed,
        plan::Steps,
        status::Decided,
    },
    resource::{Fleet, Owner, names},
};

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
        self.forget_refusals(owner, observed, &steps);
        if observed.token.is_none() {
            self.write_token(owner).await?;
        }
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
        for pod in &steps.forces {
            self.context.writer.force(owner, pod).await?;
        }
        for deletion in &steps.deletions {
            self.context.writer.delete(owner, deletion).await?;
        }
        self.decided = Some(Decided {
            generation: fleet.metadata.generation,
            replicas: steps.replicas,
            revision: steps.revision.number,
            size: steps.size,
            broker_devices_max: steps.broker_devices_max,
        });
        self.told.retain(|known| steps.notes.contains(known));
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

    async fn write_token(&mut self, owner: &Owner) -> Result<(), Error> {
        let key = Key::of::<Secret>(names::token(&owner.name));
        if !self.refusals.is_due(&key, 0, Instant::now()) {
            return Ok(());
        }
        let written = self.context.writer.token(owner, self.token.clone()).await;
        if let Some(token) = self.unless_refused(&key, 0, written)? {
            self.token = Some(token);
        }
        Ok(())
    }

    async fn write_plan(&mut self, owner: &Owner, plan: &Plan) -> Result<(), Error> {
        let key = Key::of::<ConfigMap>(names::plan(&owner.name));
        if !self.refusals.is_due(&key, plan.version, Instant::now()) {
            return Ok(());
        }
        let written = self.context.writer.plan(owner, plan, self.plan_object.clone()).await;
        if let Some(version) = self.unless_refused(&key, plan.version, written)? {
            self.plan_object = version;
            self.plan = Some(plan.clone());
            self.next_pull = Instant::now();
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
    fn forget_refusals(&mut self, owner: &Owner, observed: &Observed, steps: &Steps) {
        let mut wanted: Vec<Key> =
            steps.objects.iter().chain(&steps.stateful_set).map(|object| object.key().clone()).collect();
        wanted.push(Key::of::<ConfigMap>(names::totals(&owner.name)));
        wanted.extend(steps.is_new_plan.then(|| Key::of::<ConfigMap>(names::plan(&owner.name))));
        wanted.extend(observed.token.is_none().then(|| Key::of::<Secret>(names::token(&owner.name))));
        self.refusals.retain(|key| wanted.contains(key));
    }
}
