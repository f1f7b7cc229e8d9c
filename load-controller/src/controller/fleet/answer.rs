//! What is answered about a fleet: its report, its pods, and where a device is.

use fleet_contract::{
    fleet::{BrokerSpec, FleetSpec},
    plan::{Plan, Shard},
    time::Micros,
    units::Span,
};
use serde::{Deserialize, Serialize};

use super::{Task, now};
use crate::{
    controller::document::Document,
    facts::{Host, RunFacts},
    phase::Phase,
    report::Report,
    timeline::Timeline,
    workers::{Address, Member},
};

/// A pod as `simctl top` shows it.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodReport {
    /// Its name.
    pub pod: String,
    /// Its shard.
    pub ordinal: u32,
    /// The first device of its shard.
    pub first: u32,
    /// Devices that it should have connected.
    pub desired: u32,
    /// Devices that it has connected.
    pub connected: u32,
    /// Messages sent a second.
    pub messages_per_second: f64,
    /// Processors in use.
    pub cpu_cores: f64,
    /// Resident memory, in bytes.
    pub memory_bytes: u64,
    /// The version of the plan that it runs; `None` before it has answered.
    pub plan_version: Option<u64>,
    /// The start of its process, in microseconds since 1970; `None` before it has answered.
    pub epoch: Option<Micros>,
    /// Whether it answers.
    pub answers: bool,
    /// Its node.
    pub node: Option<String>,
}

impl Task {
    pub(super) fn report(&self) -> Option<Report> {
        let (workers, plan, document) = (self.workers.as_ref()?, self.plan.as_ref()?, self.document.as_ref()?);
        let now = now();
        let timeline = self.timeline.clone().unwrap_or_else(|| Timeline::new(plan.start));
        let facts = facts(document, plan, timeline, workers.ended().workers_lost, now);
        Some(Report::new(&workers.sum(plan, now), &facts))
    }

    pub(super) fn pods(&self) -> Vec<PodReport> {
        let (Some(workers), Some(document)) = (&self.workers, &self.document) else { return Vec::new() };
        let per_pod = document.fleet.spec.devices_per_pod;
        let wanted = self.plan.as_ref().map_or(0, |plan| plan.devices(now()));
        workers.members().map(|member| pod_report(member, per_pod, wanted)).collect()
    }

    pub(super) fn address_of(&self, index: u32) -> Option<Address> {
        let per_pod = self.document.as_ref()?.fleet.spec.devices_per_pod.max(1);
        self.workers.as_ref()?.member(index / per_pod)?.address.clone()
    }
}

fn pod_report(member: &Member, per_pod: u32, wanted: u32) -> PodReport {
    let shard = Shard::of(member.pod.ordinal, per_pod);
    let answers = member.answers();
    PodReport {
        pod: member.pod.name.clone(),
        ordinal: member.pod.ordinal,
        first: shard.first,
        desired: shard.share_of(wanted),
        connected: if answers { member.devices.connected } else { 0 },
        messages_per_second: if answers { member.messages_per_second } else { 0.0 },
        cpu_cores: if answers { member.cpu_cores } else { 0.0 },
        memory_bytes: member.memory_bytes,
        plan_version: member.plan_version,
        epoch: member.epoch(),
        answers,
        node: member.pod.node.clone(),
    }
}

fn facts(document: &Document, plan: &Plan, timeline: Timeline, workers_lost: u32, now: Micros) -> RunFacts {
    let fleet = &document.fleet;
    RunFacts {
        document_hash: document.hash.clone(),
        run: plan.run,
        phase: Phase::under(plan, now),
        started: plan.start,
        now,
        duration: None,
        broker: fleet.spec.broker.as_ref().map(BrokerSpec::names).unwrap_or_default(),
        embedded_broker: document.has_own_broker,
        engine: "native".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        command: Vec::new(),
        host: Host { os: "kubernetes".into(), ..Host::default() },
        open_files_limit: 0,
        observe: fleet.spec.observe,
        shortest_interval: shortest_interval(&fleet.spec, plan),
        // A worker observes its own devices, so that sender and observer of a message share one clock.
        clock_bound: Span::ZERO,
        fail_on: Vec::new(),
        notes: Vec::new(),
        aborted: false,
        timeline,
        workers_lost,
        fleet: fleet.clone(),
    }
}

/// The shortest interval of any periodic stream, live changes included.
fn shortest_interval(spec: &FleetSpec, plan: &Plan) -> Option<Span> {
    let intervals = spec.groups.iter().flat_map(|group| {
        let streams = spec.models.get(&group.model).into_iter().flat_map(|model| &model.streams);
        streams.filter_map(|(name, stream)| {
            let interval = group.stream(name, stream).interval?;
            Some(plan.pace(&group.name, name, interval).last())
        })
    });
    intervals.min()
}
