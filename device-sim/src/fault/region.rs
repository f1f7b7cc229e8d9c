//! Where a fault is: a condition on the signals of a device at the instant when the fault begins.

use fleet_contract::time::Micros;

use crate::{
    index::{DeviceIndex, GroupIndex},
    model::{Model, Scratch},
    signal::Condition,
};

/// A condition on the signals of the devices of each group.
#[derive(Debug)]
pub(crate) struct Region {
    /// By group; `None` where its model lacks a signal, so that none of its devices meets it.
    conditions: Box<[Option<Condition>]>,
    /// The start of the run.
    start: Micros,
    /// When the fault begins.
    at: Micros,
}

impl Region {
    /// The region that an expression says, at an instant of a run that has begun at `start`; with the models of all groups.
    pub(crate) fn new<'a>(text: &str, models: impl Iterator<Item = &'a Model>, start: Micros, at: Micros) -> Self {
        Self { conditions: models.map(|model| model.condition(text)).collect(), start, at }
    }

    /// Whether device `index` is in it, of this group, which has this model.
    pub(crate) fn has(&self, index: DeviceIndex, group: GroupIndex, model: &Model, scratch: &mut Scratch) -> bool {
        let condition = self.conditions[group.place()].as_ref();
        condition.is_some_and(|condition| model.meets(condition, index, self.start, self.at, scratch))
    }
}
