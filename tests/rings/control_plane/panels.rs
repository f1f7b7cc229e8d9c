//! Every panel of the controller's dashboard, answered by a real Prometheus that scraped a real controller.
//!
//! What it shows of trouble is made: devices that are missing, a worker that does not answer, a change that the API
//! server refuses, a watch that is forbidden. A query that names what nobody exports gives nothing and fails here.

use fleet_contract::metric::controller::{FLEET_DEVICES, RECONCILE_ERRORS, WATCH_ERRORS};
use tests::{dashboard, eventually, prometheus::Prometheus};

use super::{
    PATIENCE, PLANE,
    kubelet::Kubelet,
    site::{Controller, HOST, Site},
    workers::{Broker, connects},
};

#[test]
fn every_panel_of_the_controllers_dashboard_has_data() {
    let site = Site::new("panels");
    let broker = Broker::start(&site);
    // Autoscalers are worth looking at, but nothing waits for them: the watch breaks off, and all else goes on.
    let account = site.account_without("autoscaling");
    let controller = site.controller_as("load-controller", &account);
    let prometheus = Prometheus::start_in(PLANE.network(), &configuration(&site, &controller)).unwrap();
    site.namespace.apply(&broker.fleet("f", 14, 5)).unwrap();
    site.settles("f", 14, 3);
    let mut workers = Kubelet::run(&site, "f");
    connects(&site, "f", 14);
    eventually("the fleet is scraped", PATIENCE, || {
        let connected = prometheus.query(&format!("{}{{state=\"connected\"}} == 14", FLEET_DEVICES.name))?;
        Ok((!connected.is_empty()).then_some(()))
    })
    .unwrap();

    // A growth inside a pod is pushed; a worker that is killed answers no more, and its devices are missing.
    site.scale("f", 15);
    connects(&site, "f", 15);
    workers.workers()[0].kill().unwrap();
    // A document that is new needs a ConfigMap, and there may be no more.
    site.namespace.kubectl(["create", "quota", "full", "--hard=count/configmaps=1"]).unwrap();
    site.namespace.wait_for("quota/full", "{.status.hard}", PATIENCE, |hard| !hard.is_empty()).unwrap();
    site.namespace.kubectl(["patch", "fleet/f", "--type=merge", "-p", r#"{"spec":{"lossAfter":"20s"}}"#]).unwrap();
    for metric in [RECONCILE_ERRORS, WATCH_ERRORS] {
        let has_happened = || Ok((controller.metric(metric.name) > 0.0).then_some(()));
        eventually(metric.name, PATIENCE, has_happened).unwrap();
    }

    let queries = dashboard::queries("controller.json").unwrap();
    assert!(queries.len() > 20, "only {} queries were found", queries.len());
    for (panel, query) in &queries {
        prometheus.wait_for_data(panel, query, PATIENCE).unwrap();
    }
    println!("{} queries of the controller's dashboard had data", queries.len());
    let chosen = prometheus.query(&format!("count by (namespace, fleet) ({})", FLEET_DEVICES.name)).unwrap();
    let labels: Vec<_> = chosen.iter().map(|sample| &sample.labels).collect();
    assert_eq!(labels, [&serde_json::json!({"namespace": site.namespace.name(), "fleet": "f"})]);
}

/// Scrapes the controller once a second, with the labels that the chart's `ServiceMonitor` gives it.
fn configuration(site: &Site, controller: &Controller) -> String {
    let target = format!("{HOST}:{}", controller.port);
    let labels = format!("{{namespace: {}}}", site.namespace.name());
    format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: load-controller
    honor_labels: true
    static_configs: [{{targets: ['{target}'], labels: {labels}}}]
"
    )
}
