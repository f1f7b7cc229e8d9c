//! The timeline as comma-separated values: the file `timeline.csv`.

use super::TimelineInReport;
use crate::timeline::{Point, Quantiles};

const COLUMNS: [&str; 30] = [
    "at_seconds",
    "length_seconds",
    "devices_desired",
    "devices_connected",
    "offered",
    "withheld",
    "sent",
    "acknowledged",
    "delivered",
    "lost",
    "duplicated",
    "reordered",
    "bytes_sent",
    "reconnects",
    "connections_lost",
    "publish_ack_p50_seconds",
    "publish_ack_p99_seconds",
    "publish_ack_max_seconds",
    "end_to_end_p50_seconds",
    "end_to_end_p99_seconds",
    "end_to_end_max_seconds",
    "schedule_lag_p50_seconds",
    "schedule_lag_p99_seconds",
    "schedule_lag_max_seconds",
    "cpu_seconds",
    "memory_bytes",
    "offered_per_second",
    "sent_per_second",
    "delivered_per_second",
    "paused_seconds",
];

/// A heading and a line for each point; a cell is empty where nothing was measured.
pub fn render(timeline: &TimelineInReport) -> String {
    // All cells are numbers, of which none needs quotes.
    let rows = timeline.points.iter().map(|point| cells(point).join(",") + "\n");
    std::iter::once(COLUMNS.join(",") + "\n").chain(rows).collect()
}

fn cells(point: &Point) -> [String; COLUMNS.len()] {
    let [ack_p50, ack_p99, ack_max] = quantiles(&point.publish_ack);
    let [end_p50, end_p99, end_max] = quantiles(&point.end_to_end);
    let [lag_p50, lag_p99, lag_max] = quantiles(&point.schedule_lag);
    [
        format!("{:.3}", point.at),
        format!("{:.3}", point.seconds),
        point.desired.to_string(),
        point.connected.to_string(),
        point.offered.to_string(),
        point.withheld.to_string(),
        point.sent.to_string(),
        point.acknowledged.to_string(),
        point.delivered.to_string(),
        point.lost.to_string(),
        point.duplicated.to_string(),
        point.reordered.to_string(),
        point.bytes_sent.to_string(),
        point.reconnects.to_string(),
        point.connections_lost.to_string(),
        ack_p50,
        ack_p99,
        ack_max,
        end_p50,
        end_p99,
        end_max,
        lag_p50,
        lag_p99,
        lag_max,
        format!("{:.3}", point.cpu_seconds),
        point.memory_bytes.to_string(),
        format!("{:.1}", point.rate(point.offered)),
        format!("{:.1}", point.rate(point.sent)),
        format!("{:.1}", point.rate(point.delivered)),
        format!("{:.3}", point.paused_seconds),
    ]
}

fn quantiles(of: &Quantiles) -> [String; 3] {
    [of.p50, of.p99, of.max].map(|value| value.map_or_else(String::new, |seconds| format!("{seconds:.6}")))
}

#[cfg(test)]
mod tests {
    use fleet_contract::units::Span;

    use super::*;
    use crate::{
        fixture::{START, stats_of},
        phase::Phase,
        timeline::Timeline,
    };

    #[test]
    fn each_point_is_a_line() {
        let mut timeline = Timeline::new(START);
        timeline.push(START.after(Span::from_secs(1)), &stats_of(10), Phase::Running);
        let text = render(&TimelineInReport::new(&timeline));
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let columns = reader.headers().unwrap().clone();
        let row = reader.records().next().unwrap().unwrap();
        let cell = |name: &str| &row[columns.iter().position(|column| column == name).unwrap()];
        assert_eq!((cell("sent"), cell("end_to_end_max_seconds"), cell("sent_per_second")), ("10", "0.000909", "10.0"));
    }
}
