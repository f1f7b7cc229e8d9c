//! The link between a device and its broker, where a fault makes it worse than it is: how long what goes takes, and how much of it
//! fits through. Pure.
//!
//! It works on the bytes of MQTT, below the session and above TLS and WebSocket, so that all transports are alike.

use std::collections::VecDeque;

use fleet_contract::{
    fault::Spread,
    time::Micros,
    units::{BitRate, Span},
};

use crate::random::Sequence;

/// What goes in one packet of the network: the payload of a TCP segment on Ethernet, with time stamps (RFC 6691, RFC 7323).
pub(crate) const SEGMENT: usize = 1_448;

/// How one way of a link is; each condition with the number of the fault that it is owed to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Way {
    /// How long what goes takes.
    pub(crate) delay: Option<(Delay, u32)>,
    /// How much of it fits through.
    pub(crate) rate: Option<(BitRate, u32)>,
    /// Whether what comes is taken from the network though it is not read yet, as a router on the way does.
    pub(crate) reads_ahead: bool,
}

/// A time that varies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Delay {
    /// In the middle of what it varies around; the least of an exponential one.
    pub(crate) base: Span,
    pub(crate) jitter: Span,
    pub(crate) spread: Spread,
    /// The draws of a device.
    pub(crate) draws: Sequence,
}

/// What is under way in one direction.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    bytes: VecDeque<u8>,
    /// What arrives together: when, and how many bytes it has.
    segments: VecDeque<(Micros, usize)>,
    /// When the line is free again.
    free_at: Micros,
    /// When the last segment arrives: none overtakes another, as in TCP.
    last_at: Micros,
    /// How many segments have gone.
    count: u64,
}

impl Default for Way {
    fn default() -> Self {
        Self { delay: None, rate: None, reads_ahead: true }
    }
}

impl Way {
    /// Whether it is as it is without faults.
    pub(crate) const fn is_free(&self) -> bool {
        self.delay.is_none() && self.rate.is_none()
    }

    /// The faults that make it worse.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        self.delay.map(|(_, number)| number).into_iter().chain(self.rate.map(|(_, number)| number))
    }
}

impl Delay {
    /// The delay of the segment of this number.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates at nothing")]
    fn of(&self, number: u64) -> Span {
        let draw = self.draws.at(number);
        let jitter = self.jitter.0 as f64;
        let by = match self.spread {
            Spread::Uniform => jitter * (2.0 * draw.unit() - 1.0),
            Spread::Normal => jitter * draw.normal(),
            // By the inverse of the distribution.
            Spread::Exponential => -jitter * libm::log(1.0 - draw.unit()),
        };
        Span((self.base.0 as f64 + by).round() as u64)
    }
}

impl Lane {
    /// Lets bytes go at `now`.
    pub(crate) fn put(&mut self, bytes: &[u8], way: &Way, now: Micros) {
        for segment in bytes.chunks(SEGMENT) {
            let mut sent = now;
            if let Some((rate, _)) = way.rate {
                sent = now.max(self.free_at).after(rate.time_for(segment.len() as u64));
                self.free_at = sent;
            }
            let delay = way.delay.as_ref().map_or(Span::ZERO, |(delay, _)| delay.of(self.count));
            self.count += 1;
            self.last_at = self.last_at.max(sent.after(delay));
            self.bytes.extend(segment);
            self.segments.push_back((self.last_at, segment.len()));
        }
    }

    /// When the next segment arrives; never if none is under way.
    pub(crate) fn next(&self) -> Micros {
        self.segments.front().map_or(Micros::NEVER, |(at, _)| *at)
    }

    /// How many bytes are under way.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends what has arrived by `now` to `out`.
    pub(crate) fn take(&mut self, now: Micros, out: &mut Vec<u8>) {
        while let Some((_, length)) = self.segments.pop_front_if(|(at, _)| *at <= now) {
            self.move_bytes(length, out);
        }
    }

    /// Appends all that is under way to `out`: nothing delays it any more.
    pub(crate) fn take_all(&mut self, out: &mut Vec<u8>) {
        self.move_bytes(self.bytes.len(), out);
        self.segments.clear();
        (self.free_at, self.last_at) = (Micros::default(), Micros::default());
    }

    /// Moves the first bytes to `out`, as slices: to extend it by what is drained would go byte by byte, and cost more than the
    /// message itself.
    fn move_bytes(&mut self, length: usize, out: &mut Vec<u8>) {
        let (front, back) = self.bytes.as_slices();
        let of_front = length.min(front.len());
        out.extend_from_slice(&front[..of_front]);
        out.extend_from_slice(&back[..length - of_front]);
        self.bytes.drain(..length);
    }

    /// Forgets what is under way.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.segments.clear();
        (self.free_at, self.last_at) = (Micros::default(), Micros::default());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{index::DeviceIndex, random::Source};

    const NOW: Micros = Micros(1_000_000_000);

    fn delayed(delay: u64, jitter: u64, spread: Spread) -> Way {
        let draws = Source::new(7, "delay").of(DeviceIndex::new(3));
        let delay = Delay { base: Span::from_millis(delay), jitter: Span::from_millis(jitter), spread, draws };
        Way { delay: Some((delay, 1)), ..Way::default() }
    }

    fn at_rate(rate: &str) -> Way {
        Way { rate: Some((rate.parse().unwrap(), 1)), ..Way::default() }
    }

    /// How long each of so many bytes that go together takes, in milliseconds.
    fn times(lane: &mut Lane, bytes: usize) -> Vec<u64> {
        let mut out = Vec::new();
        let mut times = Vec::new();
        for millis in 0..100_000 {
            let before = out.len();
            lane.take(NOW.after(Span::from_millis(millis)), &mut out);
            times.extend(std::iter::repeat_n(millis, out.len() - before));
        }
        assert_eq!(times.len(), bytes);
        times
    }

    #[test]
    fn a_slow_line_carries_so_many_bits_a_second_and_rests_when_nothing_goes() {
        let (mut lane, way) = (Lane::default(), at_rate("80kbit/s"));
        lane.put(&[0; 10_000], &way, NOW);
        let times = times(&mut lane, 10_000);
        // A segment arrives when its last bit has.
        assert_eq!((times[0], times[9_999]), (145, 1_000));
        lane.put(&[0; 100], &way, NOW.after(Span::from_secs(60)));
        assert_eq!(lane.next(), NOW.after(Span::from_millis(60_010)));
    }

    #[test]
    fn delays_are_distributed_as_asked() {
        for (spread, [p1, p50, p99]) in
            [(Spread::Uniform, [60, 100, 139]), (Spread::Normal, [7, 100, 193]), (Spread::Exponential, [100, 128, 284])]
        {
            let way = delayed(100, 40, spread);
            let mut found: Vec<u64> = (0..20_000).map(|number| way.delay.unwrap().0.of(number).0 / 1_000).collect();
            found.sort_unstable();
            for (place, expected) in [(200, p1), (10_000, p50), (19_800, p99)] {
                assert!(
                    found[place].abs_diff(expected) <= 3,
                    "{spread:?}: {} at {place}, not {expected}",
                    found[place]
                );
            }
        }
    }

    #[test]
    fn rate_and_delay_add_up() {
        let mut lane = Lane::default();
        let way = Way { rate: at_rate("8kbit/s").rate, ..delayed(500, 0, Spread::Uniform) };
        lane.put(&[0; 1_000], &way, NOW);
        assert_eq!(times(&mut lane, 1_000)[999], 1_500);
    }

    #[test]
    fn what_nothing_delays_any_more_is_there_at_once() {
        let mut lane = Lane::default();
        lane.put(&[1, 2, 3], &delayed(5_000, 0, Spread::Uniform), NOW);
        let mut out = Vec::new();
        lane.take(NOW, &mut out);
        assert_eq!((out.len(), lane.len()), (0, 3));
        lane.take_all(&mut out);
        assert_eq!((out, lane.len(), lane.next()), (vec![1, 2, 3], 0, Micros::NEVER));
    }

    proptest! {
        /// Nothing is lost, doubled or overtaken, and nothing arrives before its time.
        #[test]
        fn what_goes_arrives_in_its_order(
            puts in prop::collection::vec((0_usize..5_000, 0_u64..50_000), 1..30),
            looks in 1_u64..40_000,
            jitter in 0_u64..300,
        ) {
            let (mut lane, mut sent, mut out) = (Lane::default(), Vec::new(), Vec::new());
            let way = Way { rate: at_rate("1Mbit/s").rate, ..delayed(200, jitter.min(200), Spread::Uniform) };
            let mut now = NOW;
            for (length, pause) in puts {
                let bytes: Vec<u8> = (0..=u8::MAX).cycle().skip(sent.len() % 256).take(length).collect();
                lane.put(&bytes, &way, now);
                sent.extend_from_slice(&bytes);
                now = now.after(Span(pause));
                lane.take(now, &mut out);
                prop_assert!(lane.next() > now);
            }
            while lane.len() > 0 {
                now = now.after(Span(looks));
                lane.take(now, &mut out);
            }
            prop_assert_eq!(out, sent);
        }
    }
}
