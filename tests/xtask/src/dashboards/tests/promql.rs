//! What can be wrong with a query, as far as one sees without a Prometheus.

use fleet_contract::metric::{self, Kind, Metric};
use promql_parser::{
    label::Matchers,
    parser::{self, AggregateExpr, Expr, MatrixSelector, VectorSelector, token},
};

/// Labels that a series may have beside those of its metric: of the target, and of a bucket.
const LABELS: [&str; 4] = ["namespace", "fleet", "instance", "le"];

/// What is wrong with the query of a panel, in which Grafana's variables stand.
pub(super) fn faults_of_panel(query: &str) -> Vec<String> {
    let mut faults = faults_of_alert(&query.replace("$__rate_interval", "5m").replace("$quantile", "0.9"));
    if query.matches('[').count() != query.matches("[$__rate_interval]").count() {
        faults.push("a range is not $__rate_interval".into());
    }
    let is_of_a_fleet =
        |name: &str| !name.starts_with("simctl_controller_") || name.starts_with("simctl_controller_fleet_");
    for name in words(query).filter(|word| word.starts_with("simctl_") && is_of_a_fleet(word)) {
        if !query.contains(&format!("{name}{{namespace=~\"$namespace\", fleet=~\"$fleet\"")) {
            faults.push(format!("{name} is not limited to the chosen namespace and fleet"));
        }
    }
    faults
}

/// What is wrong with a query of Prometheus itself.
pub(super) fn faults_of_alert(query: &str) -> Vec<String> {
    let mut faults = Vec::new();
    match parser::parse(query) {
        Ok(expression) => visit(&expression, Inside::default(), &mut faults),
        Err(error) => faults.push(format!("{query:?} is no PromQL: {error}")),
    }
    faults
}

fn words(query: &str) -> impl Iterator<Item = &str> {
    query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
}

/// What stands around an expression.
#[derive(Clone, Copy, Default)]
struct Inside {
    growth: bool,
    aggregation: bool,
    by_le: bool,
}

fn visit(expression: &Expr, inside: Inside, faults: &mut Vec<String>) {
    match expression {
        Expr::Aggregate(aggregate) => {
            faults.extend(unknown_labels(aggregate));
            let is_sum = aggregate.op.id() == token::T_SUM || aggregate.op.id() == token::T_AVG;
            let by_le = labels(aggregate).iter().any(|label| label == "le");
            let inside = Inside { aggregation: inside.aggregation || is_sum, by_le: inside.by_le || by_le, ..inside };
            visit(&aggregate.expr, inside, faults);
        }
        Expr::Call(call) => {
            if call.func.name == "histogram_quantile" && inside.aggregation {
                faults.push("quantiles are added".into());
            }
            if call.func.name == "irate" {
                faults.push("irate shows the last two scrapes only".into());
            }
            let growth = inside.growth || ["rate", "increase"].contains(&call.func.name);
            for argument in &call.args.args {
                visit(argument, Inside { growth, ..inside }, faults);
            }
        }
        Expr::Binary(binary) => {
            visit(&binary.lhs, inside, faults);
            visit(&binary.rhs, inside, faults);
        }
        Expr::Unary(unary) => visit(&unary.expr, inside, faults),
        Expr::Paren(paren) => visit(&paren.expr, inside, faults),
        Expr::Subquery(subquery) => visit(&subquery.expr, inside, faults),
        Expr::VectorSelector(selector) => faults.extend(faults_of_selector(selector, inside)),
        Expr::MatrixSelector(MatrixSelector { vs, .. }) => faults.extend(faults_of_selector(vs, inside)),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
    }
}

fn faults_of_selector(selector: &VectorSelector, inside: Inside) -> Vec<String> {
    let name = selector.name.as_deref().unwrap_or_default();
    let Some((metric, suffix)) = find(name) else {
        return vec![format!("nobody exports {name:?}")];
    };
    let mut faults = Vec::new();
    let grows = metric.kind == Kind::Counter || metric.kind == Kind::Histogram;
    if grows != inside.growth {
        faults.push(format!("{name} is {}", if grows { "a counter without a rate" } else { "a gauge with a rate" }));
    }
    if suffix == "_bucket" && !inside.by_le {
        faults.push(format!("{name} is not added by le"));
    }
    let Matchers { matchers, or_matchers } = &selector.matchers;
    for matcher in matchers.iter().chain(or_matchers.iter().flatten()) {
        if !LABELS.contains(&matcher.name.as_str()) && !metric.labels.contains(&matcher.name.as_str()) {
            faults.push(format!("{name} has no label {}", matcher.name));
        }
    }
    faults
}

/// The metric that exports a name, and what the name has beside the metric's.
fn find(name: &str) -> Option<(Metric, &str)> {
    let tables = [metric::broker::ALL, metric::controller::ALL].concat();
    metric::of_workers().chain(tables).find_map(|metric| {
        let suffix = name.strip_prefix(metric.name)?;
        let suffixes: &[&str] = if metric.kind == Kind::Histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
        suffixes.contains(&suffix).then_some((metric, suffix))
    })
}

fn labels(aggregate: &AggregateExpr) -> Vec<String> {
    aggregate.modifier.as_ref().map(|modifier| modifier.labels().labels.clone()).unwrap_or_default()
}

/// Labels by which is added and which no metric inside has.
fn unknown_labels(aggregate: &AggregateExpr) -> Vec<String> {
    let text = aggregate.expr.to_string();
    let known: Vec<&str> =
        words(&text).filter_map(find).flat_map(|(metric, _)| metric.labels.iter().copied()).chain(LABELS).collect();
    let unknown = labels(aggregate).into_iter().filter(|label| !known.contains(&label.as_str()));
    unknown.map(|label| format!("nothing in {text} has the label {label}")).collect()
}

#[track_caller]
fn check(query: &str, expected: &str) {
    let found = faults_of_panel(query);
    assert!(found.iter().any(|fault| fault.contains(expected)), "{expected:?} is not in {found:?}");
}

#[test]
fn planted_faults_of_a_query_are_found() {
    const CHOSEN: &str = "{namespace=~\"$namespace\", fleet=~\"$fleet\"}";
    let sound = format!("sum(rate(simctl_messages_sent_total{CHOSEN}[$__rate_interval]))");
    assert_eq!(faults_of_panel(&sound), Vec::<String>::new());
    check(&sound.replace("sent_total", "send_total"), "nobody exports");
    check(&sound.replace("rate(", "(").replace("[$__rate_interval]", ""), "a counter without a rate");
    check(&sound.replace("messages_sent_total", "devices"), "a gauge with a rate");
    check(&sound.replace("$__rate_interval", "1m"), "a range is not");
    check(&sound.replace("rate(", "irate("), "irate");
    check(&sound.replace(CHOSEN, ""), "not limited");
    check(&sound.replace("fleet=~\"$fleet\"", "fleet=~\"$fleet\", quality=\"1\""), "no label quality");
    check(&sound.replace("sum(", "sum by (reason) ("), "has the label reason");
    check(&sound.replace("messages_sent_total", "connect_seconds_bucket"), "not added by le");
    check("sum(histogram_quantile(0.9, sum by (le) (rate(simctl_connect_seconds_bucket[$__rate_interval]))))", "added");
    check("sum(rate(", "is no PromQL");
}
