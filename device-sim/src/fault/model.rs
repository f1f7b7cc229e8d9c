//! Faults that a stream has by itself, compiled: what becomes of its messages is a function of the seed, the device, the stream and
//! the time since the start, so that it does not matter which worker runs the device, nor since when.

use fleet_contract::{
    fault::Failure,
    model::fault::StreamFault,
    stats::ModelFault,
    time::Micros,
    units::{Share, Span},
};

use super::{Cause, Fate, How, drawn};
use crate::{
    index::DeviceIndex,
    random::{Draw, Sequence, Source},
};

/// The faults of a stream.
#[derive(Debug, Default)]
pub(crate) struct StreamFaults(Box<[Compiled]>);

#[derive(Debug)]
struct Compiled {
    source: Source,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    /// This becomes of so many messages.
    Single(Share, How, ModelFault),
    Silence(Episodes, Failure),
    /// With the time from message to message.
    Flood(Episodes, Span),
}

impl StreamFaults {
    /// Those of the stream of this name; they are checked.
    pub(crate) fn compile(faults: &[StreamFault], stream: &str, seed: u64) -> Self {
        let compiled = |(position, fault): (usize, &StreamFault)| Compiled {
            source: Source::new(seed, &format!("stream {stream} fault {position}")),
            what: match fault {
                StreamFault::Corrupt(it) => What::Single(it.messages, How::Corrupt(it.how), ModelFault::Corrupt),
                StreamFault::Duplicate(it) => What::Single(it.messages, How::Twice, ModelFault::Duplicate),
                StreamFault::Stale(it) => What::Single(it.messages, How::Old(it.age), ModelFault::Stale),
                StreamFault::Silence(it) => What::Silence(Episodes { every: it.every, lasts: it.lasts }, it.how),
                StreamFault::Flood(it) => What::Flood(Episodes { every: it.every, lasts: it.lasts }, it.interval),
            },
        };
        Self(faults.iter().enumerate().map(compiled).collect())
    }

    /// Whether there are none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of device `index` in a run that has begun at `start`.
    pub(crate) const fn of(&self, index: DeviceIndex, start: Micros) -> OfDevice<'_> {
        OfDevice { faults: &self.0, index, start }
    }
}

/// The faults of a stream of a device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OfDevice<'a> {
    faults: &'a [Compiled],
    index: DeviceIndex,
    start: Micros,
}

impl<'a> OfDevice<'a> {
    /// What becomes of the message that is due at `due`.
    pub(crate) fn fates(self, due: Micros) -> impl Iterator<Item = Fate> + 'a {
        self.faults.iter().filter_map(move |fault| {
            let draws = fault.source.of(self.index);
            let (how, draw, what) = match fault.what {
                What::Single(messages, how, what) => (how, drawn(draws, messages, due.since(self.start).0)?, what),
                What::Silence(episodes, Failure::Sticks) => {
                    let stuck = self.episodes(episodes, fault).at(due)?;
                    (How::Stuck(stuck), Draw(0), ModelFault::Stuck)
                }
                What::Silence(_, Failure::Stops) | What::Flood(..) => return None,
            };
            Some(Fate { how, draw, cause: Cause::Model(what) })
        })
    }

    /// Whether nothing falls due at an instant.
    pub(crate) fn is_silent(self, at: Micros) -> bool {
        self.faults.iter().any(|fault| match fault.what {
            What::Silence(episodes, Failure::Stops) => self.episodes(episodes, fault).at(at).is_some(),
            _ => false,
        })
    }

    /// When the next message of a flood is due, at `from` or later; never without one.
    pub(crate) fn flood_due(self, from: Micros) -> Micros {
        let dues = self.faults.iter().filter_map(|fault| match fault.what {
            What::Flood(episodes, interval) => Some(self.episodes(episodes, fault).flood_due(interval, from)),
            _ => None,
        });
        dues.min().unwrap_or(Micros::NEVER)
    }

    fn episodes(self, episodes: Episodes, fault: &Compiled) -> OwnEpisodes {
        let draws = fault.source.of(self.index);
        // A device is so far ahead of the run: the windows of two devices begin at different instants.
        let ahead = draws.at(0).below(episodes.every.0);
        OwnEpisodes { episodes, draws, ahead, start: self.start }
    }
}

/// Episodes that come about once in a while: time is cut into windows, and each has one that lies in it as a whole.
#[derive(Debug, Clone, Copy)]
struct Episodes {
    /// How long a window is.
    every: Span,
    /// How long an episode is; shorter than a window.
    lasts: Span,
}

/// The episodes of a device.
#[derive(Debug, Clone, Copy)]
struct OwnEpisodes {
    episodes: Episodes,
    draws: Sequence,
    ahead: u64,
    start: Micros,
}

impl OwnEpisodes {
    /// When the episode of a window begins, in the device's own microseconds.
    fn begin(&self, window: u64) -> u64 {
        let Episodes { every, lasts } = self.episodes;
        let free = every.0.saturating_sub(lasts.0).saturating_add(1);
        window.saturating_mul(every.0).saturating_add(self.draws.at(window.saturating_add(1)).below(free))
    }

    fn own(&self, at: Micros) -> u64 {
        at.since(self.start).0.saturating_add(self.ahead)
    }

    /// The instant of one of the device's own microseconds; the start for one before it.
    fn instant(&self, own: u64) -> Micros {
        self.start.after(Span(own.saturating_sub(self.ahead)))
    }

    fn window(&self, own: u64) -> u64 {
        own / self.episodes.every.0.max(1)
    }

    /// When the episode has begun in which an instant is, if it is in one.
    fn at(&self, at: Micros) -> Option<Micros> {
        let own = self.own(at);
        let begin = self.begin(self.window(own));
        (begin..begin.saturating_add(self.episodes.lasts.0)).contains(&own).then(|| self.instant(begin))
    }

    /// When the next message is due of those that come each `interval` of the episodes, at `from` or later.
    fn flood_due(&self, interval: Span, from: Micros) -> Micros {
        let own = self.own(from);
        let window = self.window(own);
        let begin = self.begin(window);
        let interval = interval.0.max(1);
        let due = begin.saturating_add(own.saturating_sub(begin).div_ceil(interval).saturating_mul(interval));
        let is_within = due < begin.saturating_add(self.episodes.lasts.0);
        self.instant(if is_within { due } else { self.begin(window.saturating_add(1)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Micros = Micros(1_700_000_000_000_000);

    fn compiled(faults: &str) -> StreamFaults {
        StreamFaults::compile(&serde_saphyr::from_str::<Vec<StreamFault>>(faults).unwrap(), "s", 7)
    }

    fn after(millis: u64) -> Micros {
        START.after(Span::from_millis(millis))
    }

    #[test]
    fn each_device_has_one_episode_in_a_window_at_an_instant_of_its_own() {
        let faults = compiled("[{kind: silence, every: 10s, lasts: 1s}]");
        let mut begins = std::collections::BTreeSet::new();
        let mut silent = 0;
        for device in 0..200 {
            let of = faults.of(DeviceIndex::new(device), START);
            let is_silent: Vec<bool> = (0..100_000).step_by(10).map(|millis| of.is_silent(after(millis))).collect();
            let edges = is_silent.windows(2).filter(|pair| !pair[0] && pair[1]).count();
            assert!((9..=11).contains(&edges), "{device}: {edges} in 100 s");
            silent += is_silent.iter().filter(|is| **is).count();
            begins.insert(is_silent.windows(2).position(|pair| !pair[0] && pair[1]));
        }
        // A tenth of 200 times 100 s, in steps of 10 ms; windows at either end are cut.
        assert!((190_000..210_000).contains(&silent), "{silent}");
        assert!(begins.len() > 150, "{}", begins.len());
    }

    #[test]
    fn a_flood_is_due_each_interval_of_an_episode_and_at_no_other_time() {
        let faults = compiled("[{kind: flood, every: 10s, lasts: 1s, interval: 100ms}]");
        for device in 0..50 {
            let of = faults.of(DeviceIndex::new(device), START);
            let mut due = of.flood_due(START);
            let mut dues = Vec::new();
            while due < after(100_000) {
                assert_eq!(of.flood_due(due), due, "a due instant is due");
                dues.push(due);
                due = of.flood_due(due.after(Span(1)));
            }
            assert!((85..=110).contains(&dues.len()), "{device}: {}", dues.len());
            let gaps: Vec<Span> = dues.windows(2).map(|pair| pair[1].since(pair[0])).collect();
            let within = gaps.iter().filter(|gap| **gap == Span::from_millis(100)).count();
            assert!(gaps.iter().all(|gap| *gap == Span::from_millis(100) || *gap > Span::from_millis(100)));
            assert!(within >= 9 * 8, "{device}: {within} of {}", gaps.len());
        }
    }

    #[test]
    fn what_becomes_of_a_message_depends_on_its_due_instant_alone() {
        let faults = compiled("[{kind: corrupt, messages: 5%}, {kind: duplicate, messages: 1%}]");
        let fates = |device: u32, millis: u64| {
            faults.of(DeviceIndex::new(device), START).fates(after(millis)).collect::<Vec<_>>()
        };
        let mut counts = [0u32; 2];
        for device in 0..100 {
            for millis in (0..100_000).step_by(100) {
                let found = fates(device, millis);
                assert_eq!(found, fates(device, millis));
                for fate in found {
                    counts[usize::from(fate.how == How::Twice)] += 1;
                }
            }
        }
        // Of 100,000 messages; three standard deviations are 207 and 94.
        assert!(counts[0].abs_diff(5_000) < 207 && counts[1].abs_diff(1_000) < 94, "{counts:?}");
    }

    #[test]
    fn a_sensor_that_sticks_tells_what_was_when_it_stuck() {
        let faults = compiled("[{kind: silence, every: 10s, lasts: 2s, how: sticks}]");
        let of = faults.of(DeviceIndex::new(3), START);
        assert!(!of.is_silent(after(0)) && of.flood_due(START) == Micros::NEVER);
        let mut seen = std::collections::BTreeMap::<Micros, u32>::new();
        for millis in (10_000..60_000).step_by(10) {
            for fate in of.fates(after(millis)) {
                let How::Stuck(since) = fate.how else { panic!("{fate:?}") };
                assert!(since <= after(millis) && after(millis).since(since) < Span::from_secs(2));
                *seen.entry(since).or_default() += 1;
            }
        }
        assert!((4..=6).contains(&seen.len()) && seen.values().filter(|count| **count == 200).count() >= 4, "{seen:?}");
    }
}
