//! What the committed dashboards ask of Prometheus.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::project;

/// What a viewer has chosen, and Grafana puts into the queries: everything.
const CHOSEN: [(&str, &str); 4] =
    [("$__rate_interval", "1m"), ("$quantile", "0.99"), ("$namespace", ".*"), ("$fleet", ".*")];

/// The queries of a file in `dashboards/`, by panel and place, as Grafana asks them when everything is chosen.
///
/// # Errors
/// When a query has a variable that nobody chooses.
pub fn queries(file: &str) -> Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(project::root().join("dashboards").join(file)).context("the dashboard is missing")?;
    let board: Value = serde_json::from_str(&text)?;
    let outer = board["panels"].as_array().context("a dashboard without panels")?;
    let inner = outer.iter().flat_map(|row| row["panels"].as_array().into_iter().flatten());
    let mut queries = BTreeMap::new();
    for panel in outer.iter().chain(inner) {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().with_context(|| format!("a target without a query in {panel}"))?;
            let asked = CHOSEN.iter().fold(query.to_owned(), |query, (variable, value)| query.replace(variable, value));
            ensure!(!asked.contains('$'), "an unknown variable in {query}");
            let place = format!("{} {} {}", panel["id"], panel["title"], target["refId"]);
            ensure!(queries.insert(place.clone(), asked).is_none(), "{place} is there twice");
        }
    }
    Ok(queries)
}
