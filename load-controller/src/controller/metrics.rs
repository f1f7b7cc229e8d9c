//! The controller's instruments, by the tables [`fleet_contract::metric::controller`] and
//! [`fleet_contract::metric::process`].

use std::time::Duration;

use fleet_contract::metric::{BUCKETS_SECONDS, Metric, controller as table};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder, core::Collector,
};

mod process;

/// The type of what [`Metrics::render`] returns, for the header `content-type`.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// All instruments; clones are the same ones.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Whether this controller leads.
    pub leader: IntGauge,
    /// Fleets.
    pub fleets: IntGauge,
    /// Comparisons.
    pub reconciles: IntCounter,
    /// Failed comparisons by reason.
    pub reconcile_errors: IntCounterVec,
    /// Their time.
    pub reconcile_seconds: Histogram,
    /// The time of those that changed something, without that of the API server.
    pub reconcile_own_seconds: Histogram,
    api_seconds: HistogramVec,
    /// Broken watches by kind.
    pub watch_errors: IntCounterVec,
    /// Readings asked for.
    pub pulls: IntCounter,
    /// Readings that did not come, by reason.
    pub pull_failures: IntCounterVec,
    /// Plans pushed, by result.
    pub pushes: IntCounterVec,
    /// Pods deleted by force.
    pub pods_forced: IntCounter,
    fleet_devices: IntGaugeVec,
    fleet_pods: IntGaugeVec,
}

/// The figures of one fleet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FleetFigures {
    /// Devices that the plan wants.
    pub desired: u32,
    /// Devices assigned to pods that exist.
    pub assigned: u32,
    /// Devices with a session.
    pub connected: u32,
    /// Pods that there should be.
    pub pods_desired: u32,
    /// Pods that there are.
    pub pods_present: u32,
    /// Pods that are ready.
    pub pods_ready: u32,
    /// Pods that answer.
    pub pods_answering: u32,
}

const DEVICE_STATES: [&str; 3] = ["desired", "assigned", "connected"];
const POD_STATES: [&str; 4] = ["desired", "present", "ready", "answering"];

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        Self {
            leader: register(&registry, IntGauge::with_opts(opts(&table::LEADER))),
            fleets: register(&registry, IntGauge::with_opts(opts(&table::FLEETS))),
            reconciles: register(&registry, IntCounter::with_opts(opts(&table::RECONCILES))),
            reconcile_errors: counters(&registry, &table::RECONCILE_ERRORS),
            reconcile_seconds: register(&registry, Histogram::with_opts(buckets(&table::RECONCILE_SECONDS))),
            reconcile_own_seconds: register(&registry, Histogram::with_opts(buckets(&table::RECONCILE_OWN_SECONDS))),
            api_seconds: register(
                &registry,
                HistogramVec::new(buckets(&table::API_SECONDS), table::API_SECONDS.labels),
            ),
            watch_errors: counters(&registry, &table::WATCH_ERRORS),
            pulls: register(&registry, IntCounter::with_opts(opts(&table::PULLS))),
            pull_failures: counters(&registry, &table::PULL_FAILURES),
            pushes: counters(&registry, &table::PUSHES),
            pods_forced: register(&registry, IntCounter::with_opts(opts(&table::PODS_FORCED))),
            fleet_devices: gauges(&registry, &table::FLEET_DEVICES),
            fleet_pods: gauges(&registry, &table::FLEET_PODS),
            registry,
        }
    }
}

impl Metrics {
    /// Everything in Prometheus' text format.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let families = [self.registry.gather(), process::families()].concat();
        TextEncoder::new().encode_to_string(&families)
    }

    /// A call to the API server took so long.
    pub fn called(&self, verb: &str, took: Duration) {
        self.api_seconds.with_label_values(&[verb]).observe(took.as_secs_f64());
    }

    /// Shows the figures of a fleet.
    pub fn show(&self, namespace: &str, fleet: &str, figures: FleetFigures) {
        let FleetFigures { desired, assigned, connected, pods_desired, pods_present, pods_ready, pods_answering } =
            figures;
        for (state, count) in DEVICE_STATES.into_iter().zip([desired, assigned, connected]) {
            self.fleet_devices.with_label_values(&[namespace, fleet, state]).set(count.into());
        }
        for (state, count) in POD_STATES.into_iter().zip([pods_desired, pods_present, pods_ready, pods_answering]) {
            self.fleet_pods.with_label_values(&[namespace, fleet, state]).set(count.into());
        }
    }

    /// Forgets a fleet; one that was never shown leaves nothing to forget.
    pub fn forget(&self, namespace: &str, fleet: &str) {
        for state in DEVICE_STATES {
            drop(self.fleet_devices.remove_label_values(&[namespace, fleet, state]));
        }
        for state in POD_STATES {
            drop(self.fleet_pods.remove_label_values(&[namespace, fleet, state]));
        }
    }
}

fn opts(metric: &Metric) -> Opts {
    Opts::new(metric.name, metric.help)
}

fn buckets(metric: &Metric) -> HistogramOpts {
    HistogramOpts::from(opts(metric)).buckets(BUCKETS_SECONDS.to_vec())
}

fn counters(registry: &Registry, metric: &Metric) -> IntCounterVec {
    register(registry, IntCounterVec::new(opts(metric), metric.labels))
}

fn gauges(registry: &Registry, metric: &Metric) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(opts(metric), metric.labels))
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, made: Result<C, prometheus::Error>) -> C {
    let instrument = made.expect("the table has only valid names, as its tests prove");
    registry.register(Box::new(instrument.clone())).expect("no name stands twice in the table");
    instrument
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_what_the_table_names() {
        let metrics = Metrics::default();
        metrics.called("apply", Duration::from_millis(3));
        metrics.show("load", "demo", FleetFigures { connected: 7, ..FleetFigures::default() });
        for labelled in [&metrics.reconcile_errors, &metrics.watch_errors, &metrics.pull_failures, &metrics.pushes] {
            labelled.with_label_values(&["x"]).inc();
        }
        let text = metrics.render().unwrap();
        for metric in [table::ALL, fleet_contract::metric::process::ALL].concat() {
            assert!(text.contains(&format!("# TYPE {} ", metric.name)), "{} is missing", metric.name);
        }
        assert!(
            text.contains(r#"simctl_controller_fleet_devices{fleet="demo",namespace="load",state="connected"} 7"#),
            "{text}"
        );
        metrics.forget("load", "demo");
        assert!(!metrics.render().unwrap().contains("demo"));
    }
}
