//! What the engine makes of threads that do not answer, and of devices that it should have connected before.

use fleet_contract::{
    plan::{self, Population},
    units::{Rate, Span},
};
use mio::Poll;

use super::*;
use shard::ShareOfRate;

/// A native engine of shards that are played by these closures.
fn native(shards: Vec<Box<dyn FnMut(u64) -> Option<Reading> + Send>>) -> (Native, Vec<JoinHandle<()>>) {
    let mut threads = Vec::new();
    let mut native = Native {
        shards: Vec::new(),
        observers: Vec::new(),
        lookers: Vec::new(),
        watches: Vec::new(),
        slots: Vec::new(),
        exchanges: Vec::new(),
        last: Mutex::default(),
        rests: AtomicBool::new(false),
    };
    for mut play in shards {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), shard::WAKE).unwrap());
        let (commands, commands_end) = mpsc::sync_channel(COMMANDS_MAX);
        threads.push(thread::spawn(move || {
            let _poll = poll;
            // What is not answered is kept, so that whoever asks waits in vain.
            let mut unanswered = Vec::new();
            let mut asked = 0;
            while let Ok(command) = commands_end.recv() {
                match command {
                    Command::Stats(reply) => match play(asked) {
                        Some(reading) => reply.send(Box::new(reading)).unwrap(),
                        None => unanswered.push(reply),
                    },
                    Command::Stop => return,
                    _ => {}
                }
                asked += 1;
            }
        }));
        native.shards.push(Handle { commands, waker, thread: None });
    }
    (native, threads)
}

fn counted(sent: u64, is_drained: bool) -> Reading {
    let mut stats = Stats::default();
    stats.messages[1].sent = sent;
    stats.devices.connected = 5;
    stats.generator.shards = 1;
    Reading { stats, is_drained }
}

#[test]
fn a_shard_that_is_silent_takes_nothing_back() {
    let (mut native, threads) = native(vec![
        Box::new(|asked| Some(counted(10 + asked, true))),
        // It answers the first and the third time.
        Box::new(|asked| (asked != 1).then(|| counted(100 + asked, true))),
    ]);
    let read = || {
        let (stats, is_drained) = native.reading(&Phases::default());
        (stats.messages[1].sent, stats.devices.connected, stats.generator.shards_silent, is_drained)
    };
    assert_eq!(read(), (110, 10, 0, true));
    assert_eq!(read(), (111, 10, 1, true), "the silent one counts as it did");
    assert_eq!(read(), (114, 10, 0, true));
    native.end();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "threads answer in real time")]
fn a_shard_that_never_answers_is_neither_drained_nor_waited_for_long() {
    let (mut native, threads) =
        native(vec![Box::new(|_| None), Box::new(|_| None), Box::new(|_| Some(counted(1, true)))]);
    let started = Instant::now();
    let (stats, is_drained) = native.reading(&Phases::default());
    assert_eq!((stats.generator.shards, stats.generator.shards_silent, is_drained), (3, 2, false));
    assert!(started.elapsed() < 2 * ANSWER_PATIENCE, "two silent shards take {:?}", started.elapsed());
    native.end();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

const EPOCH: Micros = Micros(10_000_000_000);
const STARTED: Micros = Micros(10_000_500_000);

/// Pod 1 of 10, with ten devices of a hundred; the fleet connects a hundred a second.
fn share() -> ShareOfRate {
    let worker = plan::Shard::of(1, 10);
    ShareOfRate { rate: Rate::per_second(100.0).unwrap(), worker, threads: 2, epoch: EPOCH, started: STARTED }
}

/// A hundred devices from `start` on.
fn population(start: Micros) -> Population {
    Plan::new(1, start, 100).population(share().rate)
}

#[test]
fn what_is_yet_to_come_keeps_the_timetable_of_the_fleet() {
    let plan = population(EPOCH);
    assert_eq!(
        share().intended(DeviceIndex::new(15), EPOCH.after(Span::from_millis(150)), &plan),
        EPOCH.after(Span::from_millis(150))
    );
    // The last one, device 19, is planned for a time before the engine had started, but the process lived.
    assert_eq!(share().last_connect(&plan), STARTED);
    let later = population(EPOCH.after(Span::from_secs(5)));
    assert_eq!(share().last_connect(&later), EPOCH.after(Span::from_millis(5_190)));
}

#[test]
fn what_should_have_come_before_the_process_comes_at_its_share_of_the_rate() {
    let plan = population(EPOCH.before(Span::from_secs(3_600)));
    let planned = |index| plan.stay(index, EPOCH).unwrap().from;
    let intended: Vec<_> =
        [10, 11, 19].map(|index| share().intended(DeviceIndex::new(index), planned(index), &plan)).into();
    let after_start = |millis| STARTED.after(Span::from_millis(millis));
    assert_eq!(intended, [after_start(0), after_start(100), after_start(900)]);
    assert_eq!(share().last_connect(&plan), after_start(900));
}
