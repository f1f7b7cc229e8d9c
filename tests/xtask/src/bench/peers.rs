//! Other generators at the same loads as simctl, in turn with it: those that are on the search path, and Mosquitto's
//! publisher from the distribution's package.

use std::{env, path::PathBuf, process::Command};

use anyhow::Result;
use rustix::process::{Pid, kill_process};
use tests::{
    debian::Packages,
    null_broker::Routing,
    process::{Process, Signal},
    usage,
};

use super::{
    full_speed,
    lab::{Cost, Lab},
    load::{Load, Model},
    median,
    report::{Report, Table, one_line, thousands},
    steady,
};

/// Longer than any measurement: peers that want a number of messages are ended before they have sent it.
const MESSAGES: &str = "100000000";

/// Another generator.
struct Peer {
    name: &'static str,
    /// What it may be called on the search path.
    programs: &'static [&'static str],
    work: Work,
    /// Its arguments for the sink's port and a QoS.
    arguments: fn(u16, u8) -> Vec<String>,
    /// Where to get it.
    from: &'static str,
}

/// A load that a peer can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// 1,000 devices × 10 msg/s.
    Steady,
    /// So many connections as fast as they can.
    FullSpeed(u32),
}

const PEERS: [Peer; 5] = [
    Peer {
        name: "mosquitto_pub",
        programs: &["mosquitto_pub"],
        work: Work::FullSpeed(1),
        arguments: mosquitto_pub,
        from: "the package mosquitto-clients",
    },
    Peer {
        name: "emqtt-bench",
        programs: &["emqtt_bench", "emqtt-bench"],
        work: Work::Steady,
        arguments: emqtt_bench,
        from: "https://github.com/emqx/emqtt-bench/releases",
    },
    Peer {
        name: "mqtt-stresser",
        programs: &["mqtt-stresser"],
        work: Work::Steady,
        arguments: mqtt_stresser,
        from: "go install github.com/inovex/mqtt-stresser@latest",
    },
    Peer {
        name: "MQTTX",
        programs: &["mqttx", "mqttx-cli"],
        work: Work::Steady,
        arguments: mqttx,
        from: "npm install -g mqttx-cli",
    },
    Peer {
        name: "mqtt-benchmark",
        programs: &["mqtt-benchmark"],
        work: Work::FullSpeed(100),
        arguments: mqtt_benchmark,
        from: "go install github.com/krylovsk/mqtt-benchmark@main",
    },
];

pub(super) fn measure(lab: &Lab, report: &mut Report) {
    let (mut rows, mut notes) = (Vec::new(), Vec::new());
    for peer in &PEERS {
        let Some(launcher) = Launcher::find(peer) else {
            notes.push(format!("{} was not found on the search path; it comes from {}", peer.name, peer.from));
            continue;
        };
        for qos in [0, 1] {
            match beside(lab, peer, &launcher, qos) {
                Ok([ours, theirs]) => rows.extend(compared(peer, qos, &ours, &theirs)),
                Err(error) => {
                    let text = format!("{} at QoS {qos} was not measured: {error:#}", peer.name);
                    lab.say(&text);
                    notes.push(one_line(&text));
                }
            }
        }
    }
    report.table(Table {
        title: "Beside other generators, bodies of 200 bytes",
        columns: &["load", "generator", "CPU-s per million messages", "beside simctl", "msg/s"],
        rows,
        notes,
    });
}

/// simctl and a peer in turn.
fn beside(lab: &Lab, peer: &Peer, launcher: &Launcher, qos: u8) -> Result<[Cost; 2]> {
    let mut theirs = Vec::new();
    let mut ours = Vec::new();
    for _ in 0..lab.rounds() {
        ours.push(lab.cost(&peer.work.load(qos))?);
        theirs.push(cost(lab, peer, launcher, qos)?);
    }
    Ok([median(ours), median(theirs)])
}

/// What the load costs a peer.
fn cost(lab: &Lab, peer: &Peer, launcher: &Launcher, qos: u8) -> Result<Cost> {
    let logs = tempfile::tempdir()?;
    let connections = peer.work.connections();
    let sinks = lab.sinks(connections, Routing::Discard, logs.path())?;
    let mut command = launcher.command(&(peer.arguments)(sinks.port(), qos));
    let Tree(generator) = &Tree(lab.spawn_generator(peer.name, &mut command, logs.path())?);
    sinks.wait_for(connections.into(), generator)?;
    lab.warm_up();
    let cost = lab.window(generator, &sinks)?;
    generator.ensure_running()?;
    lab.say(&format!("{} at QoS {qos}: {cost} CPU-s per million, {:.0} msg/s", peer.name, cost.messages_per_second));
    Ok(cost)
}

/// One row of simctl, one of the peer.
fn compared(peer: &Peer, qos: u8, ours: &Cost, theirs: &Cost) -> [Vec<String>; 2] {
    let row = |name: &str, cost: &Cost| {
        let ratio = format!("{:.1} ×", cost.total() / ours.total());
        let load = format!("{}, QoS {qos}", peer.work.text());
        vec![load, name.to_owned(), cost.to_string(), ratio, thousands(cost.messages_per_second)]
    };
    [row("simctl", ours), row(peer.name, theirs)]
}

impl Work {
    fn connections(self) -> u32 {
        match self {
            Work::Steady => 1_000,
            Work::FullSpeed(connections) => connections,
        }
    }

    /// The same for simctl; the peers send one body over and over where they fill the core.
    fn load(self, qos: u8) -> Load {
        match self {
            Work::Steady => steady::load(qos),
            Work::FullSpeed(connections) => full_speed::load(Model::Constant, connections, qos),
        }
    }

    fn text(self) -> String {
        match self {
            Work::Steady => "1,000 devices × 10 msg/s".to_owned(),
            Work::FullSpeed(1) => "1 connection at full speed, constant".to_owned(),
            Work::FullSpeed(connections) => format!("{connections} connections at full speed, constant"),
        }
    }
}

/// A peer with all that it has started, killed on drop: many are scripts around the program that does the work.
struct Tree(Process);

impl Drop for Tree {
    fn drop(&mut self) {
        let Ok(tree) = usage::tree(self.0.pid()) else { return };
        for pid in tree.into_iter().filter_map(|pid| Pid::from_raw(pid.try_into().ok()?)) {
            // Fails only for one that has ended already, which is what is wanted.
            kill_process(pid, Signal::KILL).ok();
        }
    }
}

/// How a peer is started.
enum Launcher {
    Found(PathBuf),
    /// From the distribution's package, fed with lines by a shell.
    MosquittoPub(Packages),
}

impl Launcher {
    fn find(peer: &Peer) -> Option<Launcher> {
        if peer.name == "mosquitto_pub" {
            return Packages::unpack(&["mosquitto-clients"]).ok().map(Launcher::MosquittoPub);
        }
        let path = env::var_os("PATH")?;
        let candidates =
            || env::split_paths(&path).flat_map(|dir| peer.programs.iter().map(move |name| dir.join(name)));
        candidates().find(|file| file.is_file()).map(Launcher::Found)
    }

    fn command(&self, arguments: &[String]) -> Command {
        match self {
            Launcher::Found(program) => {
                let mut command = Command::new(program);
                command.args(arguments);
                command
            }
            Launcher::MosquittoPub(packages) => {
                // One line a message. What `yes` needs to write them is counted, too: some hundredths of a second.
                let mut command = packages.command("sh");
                command.args(["-c", "yes \"$0\" | mosquitto_pub \"$@\"", &body()]).args(arguments);
                command
            }
        }
    }
}

fn body() -> String {
    "simulated-".repeat(20)
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn mosquitto_pub(port: u16, qos: u8) -> Vec<String> {
    words(&format!("-V mqttv311 -h 127.0.0.1 -p {port} -q {qos} -t bench/telemetry -l"))
}

fn emqtt_bench(port: u16, qos: u8) -> Vec<String> {
    words(&format!("pub -V 4 -h 127.0.0.1 -p {port} -c 1000 -i 1 -I 100 -s 200 -q {qos} -t bench/%i"))
}

fn mqtt_stresser(port: u16, qos: u8) -> Vec<String> {
    // It keeps room for the results of all messages, so there must not be many more than it sends.
    let flags = format!(
        "-broker tcp://127.0.0.1:{port} -num-clients 1000 -num-messages 1000 -rampup-size 1000 -publisher-qos {qos} \
         -pause-between-messages 100ms -timeout 10m -global-timeout 10m -no-progress -constant-payload"
    );
    [words(&flags), vec![body()]].concat()
}

fn mqttx(port: u16, qos: u8) -> Vec<String> {
    let flags = format!("bench pub -V 3.1.1 -h 127.0.0.1 -p {port} -c 1000 -i 1 -im 100 -q {qos} -t bench/%i -m");
    [words(&flags), vec![body()]].concat()
}

fn mqtt_benchmark(port: u16, qos: u8) -> Vec<String> {
    words(&format!(
        "-broker tcp://127.0.0.1:{port} -clients 100 -count {MESSAGES} -size 200 -message-interval 0 -qos {qos} -quiet"
    ))
}
