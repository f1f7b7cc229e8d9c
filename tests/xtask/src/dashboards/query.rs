//! Queries made from the tables of metrics, so that no panel asks for what nobody exports.

use fleet_contract::metric::Metric;

/// The series of a metric that the viewer's variables choose.
///
/// What a controller says of itself is of no namespace and no fleet: it is shown whatever was chosen.
#[derive(Clone)]
pub(super) struct Series {
    name: &'static str,
    suffix: &'static str,
    matchers: Vec<String>,
}

/// The chosen series of a metric.
pub(super) fn of(metric: Metric) -> Series {
    let is_of_a_fleet = !metric.name.starts_with("simctl_controller_") || metric.labels.contains(&"fleet");
    let chosen = ["namespace", "fleet"].iter().filter(|_| is_of_a_fleet);
    Series { name: metric.name, suffix: "", matchers: chosen.map(|label| format!("{label}=~\"${label}\"")).collect() }
}

impl Series {
    /// Those of one value of a label.
    pub(super) fn only(mut self, label: &str, value: &str) -> Series {
        self.matchers.push(format!("{label}=\"{value}\""));
        self
    }

    /// How many values a distribution has, as a counter.
    pub(super) fn count(&self) -> Series {
        self.part("_count")
    }

    /// The sum of a gauge.
    pub(super) fn sum(&self) -> String {
        format!("sum({})", self.select())
    }

    /// The sum of a gauge for each value of a label, or of several with commas between.
    pub(super) fn sum_by(&self, labels: &str) -> String {
        format!("sum by ({labels}) ({})", self.select())
    }

    /// How fast a counter grows, a second.
    pub(super) fn rate(&self) -> String {
        format!("sum({})", self.growth("rate"))
    }

    /// How fast a counter grows for each value of a label.
    pub(super) fn rate_by(&self, labels: &str) -> String {
        format!("sum by ({labels}) ({})", self.growth("rate"))
    }

    /// As [`Series::rate`]; 0 of what has never happened, because a counter with a reason begins with the first one.
    pub(super) fn rate_or_zero(&self) -> String {
        format!("({} or vector(0))", self.rate())
    }

    /// A quantile of the distribution over all devices: buckets are added, quantiles never are.
    pub(super) fn quantile(&self, quantile: &str) -> String {
        format!("histogram_quantile({quantile}, sum by (le) ({}))", self.part("_bucket").growth("rate"))
    }

    /// A quantile of the distribution for each value of a label.
    pub(super) fn quantile_by(&self, quantile: &str, label: &str) -> String {
        let buckets = self.part("_bucket").growth("rate");
        format!("histogram_quantile({quantile}, sum by (le, {label}) ({buckets}))")
    }

    /// What came into each bucket, for a heatmap.
    pub(super) fn buckets(&self) -> String {
        format!("sum by (le) ({})", self.part("_bucket").growth("increase"))
    }

    fn part(&self, suffix: &'static str) -> Series {
        Series { suffix, ..self.clone() }
    }

    fn growth(&self, function: &str) -> String {
        format!("{function}({}[$__rate_interval])", self.select())
    }

    fn select(&self) -> String {
        let Series { name, suffix, matchers } = self;
        if matchers.is_empty() {
            return format!("{name}{suffix}");
        }
        format!("{name}{suffix}{{{}}}", matchers.join(", "))
    }
}

/// One by the other; nothing where the other is 0, instead of infinity.
pub(super) fn ratio(one: &str, other: &str) -> String {
    format!("{one} / ({other} > 0)")
}

#[cfg(test)]
mod tests {
    use fleet_contract::metric;

    use super::*;

    #[test]
    fn a_series_is_what_the_viewer_chose() {
        assert_eq!(
            of(metric::DEVICES).only("state", "connected").sum(),
            r#"sum(simctl_devices{namespace=~"$namespace", fleet=~"$fleet", state="connected"})"#
        );
        assert_eq!(of(metric::controller::PULLS).rate(), "sum(rate(simctl_controller_pulls_total[$__rate_interval]))");
    }

    #[test]
    fn a_quantile_is_of_added_buckets() {
        let query = of(metric::controller::API_SECONDS).quantile("0.99");
        let buckets = "sum by (le) (rate(simctl_controller_api_seconds_bucket[$__rate_interval]))";
        assert_eq!(query, format!("histogram_quantile(0.99, {buckets})"));
    }
}
