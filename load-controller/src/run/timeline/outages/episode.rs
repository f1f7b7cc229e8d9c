//! One outage after another, from what happened instant by instant. Pure.

use fleet_contract::{
    stats::{Change, Sessions},
    time::Micros,
};
use serde::{Deserialize, Serialize};

use super::{super::returns::Returns, BackSeconds, OutageReport, net, seconds};

/// An outage, by instants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Episode {
    from: u64,
    until: Option<u64>,
    missing_max: u32,
    /// Up to when the most devices were missing.
    worst: u64,
    /// Who fell away, and who was back by when.
    #[serde(flatten)]
    returns: Returns,
}

/// Where a walk through what happened stands.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Walk {
    missing: i64,
    current: Option<Episode>,
}

impl Walk {
    pub(super) const fn new() -> Self {
        Self { missing: 0, current: None }
    }

    /// Devices that are missing.
    pub(super) const fn missing(&self) -> i64 {
        self.missing
    }

    /// The outage that goes on.
    pub(super) fn current(self) -> Option<Episode> {
        self.current
    }

    /// Takes what happened at the next instant; the outage that it ended.
    pub(super) fn take(&mut self, instant: u64, change: Change) -> Option<Episode> {
        let at_worst = self.missing + i64::from(change.lost);
        self.missing += net(change);
        if self.current.is_none() && change.lost > 0 {
            self.current = Some(Episode::begin(instant));
        }
        let episode = self.current.as_mut()?;
        episode.take(instant, change, u32::try_from(at_worst).unwrap_or(0));
        if self.missing > 0 {
            return None;
        }
        episode.until = Some(instant);
        self.current.take()
    }
}

impl Episode {
    const fn begin(from: u64) -> Self {
        Self { from, until: None, missing_max: 0, worst: from, returns: Returns::new() }
    }

    fn take(&mut self, instant: u64, change: Change, missing: u32) {
        if missing >= self.missing_max {
            self.missing_max = missing;
            self.worst = instant;
        }
        self.returns.take(instant, change);
    }

    /// When so many hundredths of all that fell away were back, in seconds since its beginning.
    fn back_seconds(&self, percent: u64) -> Option<f64> {
        self.returns.back_at(percent).map(|instant| seconds(self.from, instant))
    }

    pub(super) fn report(&self, start: Micros, now: Micros) -> OutageReport {
        let time = |instant: u64| Micros(instant * Sessions::INSTANT.0);
        let count = |devices: u64| u32::try_from(devices).unwrap_or(u32::MAX);
        let end = self.until.map_or(now, time);
        OutageReport {
            from: time(self.from).to_string(),
            until: self.until.map(|until| time(until).to_string()),
            at_seconds: time(self.from).since(start).as_secs_f64(),
            seconds: end.since(time(self.from)).as_secs_f64(),
            gap_seconds: seconds(self.from, self.worst),
            recovery_seconds: self.until.map(|until| seconds(self.worst, until)),
            devices_missing_max: self.missing_max,
            devices_lost: count(self.returns.lost()),
            devices_back: count(self.returns.back()),
            back_seconds: BackSeconds::of(|percent| self.back_seconds(percent)),
        }
    }
}
