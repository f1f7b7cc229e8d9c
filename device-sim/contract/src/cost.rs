//! What devices cost: the one model behind `simctl plan` and the sizes of pods. Pure.
//!
//! The figures were measured on loopback on one two-core machine (ARCHITECTURE.md, "How a large fleet grows"); they tell whether a plan is
//! sensible, not what a bill will be.

use crate::{
    fleet::{FleetSpec, Observe, Qos},
    units::Span,
};

/// CPU time of a message in seconds, by quality of service.
const MESSAGE_SECONDS: [f64; 3] = [11e-6, 17e-6, 28e-6];

/// CPU time that observing a message adds, in seconds.
const OBSERVED_SECONDS: f64 = 7e-6;

/// CPU time of a look at a stream that follows a rule, in seconds.
const LOOK_SECONDS: f64 = 0.6e-6;

/// CPU time of a thread that wakes up, in seconds. A busy thread finds the work of two milliseconds when it wakes, or of a
/// quarter of a short interval; one with little to do wakes for each message.
const WAKE_SECONDS: f64 = 36e-6;

// Memory has two sets of figures. What a fleet will take is told by what was measured at rest, all processes together. What a
// pod asks for is its limit, too: it may not be resized while it runs, and one that goes past it is killed with all of its
// devices. So that is the most that each part takes at a time, for a process that shares no page with another one.

/// Memory of a run without workers, in bytes: measured as the proportional share (PSS) of all processes, which have the
/// program's text in common.
pub const RUN_BYTES: u64 = 20 << 20;

/// The same of a worker without devices.
pub const WORKER_BYTES: u64 = 4 << 20;

/// What a worker without devices takes in a pod at most, in bytes: while it compiles models and resolves names.
pub const POD_WORKER_BYTES: u64 = 48 << 20;

/// Memory of a device at rest, in bytes.
pub const DEVICE_BYTES: u64 = 384;

/// What TLS adds to a device, in bytes.
pub const TLS_BYTES: u64 = 4_600;

/// What a device takes in a pod at most, in bytes: while it connects, over TLS, or its broker does not read.
pub const POD_DEVICE_BYTES: u64 = 12 << 10;

/// What an observed message takes in a pod that waits for its judgement, in bytes. A fleet at rest has few of them.
pub const POD_LEDGER_ROW_BYTES: u64 = 128;

const _: () = assert!(POD_WORKER_BYTES > RUN_BYTES + WORKER_BYTES && POD_DEVICE_BYTES > DEVICE_BYTES + TLS_BYTES);

/// What the kernel keeps for one end of a TCP connection, in bytes.
pub const KERNEL_BYTES: u64 = 4_800;

/// An engine sleeps until so long after it has last looked at its timers, unless a socket is ready before: a sleep and a
/// wake cost as much as four messages, and what falls due meanwhile shares them.
pub const USUAL_PAUSE: Span = Span::from_millis(2);

/// The shortest pause between two looks, and so the step of timers.
pub const SHORTEST_PAUSE: Span = Span(250);

/// An interval below this is a fast one, of which [`USUAL_PAUSE`] would be a large share.
const FAST: Span = Span::from_millis(10);

/// How long after a look at the timers of a thread the next one is, where its shortest interval is `shortest`.
pub fn pause(shortest: Option<Span>) -> Span {
    let quarter = |interval: Span| Span(interval.0 / 4).clamp(SHORTEST_PAUSE, USUAL_PAUSE);
    shortest.filter(|interval| *interval < FAST).map_or(USUAL_PAUSE, quarter)
}

/// What a stream does in a second, all of its devices together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StreamLoad {
    /// Its quality of service.
    pub qos: Qos,
    /// Its messages.
    pub messages: f64,
    /// How often it is looked at, if it follows a rule; else 0.
    pub looks: f64,
    /// The time between two messages of a device; none for a stream that follows a rule.
    pub interval: Option<Span>,
}

/// The CPU of streams in cores, spread over `threads`, of whose messages a share of `observed` (0 to 1) is followed.
pub fn cpu_cores(streams: impl IntoIterator<Item = StreamLoad>, observed: f64, threads: u32) -> f64 {
    let (mut busy, mut turns, mut shortest) = (0.0, 0.0, None);
    for StreamLoad { qos, messages, looks, interval } in streams {
        busy += messages * (MESSAGE_SECONDS[qos as usize] + observed * OBSERVED_SECONDS) + looks * LOOK_SECONDS;
        turns += messages.max(looks);
        shortest = shortest.into_iter().chain(interval).min();
    }
    let wakes_per_second = 1.0 / pause(shortest).as_secs_f64();
    // Turns at random instants: the share of the pauses between two wakes in which a thread has any (Poisson).
    let occupied = 1.0 - (-turns / f64::from(threads) / wakes_per_second).exp();
    busy + f64::from(threads) * wakes_per_second * occupied * WAKE_SECONDS
}

/// The share of the devices whose messages are followed, 0 to 1.
pub fn observed_share(spec: &FleetSpec) -> f64 {
    match spec.observe {
        Observe::All => 1.0,
        Observe::Sample => spec.observer.sample.fraction(),
        Observe::None => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(qos: Qos, messages: f64) -> StreamLoad {
        StreamLoad { qos, messages, looks: 0.0, interval: Some(Span::from_secs(1)) }
    }

    #[test]
    fn a_message_costs_what_was_measured() {
        // So many that the threads never sleep for a whole pause in vain.
        let busy = |qos, observed| cpu_cores([load(qos, 1e5)], observed, 1) - cpu_cores([load(qos, 9e4)], observed, 1);
        let micros = |cores: f64| format!("{:.0}", cores / 1e4 * 1e6);
        let qos = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];
        assert_eq!(qos.map(|qos| micros(busy(qos, 0.0))), ["11", "17", "28"]);
        assert_eq!(qos.map(|qos| micros(busy(qos, 1.0))), ["18", "24", "35"]);
    }

    #[test]
    fn a_thread_with_little_to_do_wakes_for_each_message() {
        let cores = cpu_cores([load(Qos::AtMostOnce, 10.0)], 0.0, 1);
        assert!((cores - 10.0 * (11e-6 + 36e-6)).abs() < 1e-5, "{cores}");
        assert!(cores < 0.001);
    }

    #[test]
    fn a_fast_stream_is_looked_at_more_often() {
        let pauses = [None, Some(Span::from_secs(1)), Some(Span::from_millis(4)), Some(Span(100))].map(pause);
        assert_eq!(pauses, [USUAL_PAUSE, USUAL_PAUSE, Span::from_millis(1), SHORTEST_PAUSE]);
    }
}
