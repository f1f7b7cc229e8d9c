//! A distribution of times: an HDR histogram of microseconds, exact to three digits, added and never averaged.

mod packed;

use std::borrow::Cow;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer as HdrDeserializer, Serializer as _, V2Serializer},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::units::Span;
use packed::Packed;

/// The longest time that is told apart from longer ones: one hour.
const LONGEST_US: u64 = 3_600_000_000;

/// A distribution of times from 1 µs to 1 h; the exact maximum is kept beside it.
///
/// Serialised in HdrHistogram's V2 format, base64. An empty one takes no memory worth the name, and one that was read
/// takes as much as it did on its way until it is changed.
#[derive(Debug, Clone, Default)]
pub struct Latency {
    histogram: Option<Box<Histogram<u64>>>,
    /// What was read, until something else is added.
    packed: Option<Packed>,
}

/// A distribution as people read it, in seconds; all `None` where nothing was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
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

impl Latency {
    /// Records one time; longer ones than an hour count as an hour.
    pub fn record(&mut self, time: Span) {
        self.histogram_mut().saturating_record(time.0.max(1));
    }

    /// The same in as little memory as on its way, until something else is added: 188 kB unfolded, and mostly a few
    /// hundred bytes packed.
    #[must_use]
    pub fn packed(self) -> Self {
        let Some(histogram) = &self.histogram else { return self };
        let mut bytes = Vec::new();
        let written = V2Serializer::new().serialize(&**histogram, &mut bytes);
        match written.ok().and_then(|_| Packed::new(bytes).ok()) {
            Some(packed) => Self { histogram: None, packed: Some(packed) },
            None => self,
        }
    }

    /// Adds what another recorded.
    pub fn merge(&mut self, other: &Self) {
        if self.histogram.is_none() && self.packed.is_none() {
            self.clone_from(other);
            return;
        }
        if let Some(theirs) = &other.histogram {
            self.histogram_mut().add(&**theirs).expect("all histograms have the same bounds");
        }
        if let Some(theirs) = &other.packed {
            add(self.histogram_mut(), theirs);
        }
    }

    /// What was recorded after `earlier` was copied from this distribution; nothing when `earlier` was not part of it.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut recent = self.clone();
        let Some(theirs) = earlier.histogram() else { return recent };
        if recent.count() == 0 || recent.histogram_mut().subtract(&*theirs).is_ok() { recent } else { Self::default() }
    }

    /// The time that a share of `quantile` (0 to 1) of the recorded ones does not exceed.
    pub fn quantile(&self, quantile: f64) -> Option<Span> {
        self.recorded().map(|histogram| Span(histogram.value_at_quantile(quantile)))
    }

    /// The longest recorded time, to three digits.
    pub fn max(&self) -> Option<Span> {
        self.recorded().map(|histogram| Span(histogram.max()))
    }

    /// How many times were recorded.
    pub fn count(&self) -> u64 {
        let packed =
            self.packed.iter().flat_map(Packed::values).fold(0_u64, |sum, (_, count)| sum.saturating_add(count));
        self.histogram.as_ref().map_or(packed, |histogram| histogram.len())
    }

    /// The sum of all recorded times in seconds, as exact as the buckets are.
    pub fn sum_seconds(&self) -> f64 {
        self.recorded().map_or(0.0, |histogram| histogram.mean() * histogram.len() as f64 / 1e6)
    }

    /// How many recorded times did not exceed `limit`.
    pub fn count_up_to(&self, limit: Span) -> u64 {
        self.recorded().map_or(0, |histogram| histogram.count_between(0, limit.0))
    }

    /// The distribution as people read it.
    pub fn summary(&self) -> Summary {
        let Some(histogram) = self.recorded() else { return Summary::default() };
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

    /// The histogram, if anything has been recorded in it.
    fn recorded(&self) -> Option<Cow<'_, Histogram<u64>>> {
        self.histogram().filter(|histogram| !histogram.is_empty())
    }

    fn histogram(&self) -> Option<Cow<'_, Histogram<u64>>> {
        let unfolded = || self.packed.as_ref().map(|packed| Cow::Owned(unfolded(packed)));
        self.histogram.as_deref().map(Cow::Borrowed).or_else(unfolded)
    }

    fn histogram_mut(&mut self) -> &mut Histogram<u64> {
        let packed = self.packed.take();
        self.histogram.get_or_insert_with(|| Box::new(packed.as_ref().map_or_else(nothing, unfolded)))
    }
}

fn nothing() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are constants that fit")
}

fn unfolded(packed: &Packed) -> Histogram<u64> {
    let mut histogram = nothing();
    add(&mut histogram, packed);
    histogram
}

fn add(histogram: &mut Histogram<u64>, packed: &Packed) {
    for (value, count) in packed.values() {
        histogram.saturating_record_n(value, count);
    }
}

impl PartialEq for Latency {
    fn eq(&self, other: &Self) -> bool {
        self.histogram() == other.histogram()
    }
}

impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        if let Some(histogram) = &self.histogram {
            V2Serializer::new().serialize(&**histogram, &mut bytes).map_err(ser::Error::custom)?;
        }
        let bytes = self.packed.as_ref().map_or(&*bytes, Packed::bytes);
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
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
            Ok(packed) => return Ok(Self { packed: Some(packed), ..Self::default() }),
            Err(bytes) => bytes,
        };
        // One with other bounds is added to one with ours, so that it cannot spoil a later merge.
        let read: Histogram<u64> =
            HdrDeserializer::new().deserialize(&mut bytes.as_slice()).map_err(de::Error::custom)?;
        let mut latency = Self::default();
        latency.histogram_mut().add(&read).map_err(de::Error::custom)?;
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
            prop_assert!(packed.histogram.is_none());
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
        assert_eq!(latency.count_up_to(Span(1_000)), 2);
        assert!((latency.sum_seconds() - 0.006).abs() < 1e-5);
    }
}
