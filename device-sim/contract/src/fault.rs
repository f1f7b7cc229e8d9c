//! Faults: what goes wrong with devices on purpose, with which of them, and when. One struct a kind.
//!
//! All workers begin a fault at one instant, which the plan says. Whom it hits is a pure function of the seed, the fault's
//! number and the device, so that it does not matter which worker runs the device, nor how many there are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{BitRate, Share, Span};

/// How many faults a load test has at most.
pub const FAULTS_MAX: usize = NUMBERS_PER_PHASE as usize;

/// So many numbers of faults belong to each phase, because one phase may have all faults of a test.
const NUMBERS_PER_PHASE: u32 = 64;

/// The numbers of faults that phases bring begin here; those below are given to faults by hand, one after the other.
const FIRST_OF_PHASES: u32 = 1 << 20;

/// The number of the fault at `position` of the phase of number `phase`: the same however often the phase is planned.
pub fn number(phase: u32, position: usize) -> u32 {
    let position = u32::try_from(position).unwrap_or(u32::MAX).min(NUMBERS_PER_PHASE - 1);
    FIRST_OF_PHASES.saturating_add(phase.saturating_mul(NUMBERS_PER_PHASE)).saturating_add(position)
}

/// Whom a fault hits and when it begins, in the words that all kinds share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aim<'a> {
    /// What thresholds call the fault; without it by its kind.
    pub name: Option<&'a str>,
    /// How many of the devices are hit.
    pub share: Share,
    /// The group; `None` means each.
    pub group: Option<&'a str>,
    /// What the signals of a device have to meet when it begins; `None` means nothing.
    pub condition: Option<&'a str>,
    /// From the beginning of its phase on.
    pub after: Span,
    /// How long it lasts; `None` until its phase ends.
    pub lasts: Option<Span>,
    /// Whether it is over as soon as it has begun.
    pub is_instant: bool,
}

/// The structs of the kinds, with the fields that all of them share.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $({ $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })? $timing:ident,)*) => {
        /// What goes wrong in a phase.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr)]
        #[serde(tag = "kind", rename_all = "kebab-case")]
        #[strum(serialize_all = "kebab-case")]
        pub enum Fault {
            $($(#[$doc])* $kind($kind),)*
        }

        impl Fault {
            /// Whom it hits, and when.
            pub fn aim(&self) -> Aim<'_> {
                match self {
                    $(Self::$kind(fault) => fault.aim(),)*
                }
            }
        }

        $(kinds!(@struct $timing $(#[$doc])* $kind { $($($(#[$field_doc])* $field: $type,)*)? });)*
    };
    (@struct instant $(#[$doc:meta])* $kind:ident { $($fields:tt)* }) => {
        kinds!(@fields $(#[$doc])* $kind { $($fields)* } (|_: &Self| None, true));
    };
    (@struct lasting $(#[$doc:meta])* $kind:ident { $($fields:tt)* }) => {
        kinds!(@fields $(#[$doc])* $kind {
            $($fields)*
            /// How long it lasts; until its phase ends unless said.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            lasts: Option<Span>,
        } (|fault: &Self| fault.lasts, false));
    };
    (@fields $(#[$doc:meta])* $kind:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }
        ($lasts:expr, $is_instant:expr)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct $kind {
            $($(#[$field_doc])* pub $field: $type,)*
            /// What thresholds and reports call it; its kind unless said.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub name: Option<String>,
            /// How many of the devices are hit, about: the seed decides for each of them by this chance. All unless said.
            #[serde(default = "all", skip_serializing_if = "is_all")]
            pub share: Share,
            /// The group whose devices are hit; each unless said.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub group: Option<String>,
            /// A condition on the signals of a device, such as `lat > 48.1 && lon < 11.6`, as expressions of models are written:
            /// only devices are hit that meet it at the instant when the fault begins, by a number other than 0 or by `true`.
            #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
            pub condition: Option<String>,
            /// When it begins, from the beginning of the phase on.
            #[serde(default, skip_serializing_if = "is_default")]
            pub after: Span,
        }

        impl $kind {
            fn aim(&self) -> Aim<'_> {
                let lasts: fn(&Self) -> Option<Span> = $lasts;
                Aim {
                    name: self.name.as_deref(),
                    share: self.share,
                    group: self.group.as_deref(),
                    condition: self.condition.as_deref(),
                    after: self.after,
                    lasts: lasts(self),
                    is_instant: $is_instant,
                }
            }
        }
    };
}

kinds! {
    /// Sessions end, once; the devices come back by themselves, at the fleet's pace and with its backoff.
    Disconnect {
        /// How they end.
        #[serde(default, skip_serializing_if = "is_default")]
        by: Ending,
    } instant,
    /// Sessions end at one instant, and all devices come back at once: neither `connect.rate` nor a backoff holds them. While it
    /// lasts one that fails tries again after 100 ms.
    Storm {
        /// How the sessions end.
        #[serde(default, skip_serializing_if = "is_default")]
        by: Ending,
    } lasting,
    /// Each device ends its session again and again, and comes back at the fleet's pace without a backoff.
    Churn {
        /// From one end of a device's session to the next; the seed spreads the devices over it.
        every: Span,
        /// How the sessions end.
        #[serde(default, skip_serializing_if = "is_default")]
        by: Ending,
    } lasting,
    /// The network between devices and broker swallows everything: no byte goes or comes, no connection is made, and nobody is
    /// told. What falls due meanwhile is withheld, or waits by `offline: catchUp`. The kernel of the worker still acknowledges
    /// what the broker sends.
    Blackhole {} lasting,
    /// What goes between devices and broker takes longer, in its order. What makes a connection (TCP, TLS, WebSocket) does not.
    Latency {
        /// How much longer, each way.
        delay: Span,
        /// By how much that varies, from one TCP segment to the next.
        #[serde(default, skip_serializing_if = "is_default")]
        jitter: Span,
        /// How it varies.
        #[serde(default, skip_serializing_if = "is_default")]
        spread: Spread,
        /// Which way; both unless said.
        #[serde(default, skip_serializing_if = "is_default")]
        direction: Direction,
    } lasting,
    /// No more than so many bits a second go between devices and broker, of MQTT: headers of TCP and IP are not counted.
    Bandwidth {
        /// How many, each way.
        rate: BitRate,
        /// Which way; both unless said.
        #[serde(default, skip_serializing_if = "is_default")]
        direction: Direction,
    } lasting,
    /// Devices read slowly what the broker sends, so that it waits: in the socket buffers first, then in the broker.
    SlowReader {
        /// How many bits of MQTT a device reads in a second.
        rate: BitRate,
    } lasting,
    /// Sessions end, and the devices sign in with a wrong password.
    Credentials {} lasting,
    /// What devices say is spoilt on its way out: nobody follows such messages, so that no broker is accused of them.
    Corrupt {
        /// In which way.
        #[serde(default, skip_serializing_if = "is_default")]
        how: Corruption,
        /// How many of the messages, by the seed; all unless said.
        #[serde(default = "all", skip_serializing_if = "is_all")]
        messages: Share,
        /// The stream; each unless said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stream: Option<String>,
    } lasting,
    /// Devices say what they have said once more, at once, in another packet.
    Duplicate {
        /// How many of the messages, by the seed; all unless said.
        #[serde(default = "all", skip_serializing_if = "is_all")]
        messages: Share,
        /// The stream; each unless said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stream: Option<String>,
    } lasting,
    /// Devices say what was true some time ago, with the time of then.
    Stale {
        /// How long ago.
        age: Span,
        /// The stream; each unless said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stream: Option<String>,
    } lasting,
    /// The clocks of devices are wrong: the times in their payloads.
    Clock {
        /// How far they are ahead.
        #[serde(default, skip_serializing_if = "is_default")]
        ahead: Span,
        /// How far they are behind.
        #[serde(default, skip_serializing_if = "is_default")]
        behind: Span,
        /// By how much they are faster than the right time, in millionths (ppm); negative for slower.
        #[serde(default, skip_serializing_if = "is_default")]
        drift: i32,
    } lasting,
    /// A stream sends far more often than it should, on top of what its interval says.
    Flood {
        /// From one of these messages to the next.
        every: Span,
        /// The stream; each unless said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stream: Option<String>,
    } lasting,
    /// Sensors fail, with their sessions up: nothing of their streams falls due, or they stick.
    Silence {
        /// What the sensors do.
        #[serde(default, skip_serializing_if = "is_default")]
        how: Failure,
        /// The stream; each unless said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stream: Option<String>,
    } lasting,
    /// Pods of the fleet end without a warning: they are deleted without a grace period, as `kubectl delete pod --force` does. On
    /// one machine the worker processes are killed. `share` is that of the pods, at least one. Sessions that are lost while it lasts
    /// are owed to it.
    KillPods {
        /// Which pods.
        #[serde(default, skip_serializing_if = "is_default")]
        pods: Pods,
    } lasting,
    /// A command of the author's runs, such as one that restarts the backend: in a cluster as a Job, on one machine, with
    /// `--allow-commands`, as a process. Sessions that are lost while it lasts are owed to it.
    Hook {
        /// The program and its arguments.
        command: Vec<String>,
        /// The image that has the program; a cluster needs it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<String>,
        /// In a cluster: the service account that the program speaks to the API server as; without it, it has none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service_account_name: Option<String>,
        /// How long the command may take, 5 minutes unless said; then it is ended, and has failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout: Option<Span>,
    } lasting,
}

/// Pods of a fleet.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Pods {
    /// Those that run its devices.
    #[default]
    Workers,
    /// That of its own broker; in a cluster only.
    Broker,
}

/// How a payload is spoilt.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Corruption {
    /// One to eight bits are flipped; not in the stamp, so that no message passes for another.
    #[default]
    Bits,
    /// Its end is missing.
    Truncation,
    /// JSON: one of its numbers is text.
    Type,
    /// JSON: one of its numbers is far beyond what any sensor tells.
    Range,
}

/// How a sensor fails.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Failure {
    /// It sends nothing: nothing of its stream falls due.
    #[default]
    Stops,
    /// It sends the values that it had when that began, with the present time.
    Sticks,
}

/// How a delay varies around its mean.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Spread {
    /// Evenly, by up to the jitter more or less.
    #[default]
    Uniform,
    /// By the normal distribution, of which the jitter is the standard deviation; never less than nothing.
    Normal,
    /// The delay is the least, and what comes on top is exponential: the jitter is its mean.
    Exponential,
}

/// Which way a fault of a link works.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// From the devices to the broker and back.
    #[default]
    Both,
    /// From the devices to the broker.
    Up,
    /// From the broker to the devices.
    Down,
}

/// How a device ends its session.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Ending {
    /// It says DISCONNECT first, so that the broker publishes no will.
    Disconnect,
    /// It closes the connection (TCP FIN) without a word.
    #[default]
    Close,
    /// It resets the connection (TCP RST), as a machine does that has forgotten it.
    Reset,
}

/// What `share` and `messages` are unless said.
pub(crate) const fn all() -> Share {
    Share::ALL
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
pub(crate) fn is_all(share: &Share) -> bool {
    *share == Share::ALL
}

/// Whether a field is left out of a text.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Disconnect {
    /// Connections of a share of the devices that are closed without a word.
    pub const fn of(share: Share) -> Self {
        Self { by: Ending::Close, name: None, share, group: None, condition: None, after: Span::ZERO }
    }
}

impl Hook {
    /// How long a command may take that does not say.
    pub const TIMEOUT: Span = Span::from_secs(300);

    /// How long the command may take.
    pub fn timeout(&self) -> Span {
        self.timeout.unwrap_or(Self::TIMEOUT)
    }
}

impl Fault {
    /// The name of its kind.
    pub fn kind(&self) -> &'static str {
        self.into()
    }

    /// What thresholds and reports call it.
    pub fn name(&self) -> &str {
        self.aim().name.unwrap_or_else(|| self.kind())
    }

    /// Whether it is an act of whoever drives the run, and not of the devices: workers only note what they lose by it.
    pub const fn is_act(&self) -> bool {
        matches!(self, Self::KillPods(_) | Self::Hook(_))
    }

    /// Whether it is an act that ends workers: those that start while it lasts come in place of such.
    pub const fn ends_workers(&self) -> bool {
        matches!(self, Self::KillPods(KillPods { pods: Pods::Workers, .. }))
    }

    /// The stream that it is about, if it is about one.
    pub fn stream(&self) -> Option<&str> {
        match self {
            Self::Corrupt(fault) => fault.stream.as_deref(),
            Self::Duplicate(fault) => fault.stream.as_deref(),
            Self::Stale(fault) => fault.stream.as_deref(),
            Self::Flood(fault) => fault.stream.as_deref(),
            Self::Silence(fault) => fault.stream.as_deref(),
            _ => None,
        }
    }

    /// The share that it hits, if it is nothing but connections that are closed without a word, which older releases know.
    pub fn as_cut(&self) -> Option<Share> {
        match self {
            Self::Disconnect(Disconnect { by: Ending::Close, group: None, condition: None, share, .. }) => Some(*share),
            _ => None,
        }
    }

    /// From which instant on devices can be whole again: the end of one that holds them back as long as it lasts, the beginning of
    /// another.
    pub fn lets_go<T>(&self, begins: T, ends: T) -> T {
        match self {
            Self::Disconnect(_) | Self::Storm(_) | Self::KillPods(_) | Self::Hook(_) => begins,
            Self::Churn(_)
            | Self::Blackhole(_)
            | Self::Latency(_)
            | Self::Bandwidth(_)
            | Self::SlowReader(_)
            | Self::Credentials(_)
            | Self::Corrupt(_)
            | Self::Duplicate(_)
            | Self::Stale(_)
            | Self::Clock(_)
            | Self::Flood(_)
            | Self::Silence(_) => ends,
        }
    }

    /// How long it lasts in a phase of which so much is to come; no time if it is over as soon as it has begun.
    pub fn lasts_within(&self, rest: Span) -> Span {
        let aim = self.aim();
        if aim.is_instant { Span::ZERO } else { aim.lasts.unwrap_or(rest).min(rest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_read_and_write_as_documented() {
        for (text, name, lasts) in [
            (r#"{"kind":"disconnect","share":"30%"}"#, "disconnect", 0),
            (r#"{"kind":"disconnect","by":"reset","name":"crash","group":"taxis","after":"2s"}"#, "crash", 0),
            (r#"{"kind":"storm","where":"lat > 48.1 && lon < 11.6"}"#, "storm", 60),
            (r#"{"kind":"churn","every":"5s","lasts":"20s","share":"10%"}"#, "churn", 20),
            (r#"{"kind":"blackhole","lasts":"2m"}"#, "blackhole", 60),
            (r#"{"kind":"latency","delay":"200ms"}"#, "latency", 60),
            (r#"{"kind":"latency","delay":"200ms","jitter":"50ms","spread":"normal","direction":"up"}"#, "latency", 60),
            (r#"{"kind":"bandwidth","rate":"64kbit/s","name":"edge"}"#, "edge", 60),
            (r#"{"kind":"slow-reader","rate":"9600bit/s"}"#, "slow-reader", 60),
            (r#"{"kind":"corrupt","how":"truncation","messages":"1%","stream":"speed"}"#, "corrupt", 60),
            (r#"{"kind":"duplicate","messages":"5%"}"#, "duplicate", 60),
            (r#"{"kind":"stale","age":"10m"}"#, "stale", 60),
            (r#"{"kind":"clock","ahead":"1h","drift":-50}"#, "clock", 60),
            (r#"{"kind":"flood","every":"10ms","stream":"speed"}"#, "flood", 60),
            (r#"{"kind":"credentials","share":"1%"}"#, "credentials", 60),
            (r#"{"kind":"silence","stream":"speed"}"#, "silence", 60),
            (r#"{"kind":"silence","how":"sticks","name":"stuck"}"#, "stuck", 60),
            (r#"{"kind":"kill-pods","share":"50%","lasts":"30s"}"#, "kill-pods", 30),
            (r#"{"kind":"kill-pods","pods":"broker"}"#, "kill-pods", 60),
            (r#"{"kind":"hook","command":["restart","broker"],"image":"tools:1","name":"restart"}"#, "restart", 60),
        ] {
            let fault: Fault = serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(serde_json::to_value(&fault).unwrap(), serde_json::from_str::<serde_json::Value>(text).unwrap());
            assert_eq!((fault.name(), fault.lasts_within(Span::from_secs(60))), (name, Span::from_secs(lasts)));
        }
    }

    #[test]
    fn each_fault_of_each_phase_has_a_number_of_its_own() {
        let numbers: std::collections::BTreeSet<u32> =
            (0..100).flat_map(|phase| (0..FAULTS_MAX).map(move |position| number(phase, position))).collect();
        assert_eq!(numbers.len(), 100 * FAULTS_MAX);
        assert!(numbers.first() > Some(&1_000_000));
    }
}
