//! Figures as people read them.

use std::collections::BTreeMap;

/// A count with its thousands apart: `1,234,567`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A count and what is counted.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// So many messages.
pub fn messages(number: u64) -> String {
    counted(number, "message", "messages")
}

/// So many devices.
pub fn devices(number: u32) -> String {
    counted(number.into(), "device", "devices")
}

/// A time in the unit that shows three digits: `850 µs`, `12.3 ms`, `1.20 s`, `5m 02s`, `1h 05m`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole seconds of a positive time")]
pub fn time(seconds: f64) -> String {
    let (ms, whole) = (seconds * 1e3, seconds.max(0.0).round() as u64);
    match seconds {
        s if s <= 0.0 => "0 s".into(),
        s if s < 0.000_999_5 => format!("{:.0} µs", s * 1e6),
        s if s < 0.999_5 => format!("{} ms", three_digits(ms)),
        s if s < 119.95 => format!("{} s", three_digits(s)),
        s if s < 3_599.5 => format!("{}m {:02}s", whole / 60, whole % 60),
        _ => format!("{}h {:02}m", whole / 3_600, whole % 3_600 / 60),
    }
}

/// A number of bytes: `512 B`, `1.50 KiB`, `34.2 MiB`.
pub fn bytes(bytes: f64) -> String {
    let (mut value, mut units) = (bytes, ["B", "KiB", "MiB", "GiB", "TiB"].iter());
    let mut unit = units.next().unwrap_or(&"B");
    while value >= 999.5 {
        match units.next() {
            Some(larger) => (value, unit) = (value / 1024.0, larger),
            None => break,
        }
    }
    if *unit == "B" { format!("{value:.0} B") } else { format!("{} {unit}", three_digits(value)) }
}

/// A rate or another number, with a decimal only where it says something: `0.50`, `33.3`, `1,234`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded and positive")]
pub fn number(number: f64) -> String {
    if number >= 99.95 { count(number.round() as u64) } else { three_digits(number) }
}

/// A share: `12.5 %`.
pub fn share(share: f64) -> String {
    format!("{} %", three_digits(share * 100.0))
}

/// Causes with their counts, the most frequent first: `timed_out 12, reset 3`.
pub fn causes(counts: &BTreeMap<String, u64>) -> String {
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by_key(|(cause, number)| (std::cmp::Reverse(**number), *cause));
    let listed: Vec<String> = sorted.into_iter().map(|(cause, number)| format!("{cause} {}", count(*number))).collect();
    listed.join(", ")
}

fn three_digits(value: f64) -> String {
    match value {
        0.0 => "0".into(),
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_their_thousands_apart() {
        assert_eq!([0, 999, 1_000, 12_345, 1_234_567].map(count), ["0", "999", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn times_show_three_digits_of_the_fitting_unit() {
        let shown = [0.0, 0.000_85, 0.012_34, 0.999_4, 0.999_6, 1.2, 99.0, 302.0, 3_900.0].map(time);
        assert_eq!(shown, ["0 s", "850 µs", "12.3 ms", "999 ms", "1.00 s", "1.20 s", "99.0 s", "5m 02s", "1h 05m"]);
    }

    #[test]
    fn bytes_never_show_four_digits() {
        assert_eq!(
            [0.0, 512.0, 1_000.0, 1_536.0, 35_861_299.0].map(bytes),
            ["0 B", "512 B", "0.98 KiB", "1.50 KiB", "34.2 MiB"]
        );
    }

    #[test]
    fn the_most_frequent_cause_comes_first() {
        let counts = [("reset".to_owned(), 3), ("timed_out".to_owned(), 12)].into();
        assert_eq!(causes(&counts), "timed_out 12, reset 3");
    }

    #[test]
    fn small_rates_keep_their_decimals() {
        assert_eq!([0.5, 33.333, 99.96, 1_234.4].map(number), ["0.50", "33.3", "100", "1,234"]);
        assert_eq!([0.05, 0.125, 0.0].map(share), ["5.00 %", "12.5 %", "0 %"]);
    }
}
