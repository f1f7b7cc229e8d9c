//! Faults that a stream has by itself: a fleet misbehaves all day, without a load test.
//!
//! Faults of load tests hit devices at one instant ([`crate::fault`]). These hit messages of every device, each by itself: single
//! ones by chance, or those of episodes, which come about once in a while.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    fault::{Corruption, Failure, all, is_all, is_default},
    units::{Share, Span},
};

/// How many faults a stream has at most.
pub const STREAM_FAULTS_MAX: usize = 16;

/// The shortest time from one message of a flood to the next: a device has a turn each millisecond.
pub const FLOOD_MIN: Span = Span::from_millis(1);

/// What goes wrong with messages of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum StreamFault {
    /// Payloads are spoilt on their way out.
    Corrupt(CorruptMessages),
    /// Messages are sent once more, at once, in another packet.
    Duplicate(DuplicateMessages),
    /// Messages tell what was true some time ago, with the time of then.
    Stale(StaleMessages),
    /// Episodes in which the sensor stops or sticks.
    Silence(SilentEpisodes),
    /// Episodes in which the stream sends far more often than it should, on top of what its interval says.
    Flood(FloodEpisodes),
}

/// Payloads are spoilt on their way out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CorruptMessages {
    /// In which way.
    #[serde(default, skip_serializing_if = "is_default")]
    pub how: Corruption,
    /// How many of the messages, by the seed; all unless said.
    #[serde(default = "all", skip_serializing_if = "is_all")]
    pub messages: Share,
}

/// Messages are sent once more, at once, in another packet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DuplicateMessages {
    /// How many of the messages, by the seed; all unless said.
    #[serde(default = "all", skip_serializing_if = "is_all")]
    pub messages: Share,
}

/// Messages tell what was true some time ago, with the time of then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StaleMessages {
    /// How long ago.
    pub age: Span,
    /// How many of the messages, by the seed; all unless said.
    #[serde(default = "all", skip_serializing_if = "is_all")]
    pub messages: Share,
}

/// Episodes in which the sensor stops or sticks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SilentEpisodes {
    /// A device has one episode in each such time, at an instant that the seed draws for each device.
    pub every: Span,
    /// How long an episode lasts.
    pub lasts: Span,
    /// What the sensor does.
    #[serde(default, skip_serializing_if = "is_default")]
    pub how: Failure,
}

/// Episodes in which the stream sends far more often than it should.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FloodEpisodes {
    /// A device has one episode in each such time, at an instant that the seed draws for each device.
    pub every: Span,
    /// How long an episode lasts.
    pub lasts: Span,
    /// From one of its messages to the next.
    pub interval: Span,
}

/// What faults do to the rate of a stream, on average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateEffect {
    /// Messages a second that floods add.
    pub added: f64,
    /// The share of the messages that silences let be sent, 0 to 1.
    pub kept: f64,
    /// The share of the messages that are sent once more; more than 1 where several faults do that.
    pub again: f64,
}

impl RateEffect {
    /// What these faults do.
    pub fn of(faults: &[StreamFault]) -> Self {
        let mut effect = Self { added: 0.0, kept: 1.0, again: 0.0 };
        let share = |lasts: Span, every: Span| (lasts.as_secs_f64() / every.as_secs_f64().max(1e-6)).min(1.0);
        for fault in faults {
            match fault {
                StreamFault::Corrupt(_)
                | StreamFault::Stale(_)
                | StreamFault::Silence(SilentEpisodes { how: Failure::Sticks, .. }) => {}
                StreamFault::Duplicate(duplicate) => effect.again += duplicate.messages.fraction(),
                StreamFault::Silence(silence) => effect.kept *= 1.0 - share(silence.lasts, silence.every),
                StreamFault::Flood(flood) => {
                    effect.added += share(flood.lasts, flood.every) / flood.interval.as_secs_f64().max(1e-6);
                }
            }
        }
        effect
    }

    /// How many messages a second come of `rate` messages a second.
    pub fn rate(self, rate: f64) -> f64 {
        (rate + self.added) * self.kept * (1.0 + self.again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_read_and_write_as_documented() {
        for text in [
            r#"{"kind":"corrupt","messages":"1%"}"#,
            r#"{"kind":"corrupt","how":"truncation"}"#,
            r#"{"kind":"duplicate","messages":"0.5%"}"#,
            r#"{"kind":"stale","age":"30s","messages":"2%"}"#,
            r#"{"kind":"silence","every":"10m","lasts":"30s"}"#,
            r#"{"kind":"silence","every":"10m","lasts":"30s","how":"sticks"}"#,
            r#"{"kind":"flood","every":"1h","lasts":"10s","interval":"5ms"}"#,
        ] {
            let fault: StreamFault = serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(serde_json::to_value(&fault).unwrap(), serde_json::from_str::<serde_json::Value>(text).unwrap());
        }
        // Whom and when are words of load tests.
        for word in [r#""share":"1%""#, r#""group":"a""#, r#""after":"1s""#] {
            let text = format!(r#"{{"kind":"duplicate",{word}}}"#);
            assert!(serde_json::from_str::<StreamFault>(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rate_gains_by_floods_and_duplicates_and_loses_by_silences() {
        let effect = |text: &str| RateEffect::of(&serde_saphyr::from_str::<Vec<StreamFault>>(text).unwrap());
        let effect = |text: &str, expected: f64| {
            let found = effect(text).rate(2.0);
            assert!((found - expected).abs() < 1e-9, "{text}: {found}");
        };
        effect("[]", 2.0);
        effect("[{kind: corrupt}, {kind: stale, age: 1m}]", 2.0);
        effect("[{kind: silence, every: 10s, lasts: 5s, how: sticks}]", 2.0);
        effect("[{kind: duplicate, messages: 50%}]", 3.0);
        effect("[{kind: silence, every: 10s, lasts: 5s}]", 1.0);
        effect("[{kind: flood, every: 10s, lasts: 5s, interval: 125ms}]", 6.0);
    }
}
