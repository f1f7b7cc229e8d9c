//! An independent witness: Mosquitto's own subscriber, and a count of what it saw by sequence.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use fleet_contract::stamp::Stamp;
use serde_json::Value;
use tempfile::TempDir;
use tests::{
    debian::Packages,
    eventually,
    process::{Process, Stream},
};

use super::{
    FOREIGN, admin,
    fleet::{Fleet, NAME, name},
};

/// `mosquitto_sub` on all topics of a fleet, with a session that the broker keeps.
pub(super) struct Listener {
    process: Process,
    log: PathBuf,
    _way: Way,
    _dir: TempDir,
}

/// Where the broker answers us.
struct Way {
    host: String,
    port: String,
    /// The tunnel, where pods are out of reach.
    _tunnel: Option<Process>,
}

impl Way {
    /// At its pod; in a cluster that is not ours through a tunnel of the API server.
    fn to(fleet: &Fleet, broker: &Value, dir: &Path) -> Way {
        if FOREIGN.is_none() {
            let host = broker["status"]["podIP"].as_str().unwrap().to_owned();
            return Way { host, port: "1883".into(), _tunnel: None };
        }
        let pod = format!("pod/{}", name(broker));
        let mut kubectl = Command::new(admin().tools().program("kubectl"));
        kubectl.args(["port-forward", "-n", fleet.namespace.name(), &pod, ":1883"]);
        let tunnel = Process::spawn("tunnel", &mut admin().run_in(&kubectl), dir).unwrap();
        let stands = |line: &str| line.starts_with("Forwarding from 127.0.0.1:");
        let line = tunnel.wait_for_line(Stream::Stdout, Duration::from_secs(20), stands).unwrap();
        let port = line.trim_start_matches("Forwarding from 127.0.0.1:").split(' ').next().unwrap().to_owned();
        Way { host: "127.0.0.1".into(), port, _tunnel: Some(tunnel) }
    }
}

/// What became of the messages of a fleet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Distinct messages.
    pub(super) messages: u64,
    /// Messages that came again.
    pub(super) again: u64,
    /// Sequence numbers that are missing below the highest one of their device and epoch.
    pub(super) missing: u64,
    /// Messages that came behind a later one of their device and epoch.
    pub(super) reordered: u64,
    /// Devices.
    pub(super) devices: u64,
    /// Wills.
    pub(super) wills: u64,
}

impl Listener {
    /// Subscribes, and awaits that the broker has accepted it.
    pub(super) fn start(fleet: &Fleet) -> Listener {
        fleet.until("the broker answers", |fleet| fleet.clients().is_some());
        let broker = &fleet.pods_of("broker")[0];
        let dir = tempfile::tempdir().unwrap();
        let way = Way::to(fleet, broker, dir.path());
        let packages = Packages::unpack(&["mosquitto-clients"]).unwrap();
        let mut command = packages.command("mosquitto_sub");
        let login: Value = serde_json::from_str(&fleet.simctl(&["broker-credentials", "-o", "json"]).stdout).unwrap();
        let [user, password] = ["username", "password"].map(|field| login[field].as_str().unwrap().to_owned());
        command.args(["-h", &way.host, "-p", &way.port, "-q", "1", "-c", "-i", "witness"]);
        command.args(["-u", &user, "-P", &password]);
        command.args(["-t", &format!("{NAME}/#"), "-t", "gone/#", "-F", "%t %p"]);
        let before = fleet.broker("simctl_broker_subscriptions").unwrap();
        let process = Process::spawn("witness", &mut admin().run_in(&command), dir.path()).unwrap();
        let is_subscribed =
            || Ok((fleet.broker("simctl_broker_subscriptions").unwrap_or(0) >= before + 2).then_some(()));
        eventually("the witness is subscribed", Duration::from_secs(20), is_subscribed).unwrap();
        let log = process.log(Stream::Stdout);
        Listener { process, log, _way: way, _dir: dir }
    }

    /// What it has seen so far.
    pub(super) fn seen(&self) -> Seen {
        self.process.ensure_running().unwrap();
        let text = std::fs::read(&self.log).unwrap();
        let mut seen = Seen::default();
        let mut last: BTreeMap<(&str, u64), Vec<u32>> = BTreeMap::new();
        let lines = std::str::from_utf8(&text).unwrap().lines();
        for (topic, payload) in lines.filter_map(|line| line.split_once(' ')) {
            if topic.starts_with("gone/") {
                seen.wills += 1;
                continue;
            }
            let Some(stamp) = Stamp::find(payload.as_bytes()) else { continue };
            last.entry((topic, stamp.epoch.0)).or_default().push(stamp.seq);
        }
        for sequence in last.values() {
            seen.count(sequence);
        }
        let mut topics: Vec<&str> = last.keys().map(|(topic, _)| *topic).collect();
        topics.dedup();
        seen.devices = topics.len() as u64;
        seen
    }

    /// The payload of every reading, without its stamp, by the device and the instant that it is of.
    pub(super) fn readings(&self) -> BTreeMap<(String, String), Vec<Value>> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        let mut readings: BTreeMap<_, Vec<Value>> = BTreeMap::new();
        let lines = text.lines().filter_map(|line| line.split_once(" {").map(|(_, payload)| format!("{{{payload}")));
        // The last line may still be on its way.
        for (key, reading) in lines.filter_map(|line| reading(&serde_json::from_str(&line).ok()?)) {
            readings.entry(key).or_default().push(reading);
        }
        readings
    }

    /// Awaits that it has seen so many different messages.
    pub(super) fn until(&self, messages: u64) -> Seen {
        self.until_so(|seen| seen.messages >= messages)
    }

    /// Awaits that it was handed so many messages, whether they are different or not.
    pub(super) fn until_handed(&self, messages: u64) -> Seen {
        self.until_so(|seen| seen.messages + seen.again >= messages)
    }

    /// What it has seen when that holds, or when it did not for 20 seconds.
    fn until_so(&self, is_so: impl Fn(&Seen) -> bool) -> Seen {
        let seen = || Ok(Some(self.seen()).filter(&is_so));
        eventually("the witness has seen enough", Duration::from_secs(20), seen).unwrap_or_else(|_| self.seen())
    }
}

/// What identifies a reading, and all of it that is the same whoever sends it.
pub(super) fn reading(payload: &Value) -> Option<((String, String), Value)> {
    let mut fields = payload.as_object()?.clone();
    fields.remove("stamp");
    let text = |name: &str| Some(fields.get(name)?.as_str()?.to_owned());
    Some(((text("device")?, text("timestamp")?), Value::Object(fields)))
}

impl Seen {
    fn count(&mut self, sequence: &[u32]) {
        let mut sorted = sequence.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let highest = sorted.last().map_or(0, |last| u64::from(*last) + 1);
        self.messages += sorted.len() as u64;
        self.again += (sequence.len() - sorted.len()) as u64;
        self.missing += highest - sorted.len() as u64;
        self.reordered += sequence.windows(2).filter(|pair| pair[1] < pair[0]).count() as u64;
    }
}
