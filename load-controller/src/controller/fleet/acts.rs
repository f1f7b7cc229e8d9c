//! What a load test does to pods and brokers, beside what its devices do.
//!
//! What is to be done is kept before it is done: a controller that takes over does the same, to the same pods and by the same
//! Job, and what was done already stays as it is.

use fleet_contract::{
    fault::{Fault, Hook, Pods},
    time::Micros,
};

use super::{
    Task,
    load_test::{At, Trial},
};
use crate::{
    controller::{
        Error,
        observe::{Observed, WorkerPod, observe},
    },
    resource::{Owner, job, names},
    run::act::{Outcome, Target, drawn},
};

impl Task {
    /// Begins the acts that are due, and looks after those that go on.
    pub(super) async fn act(&mut self, now: Micros) -> Result<(), Error> {
        if self.begin_acts(now) {
            self.keep_test(true).await?;
        }
        for (number, fault, pods) in self.acts_under_way() {
            let outcome = match &fault {
                Fault::KillPods(_) => {
                    let (ended, outcome) = self.kill(&pods).await;
                    if let Some(Trial { at: At::Going { run, .. }, .. }) = &mut self.wish.trial {
                        run.act_has_ended(number, ended);
                    }
                    Some(outcome?)
                }
                Fault::Hook(hook) => self.run_hook(number, hook).await?,
                _ => None,
            };
            if let (Some(outcome), Some(Trial { at: At::Going { run, .. }, .. })) = (outcome, &mut self.wish.trial) {
                tracing::info!(fleet = %self.key, fault = fault.name(), ?outcome, "an act of the load test has ended");
                run.act_ended(number, outcome);
            }
        }
        Ok(())
    }

    /// Notes the acts that are due as begun; whether there are any.
    fn begin_acts(&mut self, now: Micros) -> bool {
        let Some(Trial { at: At::Going { run, .. }, .. }) = &mut self.wish.trial else { return false };
        let due = run.acts_due(now);
        let seed = run.facts().fleet.spec.seed;
        for (number, fault) in &due {
            let Fault::KillPods(kill) = fault else {
                run.act_begins(*number, Vec::new());
                continue;
            };
            let there = self.met.as_ref().map(|met| pods(&observe(&self.stores, &met.owner), kill.pods));
            let targets = drawn(there.unwrap_or_default(), kill.share, seed, *number, |pod| &pod.name);
            let is_any = !targets.is_empty();
            run.act_begins(*number, targets);
            if !is_any {
                run.act_ended(*number, Outcome::Failed("there was no such pod".into()));
            }
        }
        !due.is_empty()
    }

    fn acts_under_way(&self) -> Vec<(u32, Fault, Vec<Target>)> {
        let run = self.wish.trial.as_ref().and_then(Trial::run);
        let under_way = run.into_iter().flat_map(|run| {
            let acts = run.facts().acts.under_way();
            acts.filter_map(|(number, act)| Some((number, run.fault(number)?.clone(), act.pods.clone())))
        });
        under_way.collect()
    }

    /// Ends pods: the names of those that are, and what came of it.
    async fn kill(&self, pods: &[Target]) -> (Vec<String>, Result<Outcome, Error>) {
        let (mut ended, mut refused) = (Vec::new(), None);
        let Some(owner) = self.met.as_ref().map(|met| &met.owner) else {
            return (ended, Ok(Outcome::Failed("its fleet was deleted".into())));
        };
        for pod in pods {
            match self.context.writer.kill(owner, pod).await {
                Ok(()) => ended.push(pod.name.clone()),
                // Another attempt would be refused, too, or find the pod gone for another reason.
                Err(Error::Refused(refusal)) => {
                    refused.get_or_insert(refusal.message);
                }
                Err(error) => return (ended, Err(error)),
            }
        }
        let done = Outcome::Done(ended.len() as u64);
        (ended, Ok(refused.map_or(done, |why| Outcome::Failed(format!("a pod could not be deleted: {why}")))))
    }

    /// Runs the Job of a hook, if it does not run yet; what came of it, once it is over.
    async fn run_hook(&self, number: u32, hook: &Hook) -> Result<Option<Outcome>, Error> {
        let Some((owner, position)) = self.hook(number) else { return Ok(None) };
        let Some(run) = self.wish.trial.as_ref().and_then(Trial::run) else { return Ok(None) };
        let wanted = job::hook(owner, &self.key.name, &run.facts().fleet.spec, position, hook);
        match self.context.writer.run_job(owner, &wanted).await {
            Ok(job) => Ok(job::outcome(&job).map(|ended| match ended {
                Ok(()) => Outcome::Done(1),
                Err(why) => Outcome::Failed(why),
            })),
            // Another attempt would be refused, too.
            Err(Error::Refused(refusal)) => {
                Ok(Some(Outcome::Failed(format!("its Job was refused: {}", refusal.message))))
            }
            Err(error) => Err(error),
        }
    }

    /// The test that a hook belongs to, and the hook's place among its faults.
    fn hook(&self, number: u32) -> Option<(&Owner, u32)> {
        let trial = self.wish.trial.as_ref()?;
        let first = fleet_contract::fault::number(trial.run()?.facts().asked.phases.numbers().start, 0);
        Some((trial.owner(), number.checked_sub(first)?))
    }

    /// Ends the hooks that go on, of a test that is aborted.
    pub(super) async fn end_hooks(&self) -> Result<(), Error> {
        for (number, fault, _) in self.acts_under_way() {
            if let (Fault::Hook(_), Some((owner, position))) = (fault, self.hook(number)) {
                self.context.writer.end_job(owner, &names::hook(&owner.name, position)).await?;
            }
        }
        Ok(())
    }
}

/// The pods that an act may end: those that are not about to go by themselves.
fn pods(observed: &Observed, which: Pods) -> Vec<Target> {
    let all: Vec<&WorkerPod> = match which {
        Pods::Workers => observed.pods.iter().collect(),
        Pods::Broker => observed.broker.pod.iter().collect(),
    };
    let there = all.into_iter().filter(|pod| !pod.is_terminating);
    there.map(|pod| Target { name: pod.name.clone(), uid: pod.uid.clone() }).collect()
}
