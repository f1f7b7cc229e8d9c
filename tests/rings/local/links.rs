//! What faults make of a link, beside the same link made by somebody else: the same load runs once over the network of an
//! oracle and without a fault, and once over an idle network of the same make and with the fault.

use std::{fs, net::Ipv4Addr, path::Path, process::Command, time::Duration};

use tests::{
    oracle::{Delay, Delayer, Direction, Line, PORT, Spread},
    process::{Process, Stream},
    project,
    report::Report,
    run::seed,
    sandbox::Network,
    simctl::{self, Simctl},
};

use super::PATIENCE;

/// What is compared.
const PERCENTILES: [&str; 3] = ["p50", "p95", "p99"];

/// By how much a time may differ from the oracle's: by this share of it, or by so many milliseconds if that is more.
const SHARE: f64 = 0.05;
const MILLISECONDS: f64 = 3.0;

/// How many pairs of runs are made at most.
const PAIRS: u32 = 3;

/// A load: what each device sends, and what its latency is.
struct Load {
    devices: u8,
    /// The streams, as a YAML flow.
    streams: String,
    /// The distribution that the link makes longer.
    figure: &'static str,
    /// Whether an observer takes part.
    observe: &'static str,
    /// The measured seconds.
    seconds: u32,
}

impl Load {
    /// The fleet and a load test of it, with the fault as a YAML flow or without one.
    fn document(&self, url: &str, fault: &str) -> String {
        let Load { devices, streams, figure, observe, seconds } = self;
        let thresholds = PERCENTILES.map(|name| format!("{{expect: '{figure}.{name} < 1h', phase: far}}")).join(", ");
        format!(
            "
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {{name: line}}
spec:
  devices: {devices}
  lossAfter: 1s
  observe: {observe}
  broker: {{url: '{url}'}}
  connect: {{rate: 1000/s}}
  groups: [{{name: all, model: far}}]
  models: {{far: {{signals: {{x: {{kind: counter, rate: 1}}}}, streams: {{{streams}}}}}}}
---
apiVersion: simctl.io/v1alpha1
kind: LoadTest
metadata: {{name: far}}
spec:
  fleet: line
  phases:
    - {{name: near, duration: 1500ms}}
    - {{name: far, duration: {seconds}s, measure: true, faults: [{fault}]}}
  thresholds: [{thresholds}]
"
        )
    }

    /// Runs it in a network with a broker of its own; the percentiles in milliseconds.
    fn run(&self, network: &Network, url: &str, sources: &[Ipv4Addr], fault: &str) -> [f64; 3] {
        let simctl = Simctl::new().unwrap();
        let _broker = broker(network, simctl.dir());
        fs::write(simctl.dir().join("far.yaml"), self.document(url, fault)).unwrap();
        let seed = seed();
        let mut command = simctl.command(&["run", "-o", "json", "--seed", &seed, "-f", "far.yaml"]);
        for source in sources {
            command.arg("--source-address").arg(source.to_string());
        }
        let process = Process::spawn("run", &mut network.enter(&command), simctl.dir()).unwrap();
        let finished = simctl::finish(process, PATIENCE).unwrap();
        let report = Report::of(&finished).unwrap();
        report.expect("messages.withheld", 0);
        report.claim("nobody reconnects", report.count("reconnects") == 0);
        let [p50, p95, p99] = report.list("thresholds") else { panic!("three thresholds in {report}") };
        let enough = p50["samples"].as_u64().unwrap() > 500;
        report.claim("there are enough messages", enough);
        [p50, p95, p99].map(|found| found["found"].as_f64().unwrap() * 1e3)
    }
}

/// The project's broker, on every address of a network.
fn broker(network: &Network, logs: &Path) -> Process {
    let mut command = Command::new(project::binary("broker").unwrap());
    command.arg("--listen").arg(format!("0.0.0.0:{PORT}"));
    let process = Process::spawn("broker", &mut network.enter(&command), logs).unwrap();
    process.wait_for_line(Stream::Stderr, PATIENCE, |line| line.contains("broker listens")).unwrap();
    process
}

/// By how much the worst of the percentiles is further from the oracle's than it may be, in milliseconds.
fn excess(found: [f64; 3], expected: [f64; 3]) -> f64 {
    let beyond = |(found, expected): (f64, f64)| (found - expected).abs() - (SHARE * expected).max(MILLISECONDS);
    found.into_iter().zip(expected).map(beyond).fold(f64::NEG_INFINITY, f64::max)
}

/// Compares up to three pairs of runs, by the least of each figure: what else the machine does can only make a time longer.
#[track_caller]
fn check(name: &str, mut pair: impl FnMut() -> ([f64; 3], [f64; 3])) {
    let least = |a: [f64; 3], b: [f64; 3]| std::array::from_fn(|place| a[place].min(b[place]));
    let (mut found, mut expected) = ([f64::INFINITY; 3], [f64::INFINITY; 3]);
    for _ in 0..PAIRS {
        let (by_fault, by_oracle) = pair();
        (found, expected) = (least(found, by_fault), least(expected, by_oracle));
        println!("FIGURE {name}: {PERCENTILES:?} are {by_fault:.1?} ms by the fault, {by_oracle:.1?} ms by the oracle");
        if excess(found, expected) <= 0.0 {
            return;
        }
    }
    panic!(
        "{name}: expected {PERCENTILES:?} within {:.0} % or {MILLISECONDS} ms of the oracle's {expected:.1?} ms, found {found:.1?} ms",
        SHARE * 100.0
    );
}

/// A delay, by the fault and by the oracle, whose draws have a seed of their own.
#[track_caller]
fn check_delay(base: u64, jitter: u64, spread: Spread, direction: Direction, oracle: u64) {
    let (spread_name, direction_name) = (format!("{spread:?}").to_lowercase(), format!("{direction:?}").to_lowercase());
    let fault = format!(
        "{{kind: latency, delay: {base}ms, jitter: {jitter}ms, spread: {spread_name}, direction: {direction_name}}}"
    );
    // What only goes up is seen by an observer, and what comes down by the device itself.
    let (figure, observe, qos) =
        if direction == Direction::Up { ("end_to_end", "all", 0) } else { ("publish_ack", "none", 1) };
    let stream =
        format!("a: {{topic: '{{fleet}}/{{index}}', interval: 50ms, qos: {qos}, payload: {{json: {{x: '{{x}}'}}}}}}");
    let load = Load { devices: 100, streams: stream, figure, observe, seconds: 4 };
    let delay = Delay { base: Duration::from_millis(base), jitter: Duration::from_millis(jitter), spread };
    let run = |delay: Option<(Delay, Direction)>, fault: &str| {
        for _ in 0..PAIRS {
            let delayer = Delayer::start(delay, oracle).unwrap();
            let found = load.run(&delayer.network(), &delayer.url(), &[], fault);
            let late = delayer.end().unwrap();
            if late <= Delayer::LATE_MAX {
                return found;
            }
            println!("FIGURE half of the packets went on {late:?} late: this run tells nothing");
        }
        panic!("the oracle was late in each of {PAIRS} runs");
    };
    check(&format!("{spread_name}, {direction_name}"), || {
        let expected = run(Some((delay, direction)), "");
        assert!(expected[0] > base as f64 / 2.0, "the oracle delays nothing: {expected:?}");
        (run(None, &fault), expected)
    });
}

/// Of these bits a second, a segment takes 45 ms.
const RATE: u32 = 256_000;

/// Messages that are a TCP segment each, so that it makes no difference how TCP joins them while they wait.
fn segment_sized(name: &str, timing: &str) -> String {
    // PUBLISH of QoS 0 has a byte of its own, two each for its length and the topic's, and 9 of the topic.
    let size = tests::oracle::SEGMENT - 14;
    format!(
        "{name}: {{topic: '{{fleet}}/{{index:02}}/{name}', {timing}, qos: 0, size: {size}B, payload: {{json: {{x: '{{x}}'}}}}}}"
    )
}

#[track_caller]
fn check_rate(name: &str, streams: String) {
    let load = Load { devices: 16, streams, figure: "end_to_end", observe: "all", seconds: 7 };
    let run = |rate: Option<u32>, fault: &str| {
        let line = Line::start(load.devices, rate).unwrap();
        load.run(&line.network(), &line.url(), line.sources(), fault)
    };
    let fault = format!("{{kind: bandwidth, rate: {RATE}bit/s, direction: up}}");
    check(name, || {
        let lead = Line::lead(RATE).as_secs_f64() * 1e3;
        let expected = run(Some(RATE), "").map(|found| found + lead);
        (run(None, &fault), expected)
    });
}

#[test]
fn a_uniform_delay_up_is_that_of_the_oracle() {
    check_delay(80, 60, Spread::Uniform, Direction::Up, 1);
}

#[test]
fn a_normal_delay_down_is_that_of_the_oracle() {
    check_delay(80, 20, Spread::Normal, Direction::Down, 2);
}

#[test]
fn an_exponential_delay_both_ways_is_that_of_the_oracle() {
    check_delay(40, 10, Spread::Exponential, Direction::Both, 3);
}

#[test]
fn a_load_just_under_the_rate_waits_as_long_as_in_a_token_bucket() {
    check_rate("just under the rate", segment_sized("a", "interval: 55ms, jitter: 25ms"));
}

#[test]
fn bursts_over_the_rate_wait_as_long_as_in_a_token_bucket() {
    // The fault ends with its phase, and lets go at once what waits then, which the oracle does not. So the phase has 14 bursts:
    // without the last of them, the fifth message of the nine is the median all the same.
    let streams =
        ["a", "b", "c", "d", "e", "f", "g", "h", "i"].map(|name| segment_sized(name, "interval: 500ms, align: 500ms"));
    check_rate("bursts over the rate", streams.join(", "));
}
