//! A distribution of times: an HDR histogram of microseconds, exact to three digits, added and never averaged.

mod cells;
mod packed;
mod pages;

use std::borrow::Cow;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer as HdrDeserializer, Serializer as _, V2Serializer},
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::units::Span;
use cells::LONGEST_US;
use packed::Packed;
use pages::Pages;

/// A distribution of times from 1 µs to 1 h.
///
/// Serialised in `HdrHistogram`'s V2 format, base64. Its memory grows with the times that are told apart: an empty one
/// takes 24 bytes, and one that was read takes as much as it did on its way until it is changed.
#[derive(Debug, Clone, Default)]
pub struct Latency(Held);

/// How a distribution is held.
#[derive(Debug, Clone, Default)]
enum Held {
    /// Nothing was recorded.
    #[default]
    Empty,
    /// It can be added to.
    Pages(Box<Pages>),
    /// As it was read, until something else is added.
    Packed(Packed),
}

/// A distribution as people read it, in seconds; all `None` where nothing was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Summary {
    /// The median.
    pub p50: Option<f64>,
    /// The 90th percentile.
    pub p90: Option<f64>,
    /// The 99th percentile.
    pub p99: Option<f64>,
    /// The 99.9th percentile.
    pub p999: Option<f64>,
    /// The largest value.
    pub max: Option<f64>,
    /// How many values there are.
    pub count: u64,
}

impl Summary {
    /// The quantiles that it has, the lowest first, and the maximum.
    pub const fn values(&self) -> [Option<f64>; 5] {
        [self.p50, self.p90, self.p99, self.p999, self.max]
    }
}

impl Latency {
    /// Records one time; longer ones than an hour count as an hour.
    pub fn record(&mut self, time: Span) {
        self.pages_mut().record(time.0, 1);
    }

    /// Forgets what was recorded, and keeps the memory of what was hit since it was cleared last.
    pub fn clear(&mut self) {
        match &mut self.0 {
            Held::Empty => {}
            Held::Pages(pages) => pages.clear(),
            Held::Packed(_) => self.0 = Held::Empty,
        }
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.cells().next().is_none()
    }

    /// The same in as little memory as on its way, until something else is added: mostly a few hundred bytes.
    #[must_use]
    pub fn packed(self) -> Self {
        let Held::Pages(_) = self.0 else { return self };
        match self.bytes().ok().and_then(|bytes| Packed::new(bytes).ok()) {
            Some(packed) => Self(Held::Packed(packed)),
            None => self,
        }
    }

    /// Adds what another recorded.
    pub fn merge(&mut self, other: &Self) {
        match (&self.0, &other.0) {
            (_, Held::Empty) => {}
            (Held::Empty, _) => self.clone_from(other),
            (_, Held::Pages(theirs)) => self.pages_mut().add(theirs),
            (_, Held::Packed(theirs)) => self.pages_mut().add_cells(theirs.cells()),
        }
    }

    /// What was recorded after `earlier` was copied from this distribution; nothing when `earlier` was not part of it.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        if earlier.is_empty() {
            return self.clone();
        }
        let mut recent = self.clone();
        let pages = recent.pages_mut();
        if earlier.cells().all(|(cell, count)| pages.take_cell(cell, count)) { recent } else { Self::default() }
    }

    /// The time that a share of `quantile` (0 to 1) of the recorded ones does not exceed.
    pub fn quantile(&self, quantile: f64) -> Option<Span> {
        self.histogram().map(|histogram| Span(histogram.value_at_quantile(quantile)))
    }

    /// The longest recorded time, to three digits.
    pub fn max(&self) -> Option<Span> {
        self.histogram().map(|histogram| Span(histogram.max()))
    }

    /// The lowest of the times that are not told apart from this one.
    pub const fn told_apart(time: Span) -> Span {
        let longest = if time.0 < LONGEST_US { time.0 } else { LONGEST_US };
        Span(cells::lowest(cells::cell(longest)))
    }

    /// How many times were recorded.
    pub fn count(&self) -> u64 {
        self.cells().fold(0, |sum: u64, (_, count)| sum.saturating_add(count))
    }

    /// The sum of all recorded times in seconds, as exact as the buckets are.
    pub fn sum_seconds(&self) -> f64 {
        self.histogram().map_or(0.0, |histogram| histogram.mean() * histogram.len() as f64 / 1e6)
    }

    /// How many recorded times did not exceed each of the `limits`, which are in ascending order.
    pub fn counts_up_to<const N: usize>(&self, limits: [Span; N]) -> [u64; N] {
        let mut counts = [0; N];
        for (cell, count) in self.cells() {
            // The whole cell counts where its lowest time does, as in the library's `count_between`.
            let first = limits.partition_point(|limit| limit.0 < cells::lowest(cell));
            counts[first..].iter_mut().for_each(|sum| *sum += count);
        }
        counts
    }

    /// How many recorded times did not exceed `limit`.
    pub fn count_up_to(&self, limit: Span) -> u64 {
        let [count] = self.counts_up_to([limit]);
        count
    }

    /// The distribution as people read it.
    pub fn summary(&self) -> Summary {
        let Some(histogram) = self.histogram() else { return Summary::default() };
        let seconds = |us: u64| Some(Span(us).as_secs_f64());
        let quantile = |quantile| seconds(histogram.value_at_quantile(quantile));
        Summary {
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: seconds(histogram.max()),
            count: histogram.len(),
        }
    }

    /// The recorded times as the library's histogram, if there are any: 188 kB for as long as it is asked.
    pub fn histogram(&self) -> Option<Histogram<u64>> {
        if self.is_empty() {
            return None;
        }
        let mut histogram = empty_histogram();
        for (cell, count) in self.cells() {
            histogram.saturating_record_n(cells::lowest(cell), count);
        }
        Some(histogram)
    }

    /// The cells that are not empty, in ascending order, and how many times are counted in each.
    fn cells(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let (pages, packed) = match &self.0 {
            Held::Empty => (None, None),
            Held::Pages(pages) => (Some(pages), None),
            Held::Packed(packed) => (None, Some(packed)),
        };
        let pages = pages.into_iter().flat_map(|pages| pages.cells());
        pages.chain(packed.into_iter().flat_map(Packed::cells))
    }

    /// The memory that it takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let held = match &self.0 {
            Held::Empty => 0,
            Held::Pages(pages) => pages.memory_bytes(),
            Held::Packed(packed) => packed.bytes().len(),
        };
        size_of::<Self>() + held
    }

    fn pages_mut(&mut self) -> &mut Pages {
        if !matches!(self.0, Held::Pages(_)) {
            let mut pages = Box::<Pages>::default();
            pages.add_cells(self.cells());
            self.0 = Held::Pages(pages);
        }
        let Held::Pages(pages) = &mut self.0 else { unreachable!("it was just made so") };
        pages
    }

    /// As it travels; nothing for an empty one.
    fn bytes(&self) -> Result<Vec<u8>, hdrhistogram::serialization::V2SerializeError> {
        let mut bytes = Vec::new();
        if let Held::Packed(packed) = &self.0 {
            bytes.extend_from_slice(packed.bytes());
        } else if let Some(histogram) = self.histogram() {
            V2Serializer::new().serialize(&histogram, &mut bytes)?;
        }
        Ok(bytes)
    }
}

fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are constants that fit")
}

impl PartialEq for Latency {
    fn eq(&self, other: &Self) -> bool {
        self.cells().eq(other.cells())
    }
}

impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(self.bytes().map_err(ser::Error::custom)?))
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self::default());
        }
        let bytes = BASE64_STANDARD.decode(text.as_bytes()).map_err(de::Error::custom)?;
        let bytes = match Packed::new(bytes) {
            Ok(packed) => return Ok(Self(Held::Packed(packed))),
            Err(bytes) => bytes,
        };
        // One with other bounds is added to one with ours, so that it cannot spoil a later merge.
        let read: Histogram<u64> =
            HdrDeserializer::new().deserialize(&mut bytes.as_slice()).map_err(de::Error::custom)?;
        let mut latency = Self::default();
        for step in read.iter_recorded() {
            latency.pages_mut().record(step.value_iterated_to(), step.count_at_value());
        }
        Ok(latency)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A distribution as somebody else gets it.
    fn travelled(latency: &Latency) -> Latency {
        serde_json::from_str(&serde_json::to_string(latency).unwrap()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn merged_percentiles_are_those_of_all_values(
            a in prop::collection::vec(1_u64..10_000_000, 0..200), b in prop::collection::vec(1_u64..10_000_000, 0..200)
        ) {
            let of = |values: &[u64]| {
                let mut latency = Latency::default();
                for value in values {
                    latency.record(Span(*value));
                }
                latency
            };
            let mut merged = of(&a);
            merged.merge(&of(&b));
            prop_assert_eq!(merged.summary(), of(&[&a[..], &b].concat()).summary());
            let (mut read, whole) = (travelled(&of(&a)), of(&[a, b.clone()].concat()));
            prop_assert_eq!(read.clone().since(&read).count(), 0);
            read.merge(&travelled(&of(&b)));
            prop_assert_eq!(travelled(&read), read.clone());
            prop_assert_eq!((read.count(), read.summary()), (whole.count(), whole.summary()));
            let packed = whole.clone().packed();
            prop_assert!(!matches!(packed.0, Held::Pages(_)));
            prop_assert_eq!((packed.summary(), packed.sum_seconds()), (whole.summary(), whole.sum_seconds()));
            prop_assert_eq!(packed, whole);
        }
    }

    #[test]
    fn what_came_since_leaves_out_what_was_there() {
        let mut latency = Latency::default();
        latency.record(Span(5_000_000));
        let earlier = latency.clone();
        latency.record(Span(100));
        let recent = latency.since(&earlier);
        assert_eq!((recent.count(), recent.max()), (1, Some(Span(100))));
        assert_eq!(latency.since(&latency).summary().max, None);
        assert_eq!(earlier.since(&latency).count(), 0);
    }

    #[test]
    fn one_with_other_bounds_is_taken_over_and_a_broken_one_refused() {
        let mut other = Histogram::<u64>::new_with_bounds(1, 10_000, 2).unwrap();
        other.record(7).unwrap();
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&other, &mut bytes).unwrap();
        let read = |bytes: &[u8]| serde_json::from_value::<Latency>(BASE64_STANDARD.encode(bytes).into());
        assert_eq!(read(&bytes).unwrap().max(), Some(Span(7)));
        assert!(read(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn nothing_measured_is_not_zero() {
        assert_eq!(Latency::default().summary().p99, None);
    }

    #[test]
    fn buckets_count_what_they_hold() {
        let mut latency = Latency::default();
        for us in [100, 900, 5_000] {
            latency.record(Span(us));
        }
        assert_eq!(latency.counts_up_to([Span(99), Span(1_000), Span(5_000)]), [0, 2, 3]);
        assert!((latency.sum_seconds() - 0.006).abs() < 1e-5);
    }
}
