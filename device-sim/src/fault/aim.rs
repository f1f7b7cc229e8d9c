//! Whom a fault hits: a pure function of the seed, the fault's number and the device, whichever worker runs it.

use std::sync::Arc;

use fleet_contract::{plan::Strike, units::Share};

use super::{Conditions, Region, Victim, kind};
use crate::{
    index::{DeviceIndex, GroupIndex},
    model::Model,
    random::{Draw, Source},
};

/// The position of the draw that decides whether a device is hit; the next ones are the fault's own.
const IS_HIT: u64 = 0;

/// The position of the draw that spreads the devices that are hit.
const SPREAD: u64 = 1;

/// A fault with all that it takes to know whom it hits.
#[derive(Debug, Clone)]
pub(crate) struct Aimed {
    pub(crate) strike: Strike,
    seed: u64,
    source: Source,
    share: Share,
    group: Group,
    /// What the signals of a device have to meet, if anything.
    region: Option<Arc<Region>>,
}

/// Devices of which groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Any,
    Only(GroupIndex),
    /// There is none of that name.
    None,
}

impl Aimed {
    /// A fault of a fleet with this seed and these groups, in a region if its condition says one.
    pub(crate) fn new<'a>(
        strike: Strike,
        seed: u64,
        groups: impl Iterator<Item = &'a str>,
        region: Option<Region>,
    ) -> Self {
        let aim = strike.fault.aim();
        let group = match aim.group {
            None => Group::Any,
            Some(wanted) => {
                let place = groups.enumerate().find(|(_, name)| *name == wanted);
                place.map_or(Group::None, |(place, _)| Group::Only(GroupIndex::new(place)))
            }
        };
        let source = Source::new(seed, &format!("fault {}", strike.number));
        Self { share: aim.share, seed, source, group, region: region.map(Arc::new), strike }
    }

    /// Where it is, if that depends on the signals of devices.
    pub(crate) fn region(&self) -> Option<&Region> {
        self.region.as_deref()
    }

    /// Whether it hits device `index`, of this group, if that is in its region.
    pub(crate) fn hits(&self, index: DeviceIndex, group: GroupIndex) -> bool {
        let is_meant = match self.group {
            Group::Any => true,
            Group::Only(wanted) => wanted == group,
            Group::None => false,
        };
        is_meant && self.source.of(index).at(IS_HIT).below(10_000) < u64::from(self.share.basis_points())
    }

    /// Whether it is over as soon as it has begun.
    pub(crate) fn is_instant(&self) -> bool {
        self.strike.until <= self.strike.at
    }

    /// Whether what goes between devices and broker takes longer while it lasts.
    pub(crate) fn slows_links(&self) -> bool {
        kind(&self.strike.fault).slows_links()
    }

    /// Sets what holds for device `index`, which it hits and which has this model.
    pub(crate) fn impose(&self, index: DeviceIndex, model: &Model, conditions: &mut Conditions) {
        let draw: Draw = self.source.of(index).at(SPREAD);
        let (number, begins) = (self.strike.number, self.strike.at);
        let draws = ["up", "down"].map(|way| Source::new(self.seed, &format!("fault {number} {way}")).of(index));
        let victim = Victim { number, begins, draw, draws, model };
        kind(&self.strike.fault).impose(&victim, conditions);
    }
}

#[cfg(test)]
mod tests {
    use fleet_contract::{
        fault::{Disconnect, Fault},
        time::Micros,
    };

    use super::*;

    const CARS: GroupIndex = GroupIndex::new(0);
    const VANS: GroupIndex = GroupIndex::new(1);

    fn aimed(number: u32, share: u16, group: Option<&str>) -> Aimed {
        let share = Share::from_basis_points(share).unwrap();
        let fault = Fault::Disconnect(Disconnect { group: group.map(Into::into), ..Disconnect::of(share) });
        let strike = Strike { at: Micros(0), until: Micros(0), number, fault };
        Aimed::new(strike, 7, ["cars", "vans"].into_iter(), None)
    }

    #[test]
    fn about_the_share_is_hit_and_another_fault_hits_others() {
        let hit = |aimed: &Aimed| {
            (0..10_000).map(DeviceIndex::new).filter(|index| aimed.hits(*index, CARS)).collect::<Vec<_>>()
        };
        let (one, other) = (hit(&aimed(1, 3_000, None)), hit(&aimed(2, 3_000, None)));
        assert!((2_800..3_200).contains(&one.len()) && one != other, "{}", one.len());
        assert_eq!(hit(&aimed(1, 10_000, None)).len(), 10_000);
        assert_eq!(hit(&aimed(1, 3_000, None)), one);
    }

    #[test]
    fn a_group_is_hit_alone() {
        for (group, hits) in [(None, [true, true]), (Some("vans"), [false, true]), (Some("bikes"), [false, false])] {
            let aimed = aimed(1, 10_000, group);
            assert_eq!([CARS, VANS].map(|group| aimed.hits(DeviceIndex::new(5), group)), hits, "{group:?}");
        }
    }
}
