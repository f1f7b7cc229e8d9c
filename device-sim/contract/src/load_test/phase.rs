//! A part of a load test.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    LASTS_MAX,
    curve::{Course, Curve, Shape},
};
use crate::{
    fault::Fault,
    units::{Rate, Span},
};

/// A part of a load test. On the command line `NAME:TIME`, or `NAME:A..B/TIME` where devices come or leave; what devices come
/// or leave in is no part that thresholds without a phase look at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Phase {
    /// Its name: lower-case letters, digits and `-`, not `each`.
    pub name: String,
    /// How long it lasts, 7 days at most.
    pub duration: Span,
    /// Whether its rates and times count where a threshold names no phase: a warm-up has other ones.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub measure: bool,
    /// How many devices there are; without it as many as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Curve<u32>>,
    /// How fast they send while the phase lasts; without it as their document says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rates>,
    /// What goes wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
}

/// One change of rates, or several: of what names a stream, a group and neither the most specific one counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Rates {
    /// One.
    One(RateChange),
    /// Several.
    Several(Vec<RateChange>),
}

impl Rates {
    /// All of them, in the order of the document.
    pub const fn as_written(&self) -> &[RateChange] {
        match self {
            Self::One(change) => std::slice::from_ref(change),
            Self::Several(changes) => changes.as_slice(),
        }
    }

    /// All of them, the least specific first.
    pub fn all(&self) -> Vec<&RateChange> {
        let mut all: Vec<&RateChange> = self.as_written().iter().collect();
        all.sort_by_key(|change| change.specific());
        all
    }

    /// The one that counts for a stream of a group: the most specific of those that mean it.
    pub fn of(&self, group: &str, stream: &str) -> Option<&RateChange> {
        self.as_written().iter().filter(|change| change.means(group, stream)).max_by_key(|change| change.specific())
    }
}

/// How fast the periodic streams go: exactly one of `factor` and `messages`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateChange {
    /// The group; without it each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The stream; without it each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// How much faster than their intervals say, 0 to 1,000; `{from: 1, to: 5}` changes it while the phase lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<Curve<f64>>,
    /// How many messages a second all of them make together, such as `50000/s`; the factor follows from their intervals and
    /// the number of devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Rate>,
}

impl RateChange {
    /// Whether it is about a stream of a group; a more specific one may count before it.
    fn means(&self, group: &str, stream: &str) -> bool {
        let is_meant = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
        is_meant(&self.group, group) && is_meant(&self.stream, stream)
    }

    /// What names a stream goes before what names a group, and that before what names neither.
    const fn specific(&self) -> (bool, bool) {
        (self.stream.is_some(), self.group.is_some())
    }
}

impl FromStr for Phase {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "expected a phase such as `steady:10m` or, with devices that come or leave, `ramp:0..500/2m`; found `{text}`{why}"
            )
        };
        let (name, rest) = text.split_once(':').ok_or_else(|| wrong(""))?;
        if name.is_empty() {
            return Err(wrong(", which has no name"));
        }
        let (devices, duration) = match rest.rsplit_once('/') {
            None => (None, rest),
            Some((devices, duration)) => {
                let (from, to) = devices.split_once("..").ok_or_else(|| wrong(""))?;
                let count = |text: &str| text.parse::<u32>().map_err(|error| wrong(&format!(": `{text}`: {error}")));
                (Some((count(from)?, count(to)?)), duration)
            }
        };
        let duration: Span = duration.parse().map_err(|error| wrong(&format!(": {error}")))?;
        if duration == Span::ZERO || duration > LASTS_MAX {
            return Err(wrong(&format!("; a phase lasts longer than no time and at most {LASTS_MAX}")));
        }
        let measure = devices.is_none_or(|(from, to)| from == to);
        let ramp = |(from, to)| Course {
            from: Some(from),
            to: Some(to),
            shape: Shape::Linear,
            steps: None,
            spike: None,
            wave: None,
            points: Vec::new(),
        };
        let devices = devices.map(ramp).map(Curve::Course);
        Ok(Self { name: name.into(), duration, measure, devices, rate: None, faults: Vec::new() })
    }
}

impl fmt::Display for Phase {
    /// As on the command line; only what can be written there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, duration, devices, .. } = self;
        match devices {
            Some(Curve::Course(Course { from: Some(from), to: Some(to), .. })) => {
                write!(f, "{name}:{from}..{to}/{duration}")
            }
            _ => write!(f, "{name}:{duration}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_of_the_command_line_read_as_documented() {
        let ramp: Phase = "ramp:0..500/2m".parse().unwrap();
        assert_eq!((ramp.name.as_str(), ramp.duration, ramp.measure), ("ramp", Span::from_secs(120), false));
        let segments = ramp.devices.unwrap().segments(9.0, ramp.duration);
        assert_eq!(
            segments.iter().map(|segment| (segment.to, segment.over.0)).collect::<Vec<_>>(),
            [(0.0, 0), (500.0, 120_000_000)]
        );
        let steady: Phase = "steady:10m".parse().unwrap();
        assert!(steady.measure && steady.devices.is_none());
        for text in ["steady:10m", "ramp:0..500/2m"] {
            assert_eq!(text.parse::<Phase>().unwrap().to_string(), text);
        }
        for (text, why) in [
            ("steady", "found `steady`"),
            (":1m", "no name"),
            ("a:500/1m", "found `a:500/1m`"),
            ("a:0..x/1m", "`x`: invalid digit"),
            ("a:0s", "longer than no time"),
            ("a:8d", "found `a:8d`"),
            ("a:200h", "at most 168h"),
        ] {
            let error = text.parse::<Phase>().unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
