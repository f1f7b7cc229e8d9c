//! What it costs the controller to follow a load test of many workers: `cargo run --release -p load-controller --example
//! follow` plays 1,000 workers of five groups with five streams each, in the last of three phases, for half a minute with a
//! reading a second, and prints the share of a core, and what the end of a phase takes. It does so twice: with thresholds that are
//! judged in the end, and with some that may end the test by a time of a stream or of the fleet.
//!
//! Answers are decompressed, parsed, taken in and judged as in the controller; sockets and the API server are not in it.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use fleet_contract::{
    fleet::{Fleet, Qos},
    format,
    load_test::Phase,
    plan::Plan,
    process,
    stats::{Stats, StreamStats, WorkerStats},
    time::Micros,
    units::Span,
};
use load_controller::{
    api::{
        Address,
        calls::{Answer, Answered, Call, Detail, Question},
    },
    report::Report,
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

const JUDGED: &str = "['end_to_end.p99 < 250ms', {expect: 'publish_ack.p95 < 1s', phase: each}, 'lost == 0']";

const ENDING: &str = "
- {expect: 'end_to_end.p99 < 250ms', phase: recovery, group: group-0, stream: stream-0, abortOnFail: {}}
- {expect: 'publish_ack.p95 < 1s', phase: each, abortOnFail: {}}
- {expect: lost == 0, abortOnFail: {}}
";

fn main() -> anyhow::Result<()> {
    follow("thresholds that are judged in the end", JUDGED)?;
    follow("thresholds that may end the test", ENDING)
}

#[expect(clippy::print_stdout, reason = "it is what the example is for")]
fn follow(with: &str, thresholds: &str) -> anyhow::Result<()> {
    let fleet: Fleet = serde_saphyr::from_str(FLEET)?;
    let phases: Vec<Phase> = serde_saphyr::from_str(PHASES)?;
    let phases = Phases::new(phases);
    let thresholds = serde_saphyr::from_str(thresholds)?;
    let mut plan = Plan::of(1, START, &fleet.spec);
    phases.plan(&mut plan, &fleet.spec, START);
    let asked = Asked { duration: phases.last(), phases, thresholds, ..Asked::default() };
    let mut run = Run::new(RunFacts::new(fleet, String::new(), &plan, asked, Program::default()), Span::from_secs(2));
    let mut workers = Workers::default();
    workers.meet((0..WORKERS).map(worker).collect());

    // The second phase ends after two minutes, and is settled `lossAfter` and a second later.
    let begun = START.after(Span::from_secs(125));
    let (mut bytes, mut spent, mut longest) = ([0; 2], [0.0_f64; 3], 0.0_f64);
    for second in 0..SECONDS {
        let now = begun.after(Span::from_secs(second));
        let reading = reading(now, second, &plan);
        let (full, brief) = (compressed(&reading)?, compressed(&reading.clone().brief(None))?);
        bytes = [full.len(), brief.len()];
        // As the task of a fleet does; see `controller/fleet/reading.rs`.
        let (wanted, sums) = (run.wants_times(now, &plan, &workers), run.wants_sums(now, &workers));
        let series_each = (GROUPS * STREAMS) as usize * (1 + reading.stats.phases.len());
        let affordable = TimesOf::affordable(now, WORKERS as usize, series_each, 1);
        let below = match wanted {
            Some(TimesOf::Phases(number)) => Some(number),
            _ => None,
        };
        let others = compressed(&reading.summed(sums.clone(), below))?;
        let start = cpu_seconds()?;
        let calls = workers.to_read_with(wanted.unwrap_or(affordable), &sums);
        let read = |call: &Call| match call.question {
            Question::Reading(_, Detail::Full) => parse(&full),
            _ => parse(&others),
        };
        let readings: Vec<WorkerStats> = calls.iter().map(read).collect::<anyhow::Result<_>>()?;
        let parsed = cpu_seconds()?;
        for (call, reading) in calls.into_iter().zip(readings) {
            let answer = Answer::Reading(Ok(Box::new(reading)));
            workers.answered(Answered { ordinal: call.ordinal, id: call.id, answer })?;
        }
        let taken = cpu_seconds()?;
        run.tick(now, &plan, &mut workers);
        if let Some(closing) = workers.closing() {
            workers.close(closing);
        }
        if let Some(without) = Run::without_kept_phases(&plan, &workers) {
            plan = without;
        }
        let judged = cpu_seconds()?;
        if wanted.is_some() {
            println!(
                "{with}: a phase's end: {:.1} s to parse, {:.1} s to take in and to add up",
                parsed - start,
                judged - parsed
            );
            continue;
        }
        let parts = [parsed - start, taken - parsed, judged - taken];
        spent.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part);
        longest = longest.max(judged - start);
    }
    let start = cpu_seconds()?;
    Report::of(&run, &plan, &workers);
    let report = cpu_seconds()? - start;
    let share = |seconds: f64| 100.0 * seconds / SECONDS as f64;
    println!(
        "{with}: {WORKERS} workers of {} streams: {:.0} % of a core ({:.0} parsing, {:.0} taking in, {:.0} judging), the longest second \
         {longest:.2} s; a report {report:.1} s; a reading of {} bytes, and {} without times; {} MiB resident",
        GROUPS * STREAMS,
        share(spent.iter().sum()),
        share(spent[0]),
        share(spent[1]),
        share(spent[2]),
        bytes[0],
        bytes[1],
        process::memory_bytes(&fs::read_to_string("/proc/self/status")?, "VmRSS").unwrap_or(0) >> 20,
    );
    Ok(())
}

fn worker(ordinal: u32) -> Worker {
    Worker::running(ordinal, format!("taxis-{ordinal}"), Some(Address::Unix(Path::new("/nowhere").into())))
}

/// What a worker has measured by `now`: in all, and in each phase that has begun and is not kept.
fn reading(now: Micros, sequence: u64, plan: &Plan) -> WorkerStats {
    let mut stats = Stats::default();
    stats.devices.connected = 100;
    stats.generator.workers = 1;
    let numbers: Vec<u32> = plan.phases().filter(|(begins, _)| *begins <= now).map(|(_, number)| number).collect();
    for group in 0..GROUPS {
        for stream in 0..STREAMS {
            let measured = measured(MESSAGES + 10 * sequence, u64::from(10 * group + stream));
            let (group, stream) = (format!("group-{group}"), format!("stream-{stream}"));
            stats.add_stream(&group, &stream, &measured);
            for number in &numbers {
                stats.phases.entry(*number).or_default().groups.add(&group, &stream, &measured);
            }
        }
    }
    WorkerStats::new(START, sequence + 1, now, plan.version, stats)
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
            times.record(Span(Duration::from_secs_f64(0.0015 * (2.0 * draw).exp()).subsec_micros().into()));
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
