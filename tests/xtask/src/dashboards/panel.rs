//! One panel: what it asks, how it shows that, and what a viewer is to make of it.

use serde_json::{Map, Value, json};

use super::query::Series;

/// The data source that the viewer has chosen.
pub(super) fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

/// A panel without its place.
pub(super) struct Panel {
    title: &'static str,
    description: &'static str,
    unit: Unit,
    form: Form,
    targets: Vec<Target>,
    /// From which value on it has which colour, in Grafana's words; the first one has no bound.
    steps: Vec<(&'static str, Option<f64>)>,
}

/// What values are, in Grafana's names.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    Count,
    PerSecond,
    MessagesPerSecond,
    Bytes,
    BytesPerSecond,
    Seconds,
    Ratio,
}

/// How values are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Stat,
    Lines,
    Stacked,
    Heatmap,
    Table,
}

struct Target {
    legend: String,
    query: String,
}

/// One number.
pub(super) fn stat(title: &'static str, description: &'static str, unit: Unit, query: String) -> Panel {
    Panel::new(title, description, unit, Form::Stat, vec![Target { legend: title.into(), query }])
}

/// Lines over time; a legend such as `{{state}}` names the value of a label.
pub(super) fn lines<const N: usize>(
    title: &'static str,
    description: &'static str,
    unit: Unit,
    targets: [(&str, String); N],
) -> Panel {
    let targets = targets.into_iter().map(|(legend, query)| Target { legend: legend.into(), query });
    Panel::new(title, description, unit, Form::Lines, targets.collect())
}

/// Parts of a whole over time, for each value of a label or of several with commas between.
pub(super) fn stacked(title: &'static str, description: &'static str, unit: Unit, by: &str, series: &Series) -> Panel {
    let legend: Vec<String> = by.split(", ").map(|label| format!("{{{{{label}}}}}")).collect();
    let target = Target { legend: legend.join("/"), query: series.rate_by(by) };
    Panel::new(title, description, unit, Form::Stacked, vec![target])
}

/// A distribution over time.
pub(super) fn heatmap(title: &'static str, description: &'static str, series: &Series) -> Panel {
    let target = Target { legend: "{{le}}".into(), query: series.buckets() };
    Panel::new(title, description, Unit::Seconds, Form::Heatmap, vec![target])
}

/// Rows of labels and a value, of now.
pub(super) fn table(title: &'static str, description: &'static str, unit: Unit, query: String) -> Panel {
    Panel::new(title, description, unit, Form::Table, vec![Target { legend: String::new(), query }])
}

/// Rows of labels and a column for each query, of now.
pub(super) fn columned(
    title: &'static str,
    description: &'static str,
    unit: Unit,
    columns: impl Iterator<Item = (String, String)>,
) -> Panel {
    let targets = columns.map(|(legend, query)| Target { legend, query }).collect();
    Panel::new(title, description, unit, Form::Table, targets)
}

impl Panel {
    fn new(title: &'static str, description: &'static str, unit: Unit, form: Form, targets: Vec<Target>) -> Panel {
        Panel { title, description, unit, form, targets, steps: vec![("green", None)] }
    }

    /// Orange and red from these values up.
    pub(super) fn bad_above(mut self, orange: f64, red: f64) -> Panel {
        self.steps = vec![("green", None), ("orange", Some(orange)), ("red", Some(red))];
        self
    }

    /// Orange and red below these values.
    pub(super) fn bad_below(mut self, orange: f64, red: f64) -> Panel {
        self.steps = vec![("red", None), ("orange", Some(red)), ("green", Some(orange))];
        self
    }

    /// Width and height in Grafana's grid of 24 columns.
    pub(super) fn size(&self) -> (u32, u32) {
        match self.form {
            Form::Stat => (4, 4),
            // A column for each query.
            Form::Table if self.targets.len() > 1 => (24, 8),
            _ => (8, 8),
        }
    }

    /// Grafana's JSON of the panel at a place.
    pub(super) fn render(&self, id: u32, x: u32, y: u32) -> Value {
        let (w, h) = self.size();
        let targets: Vec<Value> =
            self.targets.iter().zip('A'..='Z').map(|(target, id)| self.render_target(target, id)).collect();
        let mut panel = json!({
            "id": id,
            "type": self.form.name(),
            "title": self.title,
            "description": self.description,
            "datasource": datasource(),
            "gridPos": {"x": x, "y": y, "w": w, "h": h},
            "fieldConfig": {"defaults": self.defaults(), "overrides": []},
            "options": self.form.options(self.unit),
            "targets": targets,
        });
        if self.form == Form::Table {
            let mut steps = Vec::new();
            let columns: Map<String, Value> = match &*self.targets {
                [_] => [("Value".to_owned(), json!(self.title))].into_iter().collect(),
                targets => {
                    steps.push(json!({"id": "merge", "options": {}}));
                    targets.iter().zip('A'..='Z').map(|(it, id)| (format!("Value #{id}"), json!(it.legend))).collect()
                }
            };
            let organize = json!({"excludeByName": {"Time": true}, "renameByName": columns});
            steps.push(json!({"id": "organize", "options": organize}));
            panel["transformations"] = json!(steps);
        }
        panel
    }

    fn render_target(&self, target: &Target, id: char) -> Value {
        let format = match self.form {
            Form::Heatmap => "heatmap",
            Form::Table => "table",
            Form::Stat | Form::Lines | Form::Stacked => "time_series",
        };
        json!({
            "refId": id.to_string(),
            "datasource": datasource(),
            "editorMode": "code",
            "expr": target.query,
            "format": format,
            "instant": self.form == Form::Table,
            "range": self.form != Form::Table,
            "legendFormat": target.legend,
        })
    }

    fn defaults(&self) -> Value {
        let steps = self.steps.iter().map(|(colour, from)| json!({"color": colour, "value": from}));
        let mut defaults = json!({
            "unit": self.unit.name(),
            "min": 0,
            "thresholds": {"mode": "absolute", "steps": steps.collect::<Vec<_>>()},
        });
        if matches!(self.form, Form::Lines | Form::Stacked) {
            let is_stacked = self.form == Form::Stacked;
            defaults["custom"] = json!({
                "lineWidth": 1,
                "fillOpacity": if is_stacked { 40 } else { 8 },
                "showPoints": "never",
                "stacking": {"mode": if is_stacked { "normal" } else { "none" }, "group": "A"},
                "thresholdsStyle": {"mode": if self.steps.len() > 1 { "dashed" } else { "off" }},
            });
        }
        if self.form == Form::Stat {
            defaults["color"] = json!({"mode": "thresholds"});
        }
        defaults
    }
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Count => "short",
            Unit::PerSecond => "cps",
            Unit::MessagesPerSecond => "mps",
            Unit::Bytes => "bytes",
            Unit::BytesPerSecond => "binBps",
            Unit::Seconds => "s",
            Unit::Ratio => "percentunit",
        }
    }
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Form::Stat => "stat",
            Form::Lines | Form::Stacked => "timeseries",
            Form::Heatmap => "heatmap",
            Form::Table => "table",
        }
    }

    fn options(self, unit: Unit) -> Value {
        match self {
            Form::Stat => json!({
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
                "colorMode": "value",
                "graphMode": "area",
                "justifyMode": "auto",
                "orientation": "auto",
                "textMode": "value",
            }),
            Form::Lines | Form::Stacked => json!({
                "legend": {"displayMode": "table", "placement": "bottom", "showLegend": true, "calcs": ["lastNotNull", "max"]},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }),
            Form::Heatmap => json!({
                "calculate": false,
                "cellGap": 1,
                "color": {"mode": "scheme", "scheme": "Oranges", "exponent": 0.5, "steps": 64, "reverse": false},
                "exemplars": {"color": "rgba(255,0,255,0.7)"},
                "filterValues": {"le": 1e-9},
                "legend": {"show": true},
                "rowsFrame": {"layout": "auto"},
                "showValue": "never",
                "tooltip": {"show": true, "yHistogram": true},
                "yAxis": {"axisPlacement": "left", "unit": unit.name(), "reverse": false},
            }),
            Form::Table => json!({"showHeader": true, "cellHeight": "sm", "footer": {"show": false}}),
        }
    }
}
