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

/// Writes `scaled` / 10^`decimals`; at most 9 decimals.
pub(super) fn write(scaled: i64, decimals: u8, out: &mut Vec<u8>) {
    // From the last digit to the first; a sign, 20 digits and the point are the longest there is.
    let mut text = [0; 22];
    let mut begin = text.len();
    let mut prepend = |character| {
        begin -= 1;
        text[begin] = character;
    };
    let mut rest = scaled.unsigned_abs();
    for place in 1..=decimals.min(9) {
        prepend(digit(rest));
        rest /= 10;
        if place == decimals {
            prepend(b'.');
        }
    }
    loop {
        prepend(digit(rest));
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if scaled < 0 {
        prepend(b'-');
    }
    out.extend_from_slice(&text[begin..]);
}

/// Writes a whole number.
pub(super) fn write_unsigned(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Fills `room` with the last digits of a number, with leading zeros.
pub(super) fn fill_digits(mut number: u64, room: &mut [u8]) {
    for place in room.iter_mut().rev() {
        *place = digit(number);
        number /= 10;
    }
}

/// The last digit of a number.
fn digit(number: u64) -> u8 {
    b'0' + (number % 10) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(scaled: i64, decimals: u8, expected: &str) {
        let mut out = Vec::new();
        write(scaled, decimals, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_number_has_its_decimals_and_no_more_digits_than_it_needs() {
        check(0, 0, "0");
        check(0, 2, "0.00");
        check(-7, 3, "-0.007");
        check(2_150, 2, "21.50");
        check(-1_234, 0, "-1234");
        check(i64::MIN, 9, "-9223372036.854775808");
        check(i64::MAX, 0, "9223372036854775807");
    }
}
