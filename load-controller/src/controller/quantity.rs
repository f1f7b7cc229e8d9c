//! Quantities of Kubernetes, compared by their amount.
//!
//! The form is that of
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>: a decimal number with a binary
//! suffix (`Ki`), a decimal one (`m`, `k`) or an exponent (`e3`).

/// Whether two quantities are the same amount; texts that are no quantities are compared as they are.
pub fn is_same(one: &str, other: &str) -> bool {
    one == other || nanos(one).is_some_and(|amount| nanos(other) == Some(amount))
}

/// The amount in billionths, rounded up as Kubernetes does; `None` for what is no quantity or too large.
fn nanos(text: &str) -> Option<i128> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '+' | '-' | '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (numerator, denominator): (i128, i128) = match suffix {
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "" => (1, 1),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let factor = 10_i128.checked_pow(power.unsigned_abs())?;
            if power < 0 { (1, factor) } else { (factor, 1) }
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_negative = whole.starts_with('-');
    let digits = format!("{}{fraction}", whole.trim_start_matches(['+', '-']));
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let amount = digits.parse::<i128>().ok()?.checked_mul(numerator)?.checked_mul(1_000_000_000)?;
    let per = scale.checked_mul(denominator)?;
    let rounded = amount / per + i128::from(amount % per != 0);
    Some(if is_negative { -rounded } else { rounded })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_amount_in_other_words_is_the_same() {
        let same = [
            ("1000m", "1"),
            ("1024Mi", "1Gi"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1e3", "1k"),
            ("1E-3", "1m"),
            ("100e-3", "0.1"),
            ("+2", "2"),
            ("1Ei", "1152921504606846976"),
        ];
        assert!(same.iter().all(|(one, other)| is_same(one, other)), "{same:?}");
    }

    #[test]
    fn other_amounts_and_other_texts_differ() {
        for (one, other) in [("1", "2"), ("1Gi", "1G"), ("1m", "1M"), ("x", "y"), ("1x", "1"), ("", "0"), ("1", "-1")] {
            assert!(!is_same(one, other), "{one} {other}");
        }
        assert!(is_same("x", "x"), "what is no quantity is compared as text");
    }
}
