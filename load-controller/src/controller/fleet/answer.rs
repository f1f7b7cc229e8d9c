//! What is answered about a fleet: its report, its pods, and where a device is.

use fleet_contract::plan::Shard;

use super::Task;
use crate::{api::Address, report::Report, resource::fleet_query::PodReport, run::workers::Member};

impl Task {
    pub(super) fn report(&mut self) -> Option<Report> {
        let now = self.now();
        self.begin_run();
        let (run, plan, met) = (self.run.as_mut()?, self.plan.as_ref()?, self.met.as_ref()?);
        run.see(now, plan, &met.workers);
        Some(Report::of(run, plan, &met.workers))
    }

    pub(super) fn pods(&self) -> Vec<PodReport> {
        let (Some(workers), Some(document)) = (self.workers(), &self.wish.document) else { return Vec::new() };
        let per_pod = document.fleet.spec.devices_per_pod;
        let wanted = self.plan.as_ref().map_or(0, |plan| plan.devices(self.now()));
        workers.members().map(|member| pod_report(member, per_pod, wanted)).collect()
    }

    pub(super) fn address_of(&self, index: u32) -> Option<Address> {
        let per_pod = self.wish.document.as_ref()?.fleet.spec.devices_per_pod.max(1);
        self.workers()?.member(index / per_pod)?.worker.address.clone()
    }
}

fn pod_report(member: &Member, per_pod: u32, wanted: u32) -> PodReport {
    let shard = Shard::of(member.worker.ordinal, per_pod);
    let answers = member.answers();
    PodReport {
        pod: member.worker.name.clone(),
        ordinal: member.worker.ordinal,
        first: shard.first,
        desired: shard.share_of(wanted),
        connected: if answers { member.devices.connected } else { 0 },
        messages_per_second: if answers { member.messages_per_second } else { 0.0 },
        cpu_cores: if answers { member.cpu_cores } else { 0.0 },
        memory_bytes: member.memory_bytes,
        plan_version: member.plan_version,
        epoch: member.epoch(),
        answers,
        node: member.worker.node.clone(),
    }
}
