//! Randomness without state: a number for each (seed, name, device, position).
//!
//! The generator is `SplitMix64`'s output function (Steele, Lea and Flood, 2014; Stafford's variant 13), applied to a
//! key per source and once more per device, with positions a golden-ratio step apart.
//! It is written out here because the bits are part of what a seed promises, whatever a library does.

use crate::index::DeviceIndex;

/// 2⁶⁴ divided by the golden ratio, made odd.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mixes all bits of a word with all others; a bijection.
pub const fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Random numbers of one purpose, such as one signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source(u64);

impl Source {
    /// The source of that name under a seed.
    pub fn new(seed: u64, name: &str) -> Self {
        let mut key = mix(seed.wrapping_add(GOLDEN));
        for byte in name.bytes() {
            key = mix(key.wrapping_add(GOLDEN) ^ u64::from(byte));
        }
        Self(key)
    }

    /// The numbers of one device.
    pub const fn of(self, device: DeviceIndex) -> Sequence {
        Sequence(mix(self.0 ^ (device.number() as u64 + 1).wrapping_mul(GOLDEN)))
    }
}

/// Random numbers of one purpose and device, by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence(u64);

impl Sequence {
    /// The number at a position.
    pub const fn at(self, position: u64) -> Draw {
        Draw(mix(self.0.wrapping_add(position.wrapping_mul(GOLDEN))))
    }
}

/// One random number: 64 fair bits. Take one of its forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw(pub u64);

impl Draw {
    /// From 0, included, to 1, excluded; uniform.
    pub fn unit(self) -> f64 {
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From 0 to `end`, which is excluded unless it is 0.
    pub const fn below(self, end: u64) -> u64 {
        ((self.0 as u128 * end as u128) >> 64) as u64
    }

    /// Mean 0 and variance 1, within ±3.5: the sum of four uniform numbers. Enough where several are added up.
    pub fn bell(self) -> f64 {
        let quarter = |shift: u32| (self.0 >> shift & 0xffff) as f64;
        let sum = quarter(0) + quarter(16) + quarter(32) + quarter(48) + 2.0;
        // Each quarter has the mean 2¹⁵ (its half step is in the 2.0) and the variance 2³²/12.
        (sum - 131_072.0) * (SQRT_3 / 65_536.0)
    }

    /// The standard normal distribution, by its inverse (Wichura, algorithm AS 241, PPND7: 7 digits).
    pub fn normal(self) -> f64 {
        // 52 bits, so that neither end is rounded to 0 or 1.
        let probability = ((self.0 >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
        let q = probability - 0.5;
        if q.abs() <= 0.425 {
            let r = 0.180_625 - q * q;
            return q * polynomial(r, &[3.387_132_718, 50.434_271_938, 159.291_132_02, 59.109_374_720])
                / polynomial(r, &[1.0, 17.895_169_469, 78.757_757_664, 67.187_563_600]);
        }
        let tail = if q < 0.0 { probability } else { 1.0 - probability };
        let r = (-libm::log(tail)).sqrt();
        let distance = if r <= 5.0 {
            polynomial(r - 1.6, &[1.423_437_277_7, 2.756_815_390_0, 1.306_728_481_6, 0.170_238_211_03])
                / polynomial(r - 1.6, &[1.0, 0.737_001_642_50, 0.120_211_329_75])
        } else {
            polynomial(r - 5.0, &[6.657_905_115_0, 3.081_226_386_0, 0.428_682_943_37, 0.017_337_203_997])
                / polynomial(r - 5.0, &[1.0, 0.241_978_947_25, 0.012_258_202_635])
        };
        distance.copysign(q)
    }
}

const SQRT_3: f64 = 1.732_050_807_568_877_2;

/// Coefficients from the lowest power.
fn polynomial(x: f64, coefficients: &[f64]) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: u64 = 200_000;

    /// Mean, variance, and the share beyond ±2, over positions of one device.
    fn moments(form: fn(Draw) -> f64) -> (f64, f64, f64) {
        let numbers = Source::new(1, "test").of(DeviceIndex::new(3));
        let values = || (0..COUNT).map(|position| form(numbers.at(position)));
        let mean = values().sum::<f64>() / COUNT as f64;
        let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / COUNT as f64;
        (mean, variance, values().filter(|value| value.abs() > 2.0).count() as f64 / COUNT as f64)
    }

    #[test]
    fn the_bits_of_a_seed_never_change() {
        assert_eq!(Source::new(7, "speed").of(DeviceIndex::new(42)).at(1000), Draw(8_565_732_788_504_220_197));
    }

    #[test]
    fn normal_and_bell_have_mean_0_and_variance_1() {
        let (mean, variance, beyond) = moments(Draw::normal);
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02 && (beyond - 0.0455).abs() < 0.003);
        let (mean, variance, _) = moments(Draw::bell);
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02);
    }

    #[test]
    fn the_normal_distribution_has_its_tails() {
        assert!((Draw(u64::MAX / 1_000).normal() + 3.090_232).abs() < 1e-5);
        assert!((Draw(u64::MAX / 100 * 99).normal() - 2.326_348).abs() < 1e-5);
        assert!(Draw(0).normal() < -8.0 && Draw(u64::MAX).normal() > 8.0);
    }

    #[test]
    fn below_covers_its_range_evenly() {
        let numbers = Source::new(1, "below").of(DeviceIndex::new(0));
        let mut counts = [0u32; 7];
        for position in 0..70_000 {
            counts[usize::try_from(numbers.at(position).below(7)).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 400), "{counts:?}");
    }

    #[test]
    fn devices_names_and_seeds_are_unrelated() {
        let correlation = |a: Sequence, b: Sequence| {
            (0..COUNT).map(|position| a.at(position).normal() * b.at(position).normal()).sum::<f64>() / COUNT as f64
        };
        let one = Source::new(1, "a").of(DeviceIndex::new(0));
        for other in [
            Source::new(1, "a").of(DeviceIndex::new(1)),
            Source::new(1, "b").of(DeviceIndex::new(0)),
            Source::new(2, "a").of(DeviceIndex::new(0)),
        ] {
            assert!(correlation(one, other).abs() < 0.01);
        }
    }
}
