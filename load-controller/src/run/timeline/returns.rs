//! How many devices were back by when, of those that fell away; in bounded memory.

use fleet_contract::stats::Change;
use serde::{Deserialize, Serialize};

/// Instants with returns that are kept; when there are more, neighbours are joined.
const KEPT: usize = 8_192;

/// Devices that fell away, and how many of them were back by which instant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Returns {
    /// Devices that fell away.
    lost: u64,
    /// Of these: those that left the fleet.
    left: u64,
    /// How many were back up to which instant.
    back_by: Vec<(u64, u64)>,
}

impl Returns {
    pub(super) const fn new() -> Self {
        Self { lost: 0, left: 0, back_by: Vec::new() }
    }

    /// Takes what happened at the next instant.
    pub(super) fn take(&mut self, instant: u64, change: Change) {
        self.lost += u64::from(change.lost);
        self.left += u64::from(change.left);
        if change.back > 0 {
            self.back_by.push((instant, self.back() + u64::from(change.back)));
            if self.back_by.len() > KEPT {
                let mut place = 0;
                self.back_by.retain(|_| {
                    place += 1;
                    place % 2 == 1
                });
            }
        }
    }

    /// Devices that fell away and are wanted.
    pub(super) const fn lost(&self) -> u64 {
        self.lost.saturating_sub(self.left)
    }

    /// Of these: those that are back.
    pub(super) fn back(&self) -> u64 {
        self.back_by.last().map_or(0, |(_, back)| *back)
    }

    /// The instant at which so many hundredths of all that fell away were back.
    pub(super) fn back_at(&self, percent: u64) -> Option<u64> {
        let wanted = (self.lost() * percent).div_ceil(100);
        if wanted == 0 {
            return None;
        }
        let place = self.back_by.partition_point(|(_, back)| *back < wanted);
        self.back_by.get(place).map(|(instant, _)| *instant)
    }
}
