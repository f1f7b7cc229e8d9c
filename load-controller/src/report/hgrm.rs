//! A distribution in the percentile format of HdrHistogram, which its plotters read: a file `.hgrm` for each; values in milliseconds.

#![expect(clippy::format_push_string, reason = "a report is put together once, and reads best so")]

use fleet_contract::stats::Latency;

use super::format::{File, Format};

/// The format of [`render`].
pub(super) struct Hgrm;

impl Format for Hgrm {
    const FILES: &'static [File] = &[
        File { name: "connect.hgrm", content: |of| render(&of.stats.latency.connect) },
        File { name: "publish_ack.hgrm", content: |of| render(&of.stats.latency.publish_ack) },
        File { name: "end_to_end.hgrm", content: |of| render(&of.stats.latency.end_to_end) },
        File { name: "schedule_lag.hgrm", content: |of| render(&of.stats.latency.schedule_lag) },
        File { name: "recovery.hgrm", content: |of| render(&of.stats.latency.recovery) },
        File { name: "offline_detection.hgrm", content: |of| render(&of.stats.latency.offline_detection) },
    ];
}

/// How many lines halve the distance to 100 %, as HdrHistogram's own tools have it.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// A line for each percentile, from 0 % to the longest time; only a heading when nothing was measured.
pub fn render(latency: &Latency) -> String {
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    for quantile in quantiles(latency.count()) {
        let Some(value) = latency.quantile(quantile) else { break };
        text.push_str(&format!(
            "{:12.3} {quantile:14.12} {:10} {:14.2}\n",
            value.as_secs_f64() * 1e3,
            latency.count_up_to(value),
            1.0 / (1.0 - quantile)
        ));
    }
    if let Some(max) = latency.max() {
        let (max, count) = (max.as_secs_f64() * 1e3, latency.count());
        let mean = latency.sum_seconds() * 1e3 / count as f64;
        text.push_str(&format!("{max:12.3} {:14.12} {count:10}\n", 1.0));
        text.push_str(&format!("#[Mean    = {mean:12.3}]\n#[Max     = {max:12.3}, Total count    = {count:12}]\n"));
    }
    text
}

/// Percentiles ever nearer to 100 %, until less than one of `count` values lies beyond.
pub(super) fn quantiles(count: u64) -> Vec<f64> {
    let mut quantiles = Vec::new();
    let mut distance = 1.0_f64;
    while distance * count as f64 >= 1.0 {
        let step = distance / 2.0 / f64::from(TICKS_PER_HALF_DISTANCE);
        quantiles.extend((0..TICKS_PER_HALF_DISTANCE).map(|tick| 1.0 - distance + f64::from(tick) * step));
        distance /= 2.0;
    }
    quantiles
}

#[cfg(test)]
mod tests {
    use fleet_contract::{series::DISTRIBUTIONS, units::Span};

    use super::*;

    #[test]
    fn the_format_is_that_of_the_plotters() {
        let mut latency = Latency::default();
        for ms in 1..=4 {
            latency.record(Span::from_millis(ms));
        }
        insta::assert_snapshot!(render(&latency), @r"
               Value     Percentile TotalCount 1/(1-Percentile)

               1.000 0.000000000000          1           1.00
               1.000 0.100000000000          1           1.11
               1.000 0.200000000000          1           1.25
               2.000 0.300000000000          2           1.43
               2.000 0.400000000000          2           1.67
               2.000 0.500000000000          2           2.00
               3.001 0.550000000000          3           2.22
               3.001 0.600000000000          3           2.50
               3.001 0.650000000000          3           2.86
               3.001 0.700000000000          3           3.33
               3.001 0.750000000000          3           4.00
               4.001 0.775000000000          4           4.44
               4.001 0.800000000000          4           5.00
               4.001 0.825000000000          4           5.71
               4.001 0.850000000000          4           6.67
               4.001 1.000000000000          4
        #[Mean    =        2.501]
        #[Max     =        4.001, Total count    =            4]
        ");
    }

    #[test]
    fn each_distribution_is_a_file() {
        let names: Vec<_> = Hgrm::FILES.iter().map(|file| file.name).collect();
        let expected: Vec<_> = DISTRIBUTIONS.iter().map(|row| format!("{}.hgrm", row.key)).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn nothing_measured_is_only_a_heading() {
        assert_eq!(render(&Latency::default()).trim_end().lines().count(), 1);
    }
}
