//! A `simctl run` that goes on, and what a second terminal makes of it.

use std::{
    env,
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    eventually,
    process::{Process, Signal, Stream},
    report::Report,
    simctl::{self, Finished, Simctl},
};

/// How long a run may take to start, to answer and to drain; only a hang reaches it.
const PATIENCE: Duration = Duration::from_mins(1);

/// Names another seed for the runs whose arguments have none.
const SEED: &str = "SIMCTL_TEST_SEED";

/// A run in progress, killed on drop; its workers end by themselves then.
pub struct Run {
    simctl: Simctl,
    process: Process,
}

/// What a run left.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The last report.
    pub report: Report,
    /// What it said about its work.
    pub stderr: String,
}

/// The seed of every run of the rings. It is the same each time, because it draws the devices that a fault hits: of a share of
/// 20 % of 24 devices, one seed in 200 draws none. `SIMCTL_TEST_SEED` tries another.
pub fn seed() -> String {
    // What is not a number is told by simctl.
    env::var(SEED).unwrap_or_else(|_| "7".to_owned())
}

/// Starts a run with its report as JSON, and with the seed of all runs unless its arguments name one; what it prints is in files
/// called `name`.
fn spawn(simctl: &Simctl, name: &str, args: &[&str]) -> Result<Process> {
    let seed = seed();
    let seed: &[&str] = if args.contains(&"--seed") { &[] } else { &["--seed", &seed] };
    simctl.spawn(name, &[&["run", "-o", "json"], seed, args].concat())
}

/// Calls `simctl run` to its end, with its report as JSON.
pub fn to_the_end(args: &[&str], within: Duration) -> Result<Ended> {
    Run::spawn(Simctl::new()?, args)?.end(within)
}

impl Run {
    /// Starts `simctl run` with these arguments and awaits that it can be asked for its status.
    pub fn start(args: &[&str]) -> Result<Run> {
        Run::start_at(Simctl::new()?, args)
    }

    /// As [`Run::start`], from a place with files that the arguments name.
    pub fn start_at(simctl: Simctl, args: &[&str]) -> Result<Run> {
        let run = Run::spawn(simctl, args)?;
        run.wait_until("the run has started", |_| true)?;
        Ok(run)
    }

    fn spawn(simctl: Simctl, args: &[&str]) -> Result<Run> {
        let process = spawn(&simctl, "run", args)?;
        Ok(Run { simctl, process })
    }

    /// The process, to signal it.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The worker processes, parents first.
    pub fn workers(&self) -> Result<Vec<u32>> {
        Ok(crate::usage::tree(self.process.pid())?.split_off(1))
    }

    /// Starts another run at the same place, where both find each other; what it prints is in files called `name`.
    pub fn beside(&self, name: &str, args: &[&str]) -> Result<Process> {
        spawn(&self.simctl, name, args)
    }

    /// Makes a call as a second terminal would.
    pub fn call(&self, args: &[&str]) -> Result<Finished> {
        self.simctl.call(args, PATIENCE)
    }

    /// Makes a call that must succeed.
    pub fn must(&self, args: &[&str]) -> Result<Finished> {
        let finished = self.call(args)?;
        ensure!(finished.code == Some(0), "simctl {args:?}: {finished:?}");
        Ok(finished)
    }

    /// The report so far.
    pub fn report(&self) -> Result<Report> {
        Report::of(&self.must(&["status", "-o", "json"])?)
    }

    /// What the worker of a shard has measured since it began, as the run asks it: the report has the sum over all that were in its
    /// place.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub fn reading(&self, fleet: &str, shard: u32) -> Result<Value> {
        let folder = self.simctl.dir().join(format!("simctl/{fleet}-{}.workers", self.process.pid()));
        let path = folder.join(format!("{shard}.sock"));
        let mut stream = UnixStream::connect(&path).with_context(|| path.display().to_string())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /v1/stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no answer in {answer:?}"))?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{answer}");
        Ok(serde_json::from_str(body)?)
    }

    /// Awaits a report for which `holds`, and returns it.
    ///
    /// # Errors
    /// When none came in time or the run has ended; the message shows the last one.
    pub fn wait_until(&self, what: &str, holds: impl Fn(&Report) -> bool) -> Result<Report> {
        let mut last = String::from("no report");
        let found = eventually(what, PATIENCE, || {
            self.process.ensure_running()?;
            let finished = self.call(&["status", "-o", "json"])?;
            if finished.code != Some(0) {
                last = finished.stderr;
                return Ok(None);
            }
            let report = Report::of(&finished)?;
            last = report.to_string();
            Ok(holds(&report).then_some(report))
        });
        found.with_context(|| last)
    }

    /// Awaits that so many devices are wanted and connected.
    pub fn wait_for_devices(&self, devices: u64) -> Result<Report> {
        self.wait_until(&format!("{devices} devices are connected"), |report| {
            report.count("devices.connected") == devices && report.count("devices.desired") == devices
        })
    }

    /// Scales a fleet without devices once its observer is subscribed, so that no message goes unobserved; awaits that
    /// all are connected.
    pub fn scale_under_observation(&self, devices: u64) -> Result<Report> {
        self.wait_until("the observer is subscribed", |report| report.count("observer.subscribed") == 1)?;
        self.must(&["scale", &devices.to_string()])?;
        self.wait_for_devices(devices)
    }

    /// Awaits that so many messages have been sent.
    pub fn wait_for_messages(&self, sent: u64) -> Result<Report> {
        self.wait_until(&format!("{sent} messages are sent"), |report| report.count("messages.sent") >= sent)
    }

    /// Sends a signal to the process that the user started.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Awaits that it says `text` about its work.
    pub fn wait_for_saying(&self, text: &str) -> Result<String> {
        self.process.wait_for_line(Stream::Stderr, PATIENCE, |line| line.contains(text))
    }

    /// Stops it as a second terminal does, and awaits its end.
    pub fn stop(self) -> Result<Ended> {
        self.must(&["stop"])?;
        self.end(PATIENCE)
    }

    /// Presses Ctrl-C twice, the second time while it drains, and awaits its end. What is in flight must not settle, or
    /// the drain is over before.
    pub fn abort(self) -> Result<Ended> {
        self.wait_until("messages are in flight", |report| report.count("messages.in_flight") > 0)?;
        self.signal(Signal::INT)?;
        self.wait_until("it drains", |report| report.text("phase") == "draining")?;
        self.signal(Signal::INT)?;
        self.end(PATIENCE)
    }

    /// Awaits its end.
    pub fn end(self, within: Duration) -> Result<Ended> {
        let Run { simctl: _place, process } = self;
        let finished = simctl::finish(process, within)?;
        let report = Report::of(&finished)?;
        Ok(Ended { code: finished.code, report, stderr: finished.stderr })
    }
}

impl Ended {
    /// Fails the test unless the run passed; or, beside other tests, would have on a machine of its own: that devices
    /// were late there is a figure of the machine, and the run says so by being invalid for that alone.
    /// [`Ended::expect_verdict`] has no such patience.
    #[track_caller]
    pub fn expect_passed(&self) {
        let reasons = self.report.list("reasons");
        if !reasons.is_empty() && reasons.iter().all(|reason| reason["name"] == "schedule_lag") {
            return self.expect_verdict("invalid", 96);
        }
        self.expect_verdict("passed", 0);
    }

    /// Fails the test unless the run came to this verdict and exit code.
    #[track_caller]
    pub fn expect_verdict(&self, verdict: &str, code: i32) {
        self.report.expect("verdict", verdict);
        self.report.claim(&format!("the exit code is {code}, not {:?}", self.code), self.code == Some(code));
    }
}
