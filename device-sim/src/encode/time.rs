//! Instants in bodies.

use fleet_contract::{model::payload::TimeForm, time::Micros};

use super::number::{fill_digits, write_unsigned};

/// Writes an instant.
pub(super) fn write(instant: Micros, form: TimeForm, out: &mut Vec<u8>) {
    match form {
        TimeForm::Rfc3339 => write_rfc3339(instant, out),
        _ => write_unsigned(since_1970(instant, form), out),
    }
}

/// In the unit of the form; RFC 3339 counts microseconds.
pub(super) fn since_1970(instant: Micros, form: TimeForm) -> u64 {
    match form {
        TimeForm::Seconds => instant.0 / 1_000_000,
        TimeForm::Millis => instant.0 / 1_000,
        TimeForm::Micros | TimeForm::Rfc3339 => instant.0,
    }
}

/// `2023-11-14T22:13:20.250Z`; years beyond 9999 lose their high digits.
fn write_rfc3339(instant: Micros, out: &mut Vec<u8>) {
    let millis = instant.0 / 1_000;
    let (seconds, millis) = (millis / 1_000, millis % 1_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    for (number, place) in [
        (year, 0..4),
        (month, 5..7),
        (day, 8..10),
        (second / 3_600, 11..13),
        (second / 60 % 60, 14..16),
        (second % 60, 17..19),
        (millis, 20..23),
    ] {
        fill_digits(number, &mut text[place]);
    }
    out.extend_from_slice(&text);
}

/// Year, month and day of the Gregorian calendar, from days since 1970 (H. Hinnant, `civil_from_days`).
/// Years begin in March here, so that the leap day is the last one.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}
