//! Numbers with a fixed number of decimals, by integer arithmetic.

use fleet_contract::model::signal::Range;

const POWERS: [u64; 10] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];

/// How a number becomes a whole number of its last decimal, without leaving its range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fixed {
    pub(super) decimals: u8,
    low: i64,
    high: i64,
}

impl Fixed {
    /// Decimals from 0 to 9. A range that holds no number with so few decimals keeps its lower end, rounded.
    #[expect(clippy::cast_possible_truncation, reason = "saturates")]
    pub(super) fn new(decimals: u8, [low, high]: Range) -> Self {
        let power = power(decimals) as f64;
        // What a decimal such as 0.1 loses in binary must not cost a step.
        let slack = |scaled: f64| scaled.abs() * 4.0 * f64::EPSILON;
        let (low, high) = (low * power, high * power);
        let low = (low - slack(low)).ceil() as i64;
        Self { decimals, low, high: ((high + slack(high)).floor() as i64).max(low) }
    }

    /// The number in units of its last decimal.
    #[expect(clippy::cast_possible_truncation, reason = "saturates")]
    pub(super) fn round(self, number: f64) -> i64 {
        ((number * power(self.decimals) as f64).round() as i64).clamp(self.low, self.high)
    }
}

pub(super) fn power(decimals: u8) -> u64 {
    POWERS[usize::from(decimals.min(9))]
}

/// Writes `scaled` / 10^`decimals`.
pub(super) fn write(scaled: i64, decimals: u8, out: &mut Vec<u8>) {
    if scaled < 0 {
        out.push(b'-');
    }
    let power = power(decimals);
    let scaled = scaled.unsigned_abs();
    write_unsigned(scaled / power, out);
    if decimals > 0 {
        out.push(b'.');
        write_digits(scaled % power, usize::from(decimals), out);
    }
}

/// Writes a whole number.
pub(super) fn write_unsigned(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Writes the last `count` digits, at most 20, with leading zeros.
pub(super) fn write_digits(mut number: u64, count: usize, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 20];
    for digit in digits[..count].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&digits[..count]);
}
