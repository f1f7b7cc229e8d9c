//! Which group a device belongs to: a function of its index and the groups' shares alone.

use crate::units::Share;

/// One period of the assignment of devices to groups; device i is in group `sequence[i mod sequence.len()]`.
///
/// Any prefix of the fleet is within one device of each group's share. The rule is Tijdeman's solution of the
/// chairman assignment problem (R. Tijdeman, Discrete Mathematics 32, 1980): the next device goes to that group,
/// among those that are not yet entitled to fewer, which would fall behind its share first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    sequence: Vec<u8>,
    counts: Vec<u32>,
}

/// Why shares cannot be assigned.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ShareError {
    /// The shares do not add up.
    #[error("expected shares that add up to 100%, found {found}%")]
    Sum {
        /// What they add up to, in per cent.
        found: f64,
    },
    /// More than one group has no share.
    #[error("expected at most one group without a share, found {found}")]
    Missing {
        /// How many have none.
        found: usize,
    },
    /// More groups than can be told apart.
    #[error("expected at most 255 groups, found {found}")]
    Groups {
        /// How many there are.
        found: usize,
    },
}

impl Membership {
    /// The assignment to groups with these shares; a single group without one gets what the others leave.
    pub fn new(shares: &[Option<Share>]) -> Result<Self, ShareError> {
        if shares.len() > usize::from(u8::MAX) {
            return Err(ShareError::Groups { found: shares.len() });
        }
        let missing = shares.iter().filter(|share| share.is_none()).count();
        if missing > 1 {
            return Err(ShareError::Missing { found: missing });
        }
        let given: u32 = shares.iter().flatten().copied().map(points).sum();
        let rest = 10_000_u32.saturating_sub(given);
        let weights: Vec<u32> = shares.iter().map(|share| share.map_or(rest, points)).collect();
        let total: u32 = weights.iter().sum();
        if total != 10_000 {
            return Err(ShareError::Sum { found: f64::from(total) / 100.0 });
        }
        Ok(Self::from_weights(&weights))
    }

    fn from_weights(weights: &[u32]) -> Self {
        let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
        let weights: Vec<u64> = weights.iter().map(|weight| u64::from(weight / divisor)).collect();
        let period: u64 = weights.iter().sum();
        let groups = weights.iter().filter(|weight| **weight > 0).count() as u64;
        let mut counts = vec![0_u64; weights.len()];
        let sequence = (1..=period)
            .map(|devices| {
                let next = next_group(&weights, &counts, period, devices, groups);
                counts[next] += 1;
                u8::try_from(next).expect("there are at most 255 groups")
            })
            .collect();
        let counts = weights.iter().map(|weight| u32::try_from(*weight).expect("at most 10,000")).collect();
        Self { sequence, counts }
    }

    /// The position of the group that device `index` belongs to.
    pub fn group_of(&self, index: u32) -> usize {
        usize::from(self.sequence[index as usize % self.sequence.len()])
    }

    /// How many of the devices 0 to `devices` - 1 are in `group`.
    pub fn count(&self, group: usize, devices: u32) -> u32 {
        let period = u32::try_from(self.sequence.len()).expect("at most 10,000");
        let rest = (devices % period) as usize;
        let partial = self.sequence[..rest].iter().filter(|member| usize::from(**member) == group).count();
        devices / period * self.counts[group] + u32::try_from(partial).expect("at most 10,000")
    }
}

fn points(share: Share) -> u32 {
    u32::from(share.basis_points())
}

/// Of the groups with count < weight·n/period + 1 - 1/(2k-2), the one with the earliest deadline.
///
/// All terms are multiplied by `period` · (2k-2) to stay in whole numbers.
fn next_group(weights: &[u64], counts: &[u64], period: u64, devices: u64, groups: u64) -> usize {
    let scale = (2 * groups).saturating_sub(2).max(1);
    let slack = if groups > 1 { scale - 1 } else { scale };
    let eligible =
        |group: &usize| weights[*group] * devices * scale + slack * period >= (counts[*group] + 1) * period * scale;
    let deadline = |group: usize| {
        // The n at which count + slack = weight·n/period, as a fraction over weight.
        let numerator = (counts[group] * scale + slack) * period;
        (numerator, weights[group] * scale)
    };
    (0..weights.len())
        .filter(|group| weights[*group] > 0)
        .filter(eligible)
        .min_by(|a, b| {
            let (a, b) = (deadline(*a), deadline(*b));
            (u128::from(a.0) * u128::from(b.1)).cmp(&(u128::from(b.0) * u128::from(a.1)))
        })
        .expect("some group is always behind its share")
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_single_group_has_every_device() {
        let membership = Membership::from_weights(&[10_000]);
        assert_eq!(membership.group_of(12_345), 0);
        assert_eq!(membership.count(0, 12_345), 12_345);
    }

    #[test]
    fn nine_in_ten_are_taxis() {
        let membership = Membership::from_weights(&[9_000, 1_000]);
        assert_eq!(membership.count(0, 500), 450);
        assert_eq!(membership.count(1, 500), 50);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn every_prefix_is_within_one_device_of_each_share(
            weights in prop::collection::vec(0_u32..150, 1..7).prop_filter("not all zero", |w| w.iter().sum::<u32>() > 0)
        ) {
            let membership = Membership::from_weights(&weights);
            let total = f64::from(weights.iter().sum::<u32>());
            for devices in 0..u32::try_from(membership.sequence.len() * 2).unwrap() {
                for (group, weight) in weights.iter().enumerate() {
                    let fair = f64::from(devices) * f64::from(*weight) / total;
                    let count = f64::from(membership.count(group, devices));
                    prop_assert!((count - fair).abs() <= 1.0, "group {group} has {count} of {devices}, fair is {fair}");
                }
            }
        }
    }
}
