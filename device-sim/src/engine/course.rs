//! A plan, compiled for a fleet: what threads ask of it for each message is found by index, never by name.

use std::sync::Arc;

use fleet_contract::{
    plan::{Pace, Plan, Population},
    time::Micros,
};

use super::phases::Phases;
use crate::{
    blueprint::{Blueprint, Group},
    fault::Aimed,
    index::{GroupIndex, StreamIndex},
};

/// A version of the plan, as the threads of a worker follow it.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) plan: Arc<Plan>,
    pub(super) population: Population,
    /// By group and stream.
    paces: Box<[Box<[Pace]>]>,
    /// From when on it is paused, and from when it goes on.
    pauses: Box<[(Micros, bool)]>,
    faults: Box<[Arc<Aimed>]>,
    pub(super) phases: Phases,
}

impl Course {
    /// The course of a fleet under a plan.
    pub(super) fn new(plan: Arc<Plan>, blueprint: &Blueprint) -> Self {
        let pace = |group: &Group| {
            let streams = group.model.streams().iter();
            let paces = streams.map(|stream| match stream.interval() {
                Some(interval) => plan.pace(&group.name, stream.name(), interval),
                None => Pace::steady(plan.start, stream.tick()),
            });
            paces.collect()
        };
        Self {
            population: plan.population(blueprint.connect.rate),
            paces: blueprint.groups.iter().map(pace).collect(),
            pauses: plan.pauses().collect(),
            faults: plan.strikes().map(|strike| Arc::new(blueprint.aim(strike))).collect(),
            phases: plan.phases().collect(),
            plan,
        }
    }

    /// How fast a stream of a group goes.
    pub(super) fn pace(&self, group: GroupIndex, stream: StreamIndex) -> &Pace {
        &self.paces[group.place()][stream.place()]
    }

    /// The paces of all streams.
    pub(super) fn paces(&self) -> impl Iterator<Item = &Pace> {
        self.paces.iter().flatten()
    }

    /// Whether no stream goes otherwise than under `other`.
    pub(super) fn has_paces_of(&self, other: &Self) -> bool {
        self.paces == other.paces
    }

    /// Whether the devices hold back what is due at `due`.
    pub(super) fn is_paused(&self, due: Micros) -> bool {
        let earlier = self.pauses.partition_point(|(at, _)| *at <= due);
        earlier.checked_sub(1).is_some_and(|last| self.pauses[last].1)
    }

    /// What goes wrong, the earliest first.
    pub(super) fn faults(&self) -> &[Arc<Aimed>] {
        &self.faults
    }
}
