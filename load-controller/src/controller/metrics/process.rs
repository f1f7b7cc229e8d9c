//! How the controller's own process fares, read from Linux's `/proc` at each scrape; elsewhere nothing is shown.

use std::{fs, path::Path};

use fleet_contract::{
    metric::{Kind, Metric, process as table},
    process,
};
use prometheus::{Counter, Gauge, core::Collector, proto::MetricFamily};

use super::opts;

/// The families of what can be read.
pub(super) fn families() -> Vec<MetricFamily> {
    let read = values(Path::new("/proc"));
    read.into_iter().filter_map(|(metric, value)| family(&metric, value?).ok()).flatten().collect()
}

fn values(proc: &Path) -> [(Metric, Option<f64>); table::ALL.len()] {
    let text = |path: &str| fs::read_to_string(proc.join(path)).unwrap_or_default();
    let (stat, status) = (text("self/stat"), text("self/status"));
    let memory = |name| process::memory_bytes(&status, name).map(|bytes| bytes as f64);
    let open = fs::read_dir(proc.join("self/fd")).ok().map(|files| files.count() as f64);
    // No limit is shown as none that can be reached.
    let open_max = process::open_files_max(&text("self/limits")).map_or(f64::INFINITY, |files| files as f64);
    [
        (table::CPU_SECONDS, process::cpu_seconds(&stat).map(|(user, system)| user + system)),
        (table::OPEN_FILES, open),
        (table::OPEN_FILES_MAX, open.is_some().then_some(open_max)),
        (table::VIRTUAL_MEMORY_BYTES, memory("VmSize")),
        (table::RESIDENT_MEMORY_BYTES, memory("VmRSS")),
        (table::START_TIME_SECONDS, process::start_seconds(&stat, &text("stat"))),
    ]
}

fn family(metric: &Metric, value: f64) -> Result<Vec<MetricFamily>, prometheus::Error> {
    if metric.kind == Kind::Counter {
        let counter = Counter::with_opts(opts(metric))?;
        counter.inc_by(value);
        return Ok(counter.collect());
    }
    let gauge = Gauge::with_opts(opts(metric))?;
    gauge.set(value);
    Ok(gauge.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_the_table_is_read_in_its_order() {
        let read = values(Path::new("/proc"));
        assert_eq!(read.map(|(metric, _)| metric).as_slice(), table::ALL);
        for (metric, value) in read {
            assert!(
                value.is_some_and(|value| value > 0.0) || metric == table::CPU_SECONDS,
                "{} {value:?}",
                metric.name
            );
        }
        let [(_, cpu), (_, open), _, (_, size), (_, resident), (_, start)] = read;
        assert!(cpu.is_some() && open >= Some(3.0) && size > resident, "{read:?}");
        let age = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64() - start.unwrap();
        assert!((-2.0..86_400.0).contains(&age), "the process is {age} s old");
    }

    #[test]
    fn what_cannot_be_read_is_not_shown() {
        let nowhere = tempfile::tempdir().unwrap();
        assert!(values(nowhere.path()).iter().all(|(_, value)| value.is_none()));
    }
}
