//! What is kept of a fleet's totals, as the objects that hold it. Packing them takes a tenth of a second where there are hundreds
//! of streams, and is then done on a thread of its own.

use fleet_contract::{
    load_test::Criterion,
    stats::{Ended, PhaseStats},
};
use k8s_openapi::api::core::v1::ConfigMap;

use super::Kept;
use crate::resource::{Owner, config_map};

/// Series that are packed at once: a hundredth of a second of work. More would make whatever else is to be done wait.
const SERIES_AT_ONCE: usize = 40;

/// Totals, and the objects that hold them; the objects name no version yet that they succeed.
pub(super) struct Books {
    pub(super) ended: Ended,
    pub(super) totals: ConfigMap,
    /// The phases that are over and that nothing holds yet.
    pub(super) phases: Vec<(u32, PhaseStats, ConfigMap)>,
}

impl Books {
    /// Those of totals, and of the phases of them that are to be kept apart now. Streams that `thresholds` name keep times of their
    /// own.
    pub(super) fn of(owner: &Owner, ended: Ended, phases: &[u32], thresholds: &[Criterion]) -> Self {
        let of_phase = |number: &u32| {
            let stats = ended.stats.phases.get(number)?.clone();
            let object = config_map::phase(owner, *number, &stats, thresholds, None);
            Some((*number, stats, object))
        };
        let phases = phases.iter().filter_map(of_phase).collect();
        Self { totals: config_map::totals(owner, &ended, thresholds, None), phases, ended }
    }

    /// Whether they are still what is to be kept.
    pub(super) fn are_of(&self, ended: &Ended, phases: &[u32]) -> bool {
        self.phases.iter().map(|(number, ..)| number).eq(phases) && self.ended == *ended
    }
}

impl Kept {
    /// The phases of totals that are over and are not kept as they are.
    pub(super) fn lacks(&self, ended: &Ended) -> Vec<u32> {
        let is_kept = |number: &u32, stats: &PhaseStats| self.phases.get(number).is_some_and(|it| it.stats == *stats);
        let over = ended.stats.phases.range(..ended.phases_kept);
        over.filter(|&(number, stats)| !is_kept(number, stats)).map(|(number, _)| *number).collect()
    }
}

/// Whether it takes long to pack these totals, with those of their phases that are to be kept apart now.
pub(super) fn are_many(ended: &Ended, phases: &[u32]) -> bool {
    let is_packed = |number: &u32| *number >= ended.phases_kept || phases.contains(number);
    let of_phases = ended.stats.phases.iter().filter(|&(number, _)| is_packed(number)).map(|(_, phase)| &phase.groups);
    let series = of_phases.chain([&ended.stats.groups]).map(|groups| groups.streams().count());
    series.sum::<usize>() > SERIES_AT_ONCE
}

/// The object, as the successor of the version that was read or written last.
pub(super) fn succeeding(object: &ConfigMap, version: Option<String>) -> ConfigMap {
    let mut object = object.clone();
    object.metadata.resource_version = version;
    object
}
