//! What it costs the controller to follow a load test of many workers: `cargo run --release -p load-controller --example
//! follow` plays 1,000 workers of five groups with five streams each, in the last of three phases, for half a minute with a
//! reading a second, and prints the share of a core and the longest second.
//!
//! Answers are decompressed, parsed, taken in and judged as in the controller; sockets and the API server are not in it.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
};

use anyhow::Context as _;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use fleet_contract::{
    fleet::{Fleet, Qos},
    format::{self, Format},
    load_test::Phase,
    plan::Plan,
    stats::{PhaseStats, Stats, StreamStats, WorkerStats},
    time::Micros,
    units::Span,
};
use load_controller::{
    api::{
        Address,
        calls::{Answer, Answered, Call, Detail, Question},
    },
    run::{
        Run,
        facts::{Asked, Program, RunFacts},
        phase::Phases,
        workers::{TimesOf, Worker, Workers},
    },
};

const WORKERS: u32 = 1_000;
const GROUPS: u32 = 5;
const STREAMS: u32 = 5;
/// In the whole run so far, of each stream of a worker.
const MESSAGES: u64 = 2_000;
const SECONDS: u64 = 30;
const TIMES_EVERY: Span = Span::from_secs(10);
const SERIES_EACH_SECOND: usize = 1_000;
const START: Micros = Micros(1_772_366_400_000_000);

const FLEET: &str = "
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {name: taxis}
spec: {devices: 100000, devicesPerPod: 100, groups: [{name: all, model: robotaxi}]}
";

const PHASES: &str = "
- {name: steady, duration: 1m, measure: true}
- {name: peak, duration: 1m, rate: {factor: 5}, measure: true}
- {name: recovery, duration: 10m, measure: true}
";

const THRESHOLDS: &str = "['end_to_end.p99 < 250ms', {expect: 'publish_ack.p95 < 1s', phase: each}, 'lost == 0']";

#[expect(clippy::print_stdout, reason = "it is what the example is for")]
fn main() -> anyhow::Result<()> {
    let fleet: Fleet = serde_saphyr::from_str(FLEET)?;
    let phases: Vec<Phase> = serde_saphyr::from_str(PHASES)?;
    let phases = Phases::new(phases);
    let thresholds = serde_saphyr::from_str(THRESHOLDS)?;
    let mut plan = Plan::of(1, START, &fleet.spec);
    phases.plan(&mut plan, &fleet.spec, START);
    let asked = Asked { duration: phases.last(), phases, thresholds, ..Asked::default() };
    let mut run = Run::new(RunFacts::new(fleet, String::new(), &plan, asked, Program::default()), Span::from_secs(2));
    let mut workers = Workers::default();
    workers.meet((0..WORKERS).map(worker).collect());

    let begun = START.after(Span::from_secs(130));
    let (mut longest, mut bytes, mut total) = (0.0_f64, [0; 2], [0.0_f64; 3]);
    for second in 0..SECONDS {
        let now = begun.after(Span::from_secs(second));
        // As the task of a fleet does; see `controller/fleet/reading.rs`.
        let times = TimesOf::Some { before: now.before(TIMES_EVERY), series: SERIES_EACH_SECOND };
        let wires = [Detail::Full, Detail::Brief].map(|detail| compressed(&reading(now, second, &plan, detail)));
        let [full, brief] = wires;
        let (full, brief) = (full?, brief?);
        bytes = [full.len(), brief.len()];
        let start = cpu_seconds()?;
        let calls = workers.to_read(times);
        let read = |call: &Call| match call.question {
            Question::Reading(_, Detail::Full) => parse(&full),
            _ => parse(&brief),
        };
        let parsed: Vec<WorkerStats> = calls.iter().map(read).collect::<anyhow::Result<_>>()?;
        let decoded = cpu_seconds()?;
        for (call, reading) in calls.into_iter().zip(parsed) {
            let answer = Answer::Reading(Ok(Box::new(reading)));
            workers.answered(Answered { ordinal: call.ordinal, id: call.id, answer })?;
        }
        let taken = cpu_seconds()?;
        run.tick(now, &plan, &mut workers);
        if let Some(closing) = workers.closing() {
            workers.close(closing);
        }
        let ticked = cpu_seconds()?;
        for (sum, part) in total.iter_mut().zip([decoded - start, taken - decoded, ticked - taken]) {
            *sum += part;
        }
        longest = longest.max(ticked - start);
        println!(
            "second {second}: {:.0} + {:.0} + {:.0} ms",
            (decoded - start) * 1e3,
            (taken - decoded) * 1e3,
            (ticked - taken) * 1e3
        );
    }
    let start = cpu_seconds()?;
    let report = run.report(&plan, &workers);
    println!("report {:.0} ms, verdict {:?}", (cpu_seconds()? - start) * 1e3, report.verdict);
    let share = |seconds: f64| 100.0 * seconds / SECONDS as f64;
    println!(
        "{WORKERS} workers of {} streams: {:.1} % of a core ({:.1} reading, {:.1} adding, {:.1} judging); the longest second \
         {longest:.2} s; a reading of {} or {} bytes",
        GROUPS * STREAMS,
        share(total.iter().sum()),
        share(total[0]),
        share(total[1]),
        share(total[2]),
        bytes[0],
        bytes[1],
    );
    Ok(())
}

fn worker(ordinal: u32) -> Worker {
    Worker {
        ordinal,
        id: ordinal.to_string(),
        name: format!("taxis-{ordinal}"),
        address: Some(Address::Unix(Path::new("/nowhere").into())),
        plan_version: None,
        is_ready: true,
        has_run: true,
        created: None,
        is_ending: false,
        node: None,
    }
}

/// What a worker has measured by `now`: in all phases together, and in the last two of them.
fn reading(now: Micros, sequence: u64, plan: &Plan, detail: Detail) -> WorkerStats {
    let mut stats = Stats::default();
    stats.devices.connected = 100;
    stats.generator.workers = 1;
    let numbers = [1, 2];
    let mut phases = numbers.map(|_| PhaseStats::default());
    for group in 0..GROUPS {
        for stream in 0..STREAMS {
            let measured = measured(MESSAGES + 10 * sequence, u64::from(10 * group + stream));
            let names = (format!("group-{group}"), format!("stream-{stream}"));
            stats.add_stream(&names.0, &names.1, &measured);
            phases.iter_mut().for_each(|phase| phase.groups.add(&names.0, &names.1, &measured));
        }
    }
    stats.phases = numbers.into_iter().zip(phases).collect();
    let mut reading = WorkerStats {
        format: Format::FIRST,
        epoch: START,
        sequence: sequence + 1,
        begun: now,
        at: now,
        asked: None,
        plan_version: plan.version,
        is_drained: false,
        is_brief: detail == Detail::Brief,
        stats,
        before: Vec::new(),
    };
    if reading.is_brief {
        drop(reading.stats.split_times());
    }
    reading
}

fn measured(messages: u64, seed: u64) -> StreamStats {
    let mut stream = StreamStats::of(Qos::AtLeastOnce);
    let counts = &mut stream.messages;
    for count in
        [&mut counts.offered, &mut counts.sent, &mut counts.acknowledged, &mut counts.observed, &mut counts.delivered]
    {
        *count = messages;
    }
    let mut state = seed;
    for times in [&mut stream.latency.publish_ack, &mut stream.latency.end_to_end] {
        for _ in 0..messages {
            // Knuth's MMIX generator.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let draw = (state >> 11) as f64 / (1_u64 << 53) as f64;
            times.record(Span((1_500.0 * (2.0 * draw).exp()) as u64));
        }
    }
    stream
}

fn compressed(reading: &WorkerStats) -> anyhow::Result<Vec<u8>> {
    let mut wire = GzEncoder::new(Vec::new(), Compression::fast());
    wire.write_all(&serde_json::to_vec(reading)?)?;
    Ok(wire.finish()?)
}

fn parse(wire: &[u8]) -> anyhow::Result<WorkerStats> {
    let mut text = Vec::new();
    GzDecoder::new(wire).read_to_end(&mut text)?;
    Ok(format::read_reading(&text)?)
}

/// What this thread has taken so far.
fn cpu_seconds() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").context("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = text.split_whitespace().next().context("a first field")?.parse()?;
    Ok(nanoseconds / 1e9)
}
