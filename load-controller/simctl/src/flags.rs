//! The flags that several verbs share; a verb's own stand beside it.
//!
//! Each flag that describes a run can also be given as a variable `SIMCTL_…`; the flag wins over the variable, both win
//! over the document.

use std::{path::PathBuf, str::FromStr};

use clap::{
    ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use fleet_contract::{
    broker_url::BrokerUrl,
    fleet::{Observe, Protocol, Qos, Tls},
    units::{ParseError, Rate, Span},
};

/// Where a fleet may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Place {
    /// On this machine, by `simctl run`
    Local,
    /// In the cluster of the current context
    Cluster,
}

/// The most devices of a fleet.
pub(crate) const DEVICES_MAX: u32 = 10_000_000;

/// How many devices a fleet has: always as many, or more and more of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Devices {
    /// The most that there are.
    pub(crate) most: u32,
    /// How they come to be as many, if not at once.
    pub(crate) ramp: Option<Ramp>,
}

/// From one number of devices to another, in a straight line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ramp {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) over: Span,
}

impl From<u32> for Devices {
    fn from(most: u32) -> Self {
        Self { most, ramp: None }
    }
}

impl FromStr for Devices {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected 0 to {DEVICES_MAX} devices, or a ramp such as `0..500/60s`, found `{text}`");
        let count = |text: &str| text.parse::<u32>().ok().filter(|devices| *devices <= DEVICES_MAX).ok_or_else(wrong);
        let Some((from, rest)) = text.split_once("..") else { return count(text).map(Self::from) };
        let (to, over) = rest.split_once('/').ok_or_else(wrong)?;
        let (from, to) = (count(from)?, count(to)?);
        let over = over.parse().map_err(|error: ParseError| format!("{}: {error}", wrong()))?;
        Ok(Self { most: from.max(to), ramp: Some(Ramp { from, to, over }) })
    }
}

/// Which fleet, and what is different from its document.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct FleetFlags {
    /// The document of the fleet, which may stand among others; `-` reads standard input
    #[arg(short, long, value_name = "FILE", env = "SIMCTL_FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The fleet that is meant, where the file holds several
    #[arg(long, value_name = "NAME", env = "SIMCTL_FLEET", requires = "file")]
    pub(crate) fleet: Option<String>,
    /// How many devices, or how their number grows, such as `0..500/60s`; a document may leave that open [default: the
    /// document's, 100 without one]
    #[arg(long, value_name = "N|A..B/TIME", env = "SIMCTL_DEVICES")]
    pub(crate) devices: Option<Devices>,
    /// All devices are of this model
    #[arg(long, value_name = "NAME", env = "SIMCTL_MODEL")]
    pub(crate) model: Option<String>,
    /// Time between two messages of each periodic stream, such as `1s` or `200ms`
    #[arg(long, value_name = "TIME", env = "SIMCTL_INTERVAL", value_parser = interval)]
    pub(crate) interval: Option<Span>,
    /// Quality of service of each stream: 0, 1 or 2
    #[arg(long, value_name = "QOS", env = "SIMCTL_QOS", value_parser = qos)]
    pub(crate) qos: Option<Qos>,
    /// The broker, `mqtt://HOST:PORT`, or with mqtts, ws or wss [default: the document's, else one of its own]
    ///
    /// May be given several times, or be a list with commas: devices are spread over the addresses by their index.
    #[arg(long, value_name = "URL", env = "SIMCTL_BROKER", value_delimiter = ',')]
    pub(crate) broker: Vec<BrokerUrl>,
    /// The version of MQTT [default: the document's, else 3.1.1]
    #[arg(long, value_name = "VERSION", env = "SIMCTL_PROTOCOL", value_parser = protocol())]
    pub(crate) protocol: Option<Protocol>,
    #[command(flatten)]
    pub(crate) tls: TlsFlags,
    /// The user name, a template such as `{id}`
    #[arg(long, value_name = "NAME", env = "SIMCTL_USERNAME")]
    pub(crate) username: Option<String>,
    /// A file that holds the password
    #[arg(long, value_name = "FILE", env = "SIMCTL_PASSWORD_FILE", requires = "username")]
    pub(crate) password_file: Option<PathBuf>,
    /// The same seed gives the same devices, timetables and values
    #[arg(long, value_name = "N", env = "SIMCTL_SEED")]
    pub(crate) seed: Option<u64>,
    /// The number that the first device goes by wherever a name says `{index}`
    #[arg(long, value_name = "N", env = "SIMCTL_FIRST_INDEX", value_parser = clap::value_parser!(u32).range(..=4_000_000_000))]
    pub(crate) first_index: Option<u32>,
    /// How many devices connect a second, such as `500/s` [default: the document's, else so that all do within a minute]
    #[arg(long, value_name = "RATE", env = "SIMCTL_CONNECT_RATE")]
    pub(crate) connect_rate: Option<Rate>,
    /// Whose messages are followed to their delivery
    #[arg(long, value_name = "WHICH", env = "SIMCTL_OBSERVE", value_parser = observe())]
    pub(crate) observe: Option<Observe>,
}

/// Whom devices trust and what they show, at a broker over TLS.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct TlsFlags {
    /// A PEM file with the authorities that may sign the broker's certificate [default: the document's, else those that
    /// this machine trusts]
    #[arg(long, value_name = "FILE", env = "SIMCTL_CA")]
    pub(crate) ca: Option<PathBuf>,
    /// A PEM file with the certificate that the devices show
    #[arg(long, value_name = "FILE", env = "SIMCTL_CERTIFICATE", requires = "key")]
    pub(crate) certificate: Option<PathBuf>,
    /// A PEM file with the certificate's private key
    #[arg(long, value_name = "FILE", env = "SIMCTL_KEY", requires = "certificate")]
    pub(crate) key: Option<PathBuf>,
    /// The name that the broker's certificate must have [default: the document's, else the host of the address]
    #[arg(long, value_name = "NAME", env = "SIMCTL_SERVER_NAME")]
    pub(crate) server_name: Option<String>,
}

impl TlsFlags {
    /// Whether anything was said about TLS.
    pub(crate) const fn is_given(&self) -> bool {
        let Self { ca, certificate, key, server_name } = self;
        ca.is_some() || certificate.is_some() || key.is_some() || server_name.is_some()
    }

    /// Changes what a document says: an authority takes the place of whatever else is trusted there, a certificate that
    /// of any other.
    pub(crate) fn apply(&self, tls: &mut Tls) {
        let Self { ca, certificate, key, server_name } = self;
        let text = |file: &PathBuf| file.display().to_string();
        if let Some(ca) = ca {
            (tls.ca, tls.ca_secret_name, tls.insecure_skip_verify) = (Some(text(ca)), None, false);
        }
        if certificate.is_some() || key.is_some() {
            tls.certificate = certificate.as_ref().map(text);
            tls.key = key.as_ref().map(text);
            tls.secret_name = None;
        }
        if server_name.is_some() {
            tls.server_name.clone_from(server_name);
        }
    }
}

/// Which of the runs on this machine.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct RunFlag {
    /// The run that is meant, when there are several: a fleet's name or a process id
    #[arg(long, value_name = "NAME|PID", env = "SIMCTL_RUN")]
    pub(crate) run: Option<String>,
}

/// Where the fleet runs, and which one is meant.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct TargetFlags {
    /// Where the fleet runs [default: on this machine if a run answers, else in the cluster of the current context]
    #[arg(long, value_name = "WHERE", env = "SIMCTL_TARGET")]
    pub(crate) target: Option<Place>,
    #[command(flatten)]
    pub(crate) run: RunFlag,
    #[command(flatten)]
    pub(crate) cluster: ClusterFlags,
}

/// Which cluster, and which namespace of it; the flags of kubectl.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct ClusterFlags {
    /// The namespace [default: the context's]
    #[arg(short, long, value_name = "NAME", help_heading = CLUSTER)]
    pub(crate) namespace: Option<String>,
    /// The context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME", help_heading = CLUSTER)]
    pub(crate) context: Option<String>,
    /// The kubeconfig [default: KUBECONFIG, else ~/.kube/config]
    #[arg(long, value_name = "FILE", help_heading = CLUSTER)]
    pub(crate) kubeconfig: Option<PathBuf>,
}

const CLUSTER: &str = "Cluster";

impl ClusterFlags {
    /// Whether anything was said about the cluster.
    pub(crate) const fn is_given(&self) -> bool {
        let Self { namespace, context, kubeconfig } = self;
        namespace.is_some() || context.is_some() || kubeconfig.is_some()
    }
}

/// A length of time that is not zero.
pub(crate) fn interval(text: &str) -> Result<Span, String> {
    match text.parse::<Span>() {
        Ok(Span::ZERO) => Err("expected more than no time, found `0s`".into()),
        Ok(span) => Ok(span),
        Err(error) => Err(error.to_string()),
    }
}

fn qos(text: &str) -> Result<Qos, String> {
    text.parse::<u8>().map_err(|_| format!("expected a QoS of 0, 1 or 2, found `{text}`")).and_then(Qos::try_from)
}

fn protocol() -> impl TypedValueParser<Value = Protocol> {
    PossibleValuesParser::new(["3.1.1", "5"]).map(|version| match version.as_str() {
        "5" => Protocol::V5,
        _ => Protocol::V311,
    })
}

fn observe() -> impl TypedValueParser<Value = Observe> {
    PossibleValuesParser::new(["all", "sample", "none"]).map(|which| match which.as_str() {
        "all" => Observe::All,
        "sample" => Observe::Sample,
        _ => Observe::None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_more_than_nothing() {
        assert!(interval("0s").is_err() && interval("soon").is_err());
        assert_eq!(interval("200ms"), Ok(Span::from_millis(200)));
    }

    #[test]
    fn what_flags_say_of_tls_takes_the_place_of_what_the_document_says() {
        let mut tls = Tls {
            ca_secret_name: Some("authority".into()),
            secret_name: Some("identity".into()),
            server_name: Some("kept.example".into()),
            insecure_skip_verify: true,
            ..Tls::default()
        };
        let flags = TlsFlags {
            ca: Some("ca.pem".into()),
            certificate: Some("device.pem".into()),
            key: Some("device.key".into()),
            server_name: None,
        };
        flags.apply(&mut tls);
        let expected = Tls {
            ca: Some("ca.pem".into()),
            certificate: Some("device.pem".into()),
            key: Some("device.key".into()),
            server_name: Some("kept.example".into()),
            ..Tls::default()
        };
        assert_eq!(tls, expected);
    }
}
