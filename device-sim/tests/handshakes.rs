//! Handshakes that take long, beside fleets that are at work. A test binary of its own, because it measures lags.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails in a helper fails the test")]
#![allow(dead_code, reason = "the helpers of other tests can more than is needed here")]

#[path = "common/authority.rs"]
mod authority;
#[path = "common/front.rs"]
mod front;
#[path = "common/run.rs"]
mod run;
#[path = "common/site.rs"]
mod site;

use run::until;
use site::Site;

#[test]
fn a_slow_handshake_delays_nobody_else() {
    let site = Site::new("mqtts", true);
    let engine = site.start(20, "  observe: none\n  connect: {timeout: 30s}\n", &[]);
    let early = until(&engine, "messages of the fast ones", |reading| reading.stats.all_messages().sent >= 200);
    assert!(early.devices.connected < 20, "nobody was slow");
    let stats = until(&engine, "every device connected", |reading| reading.stats.devices.connected == 20);
    let p99 = stats.latency.schedule_lag.quantile(0.99).unwrap();
    assert!(p99.0 < 20_000, "schedule lag p99 {p99}");
    engine.stop();
}
