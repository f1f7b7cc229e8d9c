//! Devices whose sessions somebody else takes over.

use std::sync::mpsc;

use fleet_contract::units::Span;

use super::{super::Command, DEVICES, Stage, played::Trouble};

/// Devices that send so rarely that nothing of theirs is in flight when their sessions end.
const QUIET: &str = "  connect: {rate: 1000/s, keepAlive: 1h, backoff: {base: 100ms, cap: 100ms}}\n";

const MODEL: &str = r#"
signals: {x: {kind: counter, rate: 1}}
streams:
  one: {topic: "{fleet}/{index}/one", interval: 1h, qos: 1, payload: {json: {x: "{x}"}}}
"#;

impl Stage {
    fn quiet() -> Self {
        let mut stage = Stage::of(DEVICES, QUIET, "{name: all, model: m}", &[("m", MODEL)]);
        // Longer than a worker goes unread where a controller leads.
        stage.run(Span::from_secs(40));
        assert_eq!(stage.connected(), DEVICES);
        stage
    }

    fn connected(&self) -> u32 {
        self.shard.counted.stats.devices.connected
    }

    /// Ends sessions, as a broker does that gives them to another, and lets a second pass.
    fn end(&mut self, trouble: Trouble) {
        self.shard.world.trouble(trouble);
        self.run(Span::from_secs(1));
    }

    fn read(&mut self) {
        let (reply, answer) = mpsc::sync_channel(1);
        self.commands.try_send(Command::Stats(reply)).unwrap();
        self.step(self.shard.world.time());
        answer.try_recv().unwrap();
    }
}

#[test]
fn a_session_that_ends_young_twice_is_taken_back_after_ten_seconds() {
    let mut stage = Stage::quiet();
    // The first was old.
    for expected in [DEVICES, DEVICES, 0] {
        stage.end(Trouble::DropAll);
        stage.read();
        assert_eq!(stage.connected(), expected);
    }
    stage.run(Span::from_secs(8));
    assert_eq!(stage.connected(), 0);
    stage.run(Span::from_secs(2));
    assert_eq!(stage.connected(), DEVICES);
    // What has lasted is no contest.
    stage.run(Span::from_secs(16));
    stage.end(Trouble::DropAll);
    assert_eq!(stage.connected(), DEVICES);
}

#[test]
fn devices_that_nobody_reads_and_others_run_stay_away_until_somebody_reads() {
    let mut stage = Stage::quiet();
    for _ in 0..3 {
        stage.end(Trouble::DropAll);
    }
    stage.run(Span::from_secs(600));
    assert_eq!(stage.connected(), 0);
    stage.read();
    stage.run(Span::from_secs(11));
    assert_eq!(stage.connected(), DEVICES);
}

#[test]
fn a_session_that_is_taken_every_ten_seconds_counts_too() {
    let mut stage = Stage::quiet();
    for _ in 0..3 {
        stage.end(Trouble::DropAll);
        stage.run(Span::from_secs(10));
    }
    stage.run(Span::from_secs(600));
    assert_eq!(stage.connected(), 0);
}

#[test]
fn a_stranger_with_the_id_of_one_device_only_delays_it() {
    let mut stage = Stage::quiet();
    for round in 0..20 {
        stage.end(Trouble::DropOne(3));
        stage.run(Span::from_secs(11));
        assert_eq!(stage.connected(), DEVICES, "round {round}");
    }
}

#[test]
fn who_is_read_gives_no_device_up() {
    let mut stage = Stage::quiet();
    for _ in 0..20 {
        stage.end(Trouble::DropAll);
        stage.run(Span::from_secs(11));
        assert_eq!(stage.connected(), DEVICES);
        stage.read();
    }
}
