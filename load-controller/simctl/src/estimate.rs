//! What a fleet will take: messages, bytes, CPU, memory, ports and worker processes, by the costs of
//! [`fleet_contract::cost`]. Pure.
//!
//! How often a rule fires is found by trying devices with the engine's own model. The size of a pod, in
//! [`load_controller::resource::size`], takes a fixed share of the looks instead, so the two differ where rules send: the
//! controller decides it without the engine, and again at each look at a fleet.

use std::time::Duration;

use device_sim::{
    index::StreamIndex,
    model::{Context, Model, Stream},
};
use fleet_contract::{
    cost::{self, DEVICE_BYTES, KERNEL_BYTES, RUN_BYTES, StreamLoad, TLS_BYTES, WORKER_BYTES},
    fleet::{BrokerSpec, Fleet, FleetSpec, Qos},
    plan::Plan,
    share::Membership,
    split::Split,
    template::Template,
    time::Micros,
    units::Span,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{document::Document, exit::Failure};

/// Bytes of a PUBLISH around topic and payload: fixed header, topic length, packet id; and of its acknowledgement.
const PUBLISH_OVERHEAD: f64 = 7.0;

/// What a fleet will take.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Estimate {
    /// The fleet's name.
    pub(crate) fleet: String,
    /// Its devices.
    pub(crate) devices: u32,
    /// The groups, and what their devices send.
    pub(crate) groups: Vec<GroupEstimate>,
    /// Messages a second.
    pub(crate) messages_per_second: f64,
    /// Bytes of MQTT a second.
    pub(crate) bytes_per_second: f64,
    /// CPU of the generator, in cores.
    pub(crate) cpu_cores: f64,
    /// Memory of the generator and, for its sockets, of the kernel, in bytes.
    pub(crate) memory_bytes: u64,
    /// Of that, what one device takes, in bytes.
    pub(crate) device_bytes: u64,
    /// Source ports, one a connection.
    pub(crate) ports: u64,
    /// Worker processes.
    pub(crate) workers: u32,
    /// Engine threads of each.
    #[serde(skip)]
    pub(crate) threads: u32,
    /// The share of the devices that are observed.
    #[serde(skip)]
    pub(crate) observed: f64,
    /// Seconds until the last device connects.
    pub(crate) connect_seconds: f64,
}

/// What a group sends.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GroupEstimate {
    /// Its name.
    pub(crate) name: String,
    /// Its model.
    pub(crate) model: String,
    /// Its devices.
    pub(crate) devices: u32,
    /// Its streams.
    pub(crate) streams: Vec<StreamEstimate>,
}

/// What a stream sends, all devices of the group together.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StreamEstimate {
    /// Its name.
    pub(crate) name: String,
    /// Its quality of service.
    pub(crate) qos: Qos,
    /// The time between two messages of a device; none for a stream that follows a rule.
    pub(crate) interval_seconds: Option<f64>,
    /// Messages a second, with what the stream's faults add and leave out.
    pub(crate) messages_per_second: f64,
    /// Of these, what floods add, whatever the interval.
    #[serde(skip)]
    flood_per_second: f64,
    /// How often a second a stream that follows a rule is looked at.
    #[serde(skip)]
    looks_per_second: f64,
    /// Bytes of topic and payload in a message, on average.
    pub(crate) message_bytes: f64,
}

/// Compiles the model of the group at `position`.
pub(crate) fn compile(document: &Document, position: usize) -> Result<Model, Failure> {
    let fleet = &document.fleet;
    let group = &fleet.spec.groups[position];
    let template = |text: &str| text.parse::<Template>().map_err(|error| Failure::document(error.to_string()));
    let client_id = template(&fleet.spec.client_id)?;
    let context = Context {
        fleet: &fleet.metadata.name,
        group: &group.name,
        seed: fleet.spec.seed,
        first_index: fleet.spec.first_index,
        client_id: &client_id,
        files: &document.files,
    };
    let model = fleet
        .spec
        .models
        .get(&group.model)
        .ok_or_else(|| Failure::document(format!("there is no model `{}`", group.model)))?;
    Model::compile(model, &group.streams, &context).map_err(|problems| {
        let lines: Vec<_> = problems.iter().map(|problem| format!("model {}: {problem}", group.model)).collect();
        Failure::document(lines.join("\n"))
    })
}

/// The groups of a fleet as a function of the index.
pub(crate) fn membership(fleet: &Fleet) -> Result<Membership, Failure> {
    let shares: Vec<_> = fleet.spec.groups.iter().map(|group| group.share).collect();
    Membership::new(&shares).map_err(|error| Failure::document(error.to_string()))
}

impl Estimate {
    /// What the fleet of a checked document will take if one process may hold `per_process` devices on so many
    /// `threads`.
    pub(crate) fn new(document: &Document, per_process: u32, threads: u32) -> Result<Self, Failure> {
        let fleet = &document.fleet;
        let spec = &fleet.spec;
        let membership = membership(fleet)?;
        let mut groups = Vec::new();
        for (position, group) in spec.groups.iter().enumerate() {
            let devices = membership.count(position, spec.devices);
            let streams = streams(&compile(document, position)?, devices);
            groups.push(GroupEstimate { name: group.name.clone(), model: group.model.clone(), devices, streams });
        }
        let streams = || all_streams(&groups);
        let observed = cost::observed_share(spec);
        let workers = Split::new(spec.devices, per_process).workers(spec.devices);
        let devices = u64::from(spec.devices);
        // Each worker observes each of them.
        let brokers = spec.broker.as_ref().map_or(1, |broker| broker.addresses().len() as u64);
        Ok(Self {
            fleet: fleet.metadata.name.clone(),
            devices: spec.devices,
            messages_per_second: streams().map(|stream| stream.messages_per_second).sum(),
            bytes_per_second: streams().map(StreamEstimate::bytes_per_second).sum(),
            cpu_cores: cpu_cores(streams(), 1.0, observed, workers * threads),
            memory_bytes: RUN_BYTES + u64::from(workers) * WORKER_BYTES + devices * device_bytes(spec),
            device_bytes: device_bytes(spec),
            ports: devices + u64::from(observed > 0.0) * u64::from(workers) * brokers,
            workers,
            threads,
            observed,
            connect_seconds: spec.connect.rate.time_for(devices.saturating_sub(1)).as_secs_f64(),
            groups,
        })
    }

    /// The same fleet with the most devices and the shortest intervals that a plan has from `now` on.
    pub(crate) fn under(&self, plan: &Plan, now: Micros) -> Self {
        let mut changed = self.clone();
        for group in &mut changed.groups {
            for stream in &mut group.streams {
                let Some(seconds) = stream.interval_seconds else { continue };
                let document = Span::from(Duration::from_secs_f64(seconds));
                let interval = plan.pace(&group.name, &stream.name, document).shortest(now);
                let by_time = stream.messages_per_second - stream.flood_per_second;
                stream.messages_per_second = by_time * seconds / interval.as_secs_f64() + stream.flood_per_second;
                stream.interval_seconds = Some(interval.as_secs_f64());
            }
        }
        changed.messages_per_second = all_streams(&changed.groups).map(|stream| stream.messages_per_second).sum();
        changed.bytes_per_second = all_streams(&changed.groups).map(StreamEstimate::bytes_per_second).sum();
        changed.scaled(plan.devices_max(now))
    }

    /// The same fleet with another number of devices; groups and streams stay those of the document.
    fn scaled(&self, devices: u32) -> Self {
        let per_worker = self.devices.div_ceil(self.workers.max(1)).max(1);
        let factor = f64::from(devices) / f64::from(self.devices.max(1));
        let workers = if self.workers > 1 { devices.div_ceil(per_worker).max(1) } else { self.workers };
        let grown = u64::from(devices) * self.device_bytes;
        let base = self.memory_bytes.saturating_sub(u64::from(self.devices) * self.device_bytes);
        Self {
            devices,
            messages_per_second: self.messages_per_second * factor,
            bytes_per_second: self.bytes_per_second * factor,
            cpu_cores: cpu_cores(all_streams(&self.groups), factor, self.observed, workers * self.threads),
            memory_bytes: base + grown,
            ports: self.ports.saturating_sub(self.devices.into()) + u64::from(devices),
            workers,
            ..self.clone()
        }
    }
}

impl StreamEstimate {
    /// Bytes of MQTT a second.
    fn bytes_per_second(&self) -> f64 {
        self.messages_per_second * (self.message_bytes + PUBLISH_OVERHEAD)
    }
}

fn all_streams(groups: &[GroupEstimate]) -> impl Iterator<Item = &StreamEstimate> {
    groups.iter().flat_map(|group| &group.streams)
}

/// The CPU of `factor` times these streams, spread over `threads`.
fn cpu_cores<'a>(streams: impl Iterator<Item = &'a StreamEstimate>, factor: f64, observed: f64, threads: u32) -> f64 {
    let load = |stream: &StreamEstimate| StreamLoad {
        qos: stream.qos,
        messages: factor * stream.messages_per_second,
        looks: factor * stream.looks_per_second,
        interval: stream.interval_seconds.map(|seconds| Span::from(Duration::from_secs_f64(seconds))),
    };
    cost::cpu_cores(streams.map(load), observed, threads)
}

fn streams(model: &Model, devices: u32) -> Vec<StreamEstimate> {
    // Any instant does: the figures are averages over devices and time.
    let start = Micros(1_700_000_000_000_000);
    let stream = |(index, stream): (StreamIndex, &Stream)| {
        let (messages, bytes) = model.stream_load(index, start);
        StreamEstimate {
            name: stream.name().into(),
            qos: stream.qos(),
            interval_seconds: stream.interval().map(Span::as_secs_f64),
            messages_per_second: messages * f64::from(devices),
            flood_per_second: stream.rate_effect().rate(0.0) * f64::from(devices),
            looks_per_second: match stream.interval() {
                Some(_) => 0.0,
                None => f64::from(devices) / stream.tick().as_secs_f64(),
            },
            message_bytes: if messages > 0.0 { bytes / messages } else { 0.0 },
        }
    };
    model.indexed_streams().map(stream).collect()
}

/// What a device takes, with the kernel's end of its connection.
fn device_bytes(spec: &FleetSpec) -> u64 {
    let addresses = spec.broker.as_ref().map(BrokerSpec::addresses).unwrap_or_default();
    let is_secure = addresses.iter().any(|url| url.transport().is_secure());
    DEVICE_BYTES + KERNEL_BYTES + if is_secure { TLS_BYTES } else { 0 }
}

#[cfg(test)]
mod tests {
    use fleet_contract::{plan::Setting, units::Factor};

    use super::*;
    use crate::{document::from_text, library};

    fn document(devices: u32, qos: Qos) -> Document {
        let text = format!(
            "apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {{name: demo}}
spec:
  devices: {devices}
  groups: [{{name: a, share: 50%, model: m}}, {{name: b, model: m, streams: {{state: {{interval: 10s}}}}}}]
  models:
    m:
      streams: {{state: {{topic: 'f/{{index}}', interval: 1s, qos: {}, size: 200B, payload: {{json: {{}}}}}}}}",
            u8::from(qos)
        );
        from_text("f", &text, None).unwrap()
    }

    #[test]
    fn messages_and_bytes_follow_from_the_document() {
        let estimate = Estimate::new(&document(1_000, Qos::AtMostOnce), 20_000, 1).unwrap();
        assert_eq!(estimate.groups.iter().map(|group| group.devices).collect::<Vec<_>>(), [500, 500]);
        assert!((estimate.messages_per_second - 550.0).abs() < 1e-6, "{estimate:?}");
        let bytes = estimate.bytes_per_second / estimate.messages_per_second;
        assert!((205.0..215.0).contains(&bytes), "{bytes}");
        assert_eq!((estimate.workers, estimate.ports), (1, 1_001));
    }

    #[test]
    fn faults_of_a_stream_count_in_its_rate() {
        let mut document = document(1_000, Qos::AtMostOnce);
        let faults = "[{kind: duplicate, messages: 20%}, {kind: silence, every: 10s, lasts: 5s}, {kind: flood, every: 100s, lasts: 1s, \
                      interval: 10ms}]";
        let model = document.fleet.spec.models.get_mut("m").unwrap();
        model.streams.get_mut("state").unwrap().faults = serde_saphyr::from_str(faults).unwrap();
        let estimate = Estimate::new(&document, 20_000, 1).unwrap();
        // Half of 550 and of one more a device, and a fifth of that once more.
        assert!((estimate.messages_per_second - 1_550.0 * 0.5 * 1.2).abs() < 1e-6, "{estimate:?}");
        // Ten times the timetable, and as many floods.
        let mut plan = Plan::new(1, Micros(1), 1_000);
        let factor = Some(Factor(10_000_000));
        let set = Setting::Rate { group: None, stream: None, factor, over: Span::ZERO };
        plan.set(Micros(2), set);
        let asked = estimate.under(&plan, Micros(2)).messages_per_second;
        assert!((asked - 6_500.0 * 0.5 * 1.2).abs() < 1e-3, "{asked}");
    }

    #[test]
    fn a_higher_quality_of_service_costs_more() {
        let cores = |qos| Estimate::new(&document(1_000, qos), 20_000, 1).unwrap().cpu_cores;
        assert!(cores(Qos::AtMostOnce) < cores(Qos::AtLeastOnce) && cores(Qos::AtLeastOnce) < cores(Qos::ExactlyOnce));
    }

    #[test]
    fn the_same_messages_from_more_threads_cost_more_wakes() {
        let cores = |threads| Estimate::new(&document(10_000, Qos::AtMostOnce), 20_000, threads).unwrap().cpu_cores;
        // 5,500 messages a second wake one thread as often as may be, and each of seven four times in five.
        let (one, seven) = (cores(1), cores(7));
        assert!((0.11..0.12).contains(&one) && (0.19..0.20).contains(&seven), "{one} and {seven} cores");
    }

    #[test]
    fn a_fleet_that_grows_costs_what_a_larger_one_does() {
        let estimate = |devices| Estimate::new(&document(devices, Qos::AtLeastOnce), 1_000, 1).unwrap();
        let (grown, large) = (estimate(2_000).scaled(8_000), estimate(8_000));
        assert!((grown.cpu_cores - large.cpu_cores).abs() < 1e-9, "{} and {}", grown.cpu_cores, large.cpu_cores);
    }

    #[test]
    fn a_shorter_interval_costs_what_more_messages_do() {
        let estimate = Estimate::new(&document(1_000, Qos::AtLeastOnce), 20_000, 1).unwrap();
        let mut plan = Plan::new(1, Micros(1), 1_000);
        assert_eq!(estimate.under(&plan, Micros(1)), estimate);
        plan.set(Micros(2), Setting::Interval { stream: None, interval: Some(Span(1)) });
        let asked = estimate.under(&plan, Micros(2));
        assert!((asked.messages_per_second / 1e9 - 1.0).abs() < 1e-6, "{asked:?}");
        assert!(asked.cpu_cores > 10_000.0 && asked.bytes_per_second > 100e9, "{asked:?}");
    }

    #[test]
    fn a_fleet_of_several_processes_takes_more_memory() {
        let one = Estimate::new(&document(1_000, Qos::AtMostOnce), 1_000, 1).unwrap();
        let two = Estimate::new(&document(1_000, Qos::AtMostOnce), 500, 1).unwrap();
        assert_eq!((one.workers, two.workers), (1, 2));
        assert_eq!(two.memory_bytes - one.memory_bytes, WORKER_BYTES);
    }

    #[test]
    fn the_rate_follows_devices_and_intervals() {
        let estimate = Estimate::new(&from_text("demo", library::EXAMPLES[0].1, None).unwrap(), 20_000, 1).unwrap();
        let mut plan = Plan::new(1, Micros(1), estimate.devices);
        let messages = |plan: &Plan| estimate.under(plan, Micros(4)).messages_per_second;
        let before = messages(&plan);
        assert!((before - estimate.messages_per_second).abs() < 1e-6);
        plan.set(Micros(2), Setting::Devices(estimate.devices * 3));
        assert!((messages(&plan) - 3.0 * before).abs() < 1e-6);
        plan.set(Micros(3), Setting::Interval { stream: None, interval: Some(Span::from_millis(100)) });
        assert!(messages(&plan) > 10.0 * before);
        let mut faster = Plan::new(1, Micros(1), estimate.devices);
        let over = Span::from_secs(60);
        let factor = Some(Factor(5_000_000));
        faster.set(Micros(2), Setting::Rate { group: None, stream: None, factor, over });
        assert!(messages(&faster) > 2.0 * before, "what a ramp will have come to is guarded from its beginning");
    }
}
