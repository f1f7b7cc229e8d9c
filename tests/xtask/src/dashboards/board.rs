//! A dashboard: rows of panels, the viewer's variables, and what all our dashboards share.

use fleet_contract::metric::Metric;
use serde_json::{Value, json};

use super::panel::{Panel, datasource};

/// Grafana's grid.
const COLUMNS: u32 = 24;

/// The tag by which our dashboards find each other.
const TAG: &str = "simctl";

/// What a viewer may choose for the panels that show one quantile.
const QUANTILES: [&str; 5] = ["0.5", "0.9", "0.95", "0.99", "0.999"];
const QUANTILE_DEFAULT: &str = "0.99";

/// A dashboard.
pub(super) struct Board {
    /// Unique in the viewer's Grafana, hence with our prefix; stable, because links and bookmarks hold it.
    pub(super) uid: &'static str,
    pub(super) title: &'static str,
    pub(super) description: &'static str,
    /// The gauge, with the label `fleet`, that says which namespaces and fleets can be chosen.
    pub(super) chosen_from: Metric,
    pub(super) rows: Vec<Row>,
}

/// Panels under one headline.
pub(super) struct Row {
    title: &'static str,
    is_collapsed: bool,
    panels: Vec<Panel>,
}

impl Row {
    pub(super) fn open<const N: usize>(title: &'static str, panels: [Panel; N]) -> Row {
        Row { title, is_collapsed: false, panels: panels.into() }
    }

    /// One that a viewer opens when in need; its queries are not run before.
    pub(super) fn collapsed<const N: usize>(title: &'static str, panels: [Panel; N]) -> Row {
        Row { title, is_collapsed: true, panels: panels.into() }
    }
}

impl Board {
    /// Grafana's JSON. Without `id`, which is that of a database, and without `__inputs`, which provisioning does not
    /// fill in.
    pub(super) fn render(&self) -> Value {
        json!({
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "id": null,
            "version": 1,
            "schemaVersion": 38,
            "tags": [TAG],
            "editable": false,
            "graphTooltip": 1,
            "refresh": "5s",
            "timezone": "utc",
            "time": {"from": "now-15m", "to": "now"},
            "timepicker": {},
            "annotations": {"list": []},
            "links": [links()],
            "templating": {"list": self.variables()},
            "panels": self.panels(),
        })
    }

    fn variables(&self) -> Value {
        let metric = self.chosen_from.name;
        let quantiles = QUANTILES.map(|quantile| {
            let is_chosen = quantile == QUANTILE_DEFAULT;
            json!({"selected": is_chosen, "text": quantile, "value": quantile})
        });
        json!([
            {
                "name": "datasource",
                "label": "Data source",
                "type": "datasource",
                "query": "prometheus",
                "refresh": 1,
                "current": {},
                "hide": 0,
                "includeAll": false,
                "multi": false,
                "options": [],
                "regex": "",
            },
            choice("namespace", "Namespace", &format!("label_values({metric}, namespace)")),
            choice("fleet", "Fleet", &format!("label_values({metric}{{namespace=~\"$namespace\"}}, fleet)")),
            {
                "name": "quantile",
                "label": "Quantile",
                "type": "custom",
                "query": QUANTILES.join(","),
                "current": {"selected": true, "text": QUANTILE_DEFAULT, "value": QUANTILE_DEFAULT},
                "hide": 0,
                "includeAll": false,
                "multi": false,
                "options": quantiles,
            },
        ])
    }

    /// Rows from top to bottom, panels from left to right, a new line where one is full.
    fn panels(&self) -> Vec<Value> {
        let (mut rendered, mut id, mut y) = (Vec::new(), 0, 0);
        let mut next = || {
            id += 1;
            id
        };
        for row in &self.rows {
            let headline = next();
            let top = y;
            let (mut x, mut line) = (0, 0);
            y += 1;
            let panels: Vec<Value> = row
                .panels
                .iter()
                .map(|panel| {
                    let (w, h) = panel.size();
                    // Numbers and graphs do not share a line.
                    if x + w > COLUMNS || (line != 0 && line != h) {
                        y += line;
                        (x, line) = (0, 0);
                    }
                    let panel = panel.render(next(), x, y);
                    x += w;
                    line = h;
                    panel
                })
                .collect();
            y += line;
            let (inner, outer) = if row.is_collapsed { (panels, Vec::new()) } else { (Vec::new(), panels) };
            if row.is_collapsed {
                y = top + 1;
            }
            rendered.push(json!({
                "id": headline,
                "type": "row",
                "title": row.title,
                "collapsed": row.is_collapsed,
                "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
                "panels": inner,
            }));
            rendered.extend(outer);
        }
        rendered
    }
}

/// A variable with the values that a label has; `All` is any value and none, because without a cluster there is no
/// namespace.
fn choice(name: &str, label: &str, query: &str) -> Value {
    json!({
        "name": name,
        "label": label,
        "type": "query",
        "datasource": datasource(),
        "definition": query,
        "query": {"query": query, "refId": name},
        // When the time range changes, too: fleets come and go.
        "refresh": 2,
        "sort": 1,
        "includeAll": true,
        "allValue": ".*",
        "multi": true,
        "current": {"selected": true, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
        "options": [],
        "regex": "",
    })
}

fn links() -> Value {
    json!({
        "type": "dashboards",
        "title": "simctl",
        "tags": [TAG],
        "asDropdown": true,
        "keepTime": true,
        "includeVars": true,
        "icon": "external link",
        "targetBlank": false,
        "tooltip": "The other dashboards of simctl, with the same choice",
        "url": "",
    })
}
