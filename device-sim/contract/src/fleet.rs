//! `kind: Fleet`: a population of simulated devices, described by one document.
//!
//! The same file serves `simctl run -f` on a laptop and `kubectl apply -f` on a cluster.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod check;
mod pod;
mod subscription;

pub use crate::{model::StreamOverride, qos::Qos};
pub use check::check;
pub use pod::{BrokerResources, OWN_LABELS, OWN_PREFIX, PodSpec, PullPolicy, Sysctl, Toleration};
pub use subscription::{RetainHandling, Subscription};

use crate::{
    broker_url::BrokerUrl,
    model::{Model, Stream},
    template::Template,
    units::{Bytes, Rate, Share, Span},
};

/// The API group and version of every document.
pub const API_VERSION: &str = "simctl.io/v1alpha1";

/// A population of simulated devices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fleet {
    /// `simctl.io/v1alpha1`
    pub api_version: ApiVersion,
    /// `Fleet`
    pub kind: Kind,
    /// Its name, as Kubernetes has it.
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: FleetSpec,
}

/// The one version there is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// The first one; it may still change.
    #[default]
    #[serde(rename = "simctl.io/v1alpha1")]
    V1Alpha1,
}

/// What a document is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// A population of devices.
    #[default]
    Fleet,
}

/// Name and labels, as Kubernetes has them.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Lower-case letters, digits and `-`; at most 40 characters. Client ids carry it unless `clientId` does not.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"))]
    pub name: String,
    /// The namespace on a cluster; without meaning on one machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Labels for people and selectors.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations for tools.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What is wanted of a fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FleetSpec {
    /// How many devices there are: the number that `simctl scale` changes, 0 to 10,000,000. Left out, the number is that
    /// of whoever scales the fleet: a new fleet of a cluster begins with 0, and `simctl run` takes `--devices`.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub devices: u32,
    /// How many of them one pod runs on a cluster, 1 to 20,000.
    #[serde(default = "FleetSpec::default_devices_per_pod")]
    #[schemars(range(min = 1, max = 20_000))]
    pub devices_per_pod: u32,
    /// The same seed gives the same devices, timetables and values.
    #[serde(default)]
    pub seed: u64,
    /// Where the devices connect to. Without it `simctl run` starts a broker of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<BrokerSpec>,
    /// How the devices connect and stay connected.
    #[serde(default)]
    pub connect: Connect,
    /// The number that the first device goes by wherever a name or a body says `{index}`: with 1001 the devices are 1001,
    /// 1002 and so on. `simctl device` and reports count from 0.
    #[serde(default, skip_serializing_if = "is_first")]
    #[schemars(range(max = 4_000_000_000_u32))]
    pub first_index: u32,
    /// The client id of each device; it must name the device. One without the fleet's name, such as a serial number, is
    /// taken for what it is: if two fleets have it, the broker gives the session to the one and then to the other, and the
    /// run says so.
    #[serde(default = "FleetSpec::default_client_id")]
    pub client_id: String,
    /// Which devices' messages are followed to their delivery.
    #[serde(default)]
    pub observe: Observe,
    /// How they are followed.
    #[serde(default)]
    pub observer: Observer,
    /// What a device does about messages that fell due while it was offline.
    #[serde(default)]
    pub offline: Offline,
    /// A message that has not arrived so long after it was sent, or after the last reconnect, is lost.
    #[serde(default = "FleetSpec::default_loss_after")]
    pub loss_after: Span,
    /// What the fleet consists of; the shares add up to 100 %.
    #[schemars(length(min = 1))]
    pub groups: Vec<Group>,
    /// Models written in this document, by name; they come before the built-in ones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, Model>,
    /// Where a cluster finds models that are neither in this document nor built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models_from: Option<ModelsFrom>,
    /// Whether the devices hold their messages back, with their sessions up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Intervals that are not the models' own, by the stream's name; `"*"` means each periodic stream.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub intervals: BTreeMap<String, Span>,
    /// What is special about the fleet's pods; a run on one machine has none.
    #[serde(default, skip_serializing_if = "PodSpec::is_default")]
    pub pod: PodSpec,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_first(index: &u32) -> bool {
    *index == 0
}

impl FleetSpec {
    /// The version of MQTT that the devices and the observer speak. simctl's own broker speaks 3.1.1.
    pub fn protocol(&self) -> Protocol {
        self.broker.as_ref().map_or(Protocol::V311, |broker| broker.protocol)
    }

    /// Whether the document leaves the broker to simctl: it names no address.
    pub fn has_own_broker(&self) -> bool {
        self.broker.as_ref().is_none_or(|broker| broker.addresses().is_empty())
    }

    /// What [`FleetSpec::intervals`] calls all periodic streams.
    pub const ALL_STREAMS: &'static str = "*";

    const fn default_devices_per_pod() -> u32 {
        1_000
    }

    fn default_client_id() -> String {
        "{fleet}-{index}".into()
    }

    const fn default_loss_after() -> Span {
        Span::from_secs(10)
    }
}

/// A source of models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelsFrom {
    /// A ConfigMap of the fleet's namespace: the key `NAME.yaml` holds the model NAME, any other key a file that a model
    /// replays.
    pub config_map: String,
}

/// Where the devices connect to, and as whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BrokerSpec {
    /// `mqtt://host:port`; a host without a scheme means `mqtt://`, without a port 1883. `mqtts://` is TLS, port 8883;
    /// `ws://host/path` is WebSocket, port 80, and `wss://` WebSocket over TLS, port 443, both by default at `/mqtt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<BrokerUrl>,
    /// In place of `url`: up to 16 such addresses of one scheme, over which the devices are spread by their index.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    pub urls: Vec<BrokerUrl>,
    /// The version of MQTT.
    #[serde(default)]
    pub protocol: Protocol,
    /// As whom; without it anonymously.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// Whom to trust and what to show with `mqtts://` and `wss://`; without it what the machine trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Over WebSocket: fields of the request that asks for the upgrade, by their names, such as `Authorization` for a
    /// gateway. They are the same for all devices, and as public as the document; at most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub headers: BTreeMap<String, String>,
    /// On a cluster, without an address: which pods may reach the fleet's own broker. They need its credentials as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<BrokerAccess>,
}

/// Which pods may reach a fleet's own broker.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BrokerAccess {
    /// Those of the fleet's namespace.
    #[default]
    Namespace,
    /// All of the cluster.
    Cluster,
}

impl BrokerSpec {
    /// The most addresses that a fleet is spread over.
    pub const ADDRESSES_MAX: usize = 16;

    /// MQTT 3.1.1 at these addresses, anonymously.
    pub fn at(addresses: Vec<BrokerUrl>) -> Self {
        let mut broker = Self {
            url: None,
            urls: Vec::new(),
            protocol: Protocol::default(),
            credentials: None,
            tls: None,
            headers: BTreeMap::new(),
            access: None,
        };
        broker.set_addresses(addresses);
        broker
    }

    /// All addresses: device *i* connects to the *i*-th, counted around. There is none where the document leaves the
    /// broker to simctl.
    pub fn addresses(&self) -> &[BrokerUrl] {
        if self.urls.is_empty() { self.url.as_slice() } else { &self.urls }
    }

    /// Puts other addresses in place of the present ones.
    pub fn set_addresses(&mut self, addresses: Vec<BrokerUrl>) {
        match <[BrokerUrl; 1]>::try_from(addresses) {
            Ok([url]) => (self.url, self.urls) = (Some(url), Vec::new()),
            Err(urls) => (self.url, self.urls) = (None, urls),
        }
    }

    /// The addresses as people read them.
    pub fn names(&self) -> String {
        let names: Vec<_> = self.addresses().iter().map(ToString::to_string).collect();
        names.join(", ")
    }
}

/// Whom devices trust and what they show over TLS; keys are never written in a document.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tls {
    /// A PEM file with the authorities that may sign the broker's certificate, instead of those that the machine
    /// trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// A PEM file with the certificate that the devices show, followed by those between it and its authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// A PEM file with the certificate's private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// On a cluster: a Secret whose key `ca.crt` holds the authorities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret_name: Option<String>,
    /// On a cluster: a Secret, of type `kubernetes.io/tls`, whose keys `tls.crt` and `tls.key` hold certificate and key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// The name that is asked for and that the broker's certificate must have, if it is not the host of the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Whether any certificate is accepted, whoever signed it and whatever its name: for tests of brokers alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure_skip_verify: bool,
    /// The protocols that are offered in the handshake (ALPN, RFC 7301), such as `x-amzn-mqtt-ca` for AWS IoT on port 443.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub alpn: Vec<String>,
}

/// A version of MQTT.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::Display)]
pub enum Protocol {
    /// MQTT 3.1.1 (OASIS, 2014).
    #[default]
    #[serde(rename = "3.1.1")]
    #[strum(serialize = "3.1.1")]
    V311,
    /// MQTT 5.0 (OASIS, 2019); in YAML in quotes, since it is a number otherwise.
    #[serde(rename = "5")]
    #[strum(serialize = "5")]
    V5,
}

/// User name and password: the name may be a template, the password is never written in a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credentials {
    /// The user name; `{id}`, `{index}`, `{group}` and `{fleet}` stand for the device's.
    pub username: String,
    /// A file that holds the password: all of its bytes but for one line end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<String>,
    /// An environment variable that holds the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_env: Option<String>,
    /// On a cluster: a Secret whose key `password` holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
}

/// How devices connect and stay connected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Connect {
    /// How many of the fleet's devices connect a second, at the start, at growth and after an outage.
    pub rate: Rate,
    /// Each connection attempt is put off by up to so long, at random.
    pub jitter: Span,
    /// A PINGREQ follows when a device has sent nothing for so long; `0s` switches it off.
    pub keep_alive: Span,
    /// Whether the broker keeps the session of a device that goes away.
    pub session: SessionKind,
    /// How many QoS 1 and 2 messages of a device may wait for their acknowledgement, 1 to 65,535.
    #[schemars(range(min = 1, max = 65_535))]
    pub in_flight: u16,
    /// How many messages of a device may wait for a place in flight before the next is withheld.
    #[schemars(range(min = 0, max = 65_535))]
    pub queue: u16,
    /// The largest packet that a device takes from the broker, up to 16 MiB; a larger one ends its connection. In MQTT 5
    /// the broker is told a limit that is set, and drops what is larger. Without it 1 MiB, and the broker is not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_packet: Option<Bytes>,
    /// How long a device waits for the connection, with TLS and WebSocket, and again for the CONNACK.
    pub timeout: Span,
    /// How long a device waits before it connects again.
    pub backoff: Backoff,
    /// What the broker publishes when a device goes without a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub will: Option<Will>,
    /// What a device publishes first of all each time that the broker has accepted its session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub birth: Option<Birth>,
    /// MQTT 5, with a persistent session: how long the broker keeps the session of a device that has gone; without it
    /// for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_expiry: Option<Span>,
    /// MQTT 5: how many topics a device sends as aliases, as far as the broker takes them, 0 to 64; without it 16.
    #[schemars(range(min = 0, max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_aliases: Option<u16>,
    /// MQTT 5: what each device says of itself when it connects, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub user_properties: BTreeMap<String, String>,
}

impl Default for Connect {
    fn default() -> Self {
        Self {
            rate: Rate::per_second(500.0).expect("500 is positive"),
            jitter: Span::ZERO,
            keep_alive: Span::from_secs(60),
            session: SessionKind::Clean,
            in_flight: 32,
            queue: 32,
            max_packet: None,
            timeout: Span::from_secs(10),
            backoff: Backoff::default(),
            will: None,
            birth: None,
            session_expiry: None,
            topic_aliases: None,
            user_properties: BTreeMap::new(),
        }
    }
}

impl Connect {
    /// What [`Connect::max_packet`] may be, in bytes. A CONNACK with all that a broker may say in it fits the lowest.
    pub const MAX_PACKET: std::ops::RangeInclusive<u64> = 1 << 10..=1 << 24;

    /// The largest packet that a device takes from the broker, in bytes.
    pub fn packet_max(&self) -> u32 {
        self.max_packet.and_then(|bytes| u32::try_from(bytes.0).ok()).unwrap_or(1 << 20)
    }
}

/// Whether the broker keeps a session beyond its connection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SessionKind {
    /// Each connection starts anew; what was in flight is given up.
    #[default]
    Clean,
    /// The broker keeps the session; what was in flight is sent again.
    Persistent,
}

/// Exponential backoff with full jitter: attempt n waits a random time up to min(cap, base · 2ⁿ).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Backoff {
    /// The longest wait of the first attempt.
    pub base: Span,
    /// The longest wait of all.
    pub cap: Span,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Span::from_secs(1), cap: Span::from_secs(60) }
    }
}

/// The message that the broker publishes when a device goes without a DISCONNECT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Will {
    /// Its topic, a template.
    pub topic: String,
    /// Its payload, a template.
    pub payload: String,
    /// Its quality of service.
    #[serde(default)]
    pub qos: Qos,
    /// Whether the broker retains it.
    #[serde(default)]
    pub retain: bool,
    /// MQTT 5: how long the broker waits for the device to come back before it publishes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span>,
}

impl Will {
    /// Whether its topic or its payload says which device it is of; `client_id` is the template of the fleet's client ids.
    pub fn names_device(&self, client_id: &str) -> bool {
        let parse = |text: &str| text.parse::<Template>().ok();
        let names = |text: &str| {
            parse(text)
                .zip(parse(client_id))
                .is_some_and(|(template, client_id)| template.identifies_device(&client_id))
        };
        names(&self.topic) || names(&self.payload)
    }
}

/// The message that a device publishes when the broker has accepted its session: what takes back the will.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Birth {
    /// Its topic, a template.
    pub topic: String,
    /// Its payload, a template; `{timestamp}` and `{seq}` stand for the message's.
    pub payload: String,
    /// Its quality of service.
    #[serde(default)]
    pub qos: Qos,
    /// Whether the broker retains it.
    #[serde(default)]
    pub retain: bool,
}

/// Which devices' messages are followed to their delivery.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Observe {
    /// Every device's.
    #[default]
    All,
    /// Those of `observer.sample` of the devices.
    Sample,
    /// Nobody's: acknowledgements decide, delivered and lost are unknown.
    None,
}

/// How messages are followed: as a subscriber with a session of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Observer {
    /// The share of the devices that `observe: sample` follows.
    pub sample: Share,
    /// As whom the observer connects; without it as the devices do, with `observer` for `{id}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
}

impl Default for Observer {
    fn default() -> Self {
        Self { sample: Share::from_basis_points(1_000).expect("1,000 is within 10,000"), credentials: None }
    }
}

/// What a device does about messages that fell due while it was offline.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Offline {
    /// They are offered and withheld.
    #[default]
    Skip,
    /// The newest `max` of each stream are sent after the reconnect, with their own due times.
    CatchUp {
        /// How many of each stream, 1 to 10,000.
        #[schemars(range(min = 1, max = 10_000))]
        max: u32,
    },
}

/// A share of the fleet with its own model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    /// Its name: lower-case letters, digits and `-`.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"))]
    pub name: String,
    /// Its share of the fleet; one group may leave it out and gets what the others leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
    /// The name of a model: of this document, of `./models/NAME.yaml`, or built in.
    pub model: String,
    /// What is different from the model, stream by stream.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub streams: BTreeMap<String, StreamOverride>,
    /// What each of its devices subscribes to, for example its commands; at most 16 filters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub subscriptions: Vec<Subscription>,
}

impl Group {
    /// A stream as this group means it: the model's, with what the group changes.
    pub fn stream(&self, name: &str, stream: &Stream) -> Stream {
        let mut stream = stream.clone();
        if let Some(change) = self.streams.get(name) {
            change.apply(&mut stream);
        }
        stream
    }
}
