//! Statistics and facts for tests.

use fleet_contract::{
    broker_url::BrokerUrl,
    fleet::{BrokerSpec, Connect, Fleet, FleetSpec, Group, Observe, Observer, Offline, PodSpec, Qos},
    stats::{Connections, Devices, Generator, Messages, ObserverStats, Stats, StreamStats},
    time::Micros,
    units::Span,
};
use proptest::prelude::*;

use crate::run::{
    act::Acts,
    facts::{AboutWorkers, Asked, AtBroker, CutShort, Host, Program, RunFacts},
    stage::Stage,
    timeline::Timeline,
};

/// 2026-03-01T12:00:00Z
pub(crate) const START: Micros = Micros(1_772_366_400_000_000);

/// A hundred connected devices that sent `count` messages at QoS 1, each acknowledged and delivered.
pub(crate) fn stats_of(count: u64) -> Stats {
    let mut stats = Stats {
        devices: Devices { desired: 100, connected: 100, ..Devices::default() },
        connections: Connections { accepted: 100, ..Connections::default() },
        observer: ObserverStats { subscribed: 1, wanted: 1, ..ObserverStats::default() },
        generator: Generator {
            workers: 1,
            shards: 2,
            cpu_user_seconds: 0.9,
            cpu_system_seconds: 0.3,
            memory_bytes: 35_861_299,
            open_files: 119,
            ..Generator::default()
        },
        ..Stats::default()
    };
    stats.bytes.sent = count * 230;
    stats.latency.connect.record(Span(2_300));
    let mut stream = StreamStats::of(Qos::AtLeastOnce);
    stream.messages = Messages {
        offered: count,
        sent: count,
        acknowledged: count,
        observed: count,
        delivered: count,
        ..Messages::default()
    };
    for message in 0..count {
        stats.latency.schedule_lag.record(Span(80 + message % 90));
        stream.latency.publish_ack.record(Span(600 + message % 800));
        stream.latency.end_to_end.record(Span(900 + message % 1_100));
    }
    stats.add_stream("all", "state", &stream);
    stats
}

/// A run that has ended after half a minute.
pub(crate) fn facts() -> RunFacts {
    RunFacts {
        fleet: fleet(),
        document_hash: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
        at_broker: AtBroker { is_embedded: true, is_cleaned: false },
        run: 0x7f3a_21c0,
        stage: Stage::Ended,
        started: START,
        now: START.after(Span::from_secs(30)),
        asked: Asked { duration: Some(Span::from_secs(30)), ..Asked::default() },
        program: Program {
            engine: "own".into(),
            version: "0.1.0".into(),
            command: vec!["simctl".into(), "run".into()],
            host: Host { os: "linux x86_64".into(), kernel: "6.8.0".into(), cpus: 2, memory_bytes: 8 << 30 },
            open_files_limit: 1_048_576,
        },
        shortest_interval: Some(Span::from_secs(1)),
        notes: Vec::new(),
        cut_short: CutShort::No,
        timeline: Timeline::new(START),
        workers: AboutWorkers { devices_each: 1_000, ..AboutWorkers::default() },
        acts: Acts::default(),
    }
}

fn fleet() -> Fleet {
    Fleet {
        api_version: fleet_contract::fleet::ApiVersion::default(),
        kind: fleet_contract::fleet::Kind::default(),
        metadata: fleet_contract::fleet::Metadata { name: "demo".into(), ..Default::default() },
        spec: FleetSpec {
            devices: 100,
            devices_per_pod: 1_000,
            seed: 7,
            first_index: 0,
            broker: Some(BrokerSpec::at(vec![BrokerUrl::tcp("127.0.0.1", 1883)])),
            connect: Connect::default(),
            client_id: "{fleet}-{index}".into(),
            observe: Observe::All,
            observer: Observer::default(),
            offline: Offline::Skip,
            loss_after: Span::from_secs(10),
            groups: vec![Group {
                name: "all".into(),
                share: None,
                model: "thermometer".into(),
                streams: [].into(),
                subscriptions: Vec::new(),
            }],
            models: [].into(),
            models_from: None,
            paused: false,
            intervals: [].into(),
            pod: PodSpec::default(),
        },
    }
}

/// Statistics whose counters obey all laws.
pub(crate) fn any_stats() -> impl Strategy<Value = Stats> {
    let devices = (0_u32..1_000, 0_u32..1_000).prop_map(|(desired, connected)| Devices {
        desired,
        connected: connected.min(desired),
        ..Devices::default()
    });
    let messages = [any_messages(false), any_messages(true), any_messages(true)];
    let times = prop::collection::vec(1_u64..5_000_000, 0..20);
    let causes = prop::collection::btree_map("[a-c]", 1_u64..9, 0..3);
    (devices, messages, times, causes, 0_u32..9).prop_map(|(devices, messages, times, causes, eighths)| {
        let mut stats = Stats { devices, ..Stats::default() };
        let streams = [("bikes", "trace", 0), ("bikes", "state", 1), ("cars", "event", 2)];
        for ((group, stream, qos), messages) in streams.into_iter().zip(messages) {
            let mut counted = StreamStats { messages, ..StreamStats::of(Qos::try_from(qos).unwrap()) };
            times.iter().for_each(|time| counted.latency.end_to_end.record(Span(*time)));
            stats.add_stream(group, stream, &counted);
        }
        stats.connections.lost = causes;
        // Eighths of a second, whose sums are the same in any order.
        stats.generator.cpu_user_seconds = f64::from(eighths) / 8.0;
        stats
    })
}

fn any_messages(is_acknowledged: bool) -> impl Strategy<Value = Messages> {
    let parts = prop::array::uniform8(0_u64..1_000);
    (parts, 0_u64..=8, 0_u64..1_000).prop_map(
        move |(
            [withheld, unobserved, delivered, lost, unknown, in_flight, duplicated, reordered],
            eighths,
            offline,
        )| {
            let observed = delivered + lost + unknown + in_flight;
            let sent = observed + unobserved;
            let acknowledged = if is_acknowledged { sent * eighths / 8 } else { 0 };
            Messages {
                offered: sent + withheld,
                withheld,
                withheld_offline: offline.min(withheld),
                sent,
                acknowledged,
                abandoned: if is_acknowledged { (sent - acknowledged) / 2 } else { 0 },
                observed,
                unobserved,
                delivered,
                lost,
                lost_acknowledged: if is_acknowledged { lost.min(acknowledged) / 2 } else { 0 },
                unknown,
                late: lost / 3,
                duplicated,
                reordered,
                resent: 0,
                ..Messages::default()
            }
        },
    )
}
