//! What Kubernetes reads where YAML has a plain scalar.
//!
//! `kubectl` and the API server read YAML 1.1 with go-yaml 2 (its `resolve.go`), and turn that into JSON: `no` is `false`,
//! `012` is 10, and 5.0 is 5. The ring `control_plane` holds this file to a real API server.

use serde_json::{Number, Value};

/// The value of a scalar without quotes; `None` when JSON has no such value.
pub(super) fn value(plain: &str) -> Option<Value> {
    Some(match plain {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => true.into(),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => false.into(),
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf"
        | "-.INF" => return None,
        _ => number(plain).unwrap_or_else(|| plain.into()),
    })
}

/// The name of a field that is written without quotes; `None` when Kubernetes takes it for no name.
pub(super) fn name(plain: &str) -> Option<String> {
    match value(plain)? {
        Value::String(text) => Some(text),
        Value::Bool(truth) => Some(truth.to_string()),
        // Numbers of 64 bits without a sign are no names to it, and those with a fraction are rounded.
        Value::Number(number) => number.as_i64().filter(|_| !plain.contains(['.', 'e', 'E'])).map(|it| it.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A number as JSON has it behind Kubernetes: one without a fraction is whole, however it was written.
pub(super) fn float(number: f64) -> Option<Value> {
    let whole = (number.fract() == 0.0).then(|| format!("{number:.0}").parse::<i64>().ok()).flatten();
    whole.map(Value::from).or_else(|| Number::from_f64(number).map(Value::Number))
}

/// Whether a whole number is too long to be read digit by digit.
pub(super) fn loses_digits(plain: &str, value: &Value) -> bool {
    let digits = plain.strip_prefix(['+', '-']).unwrap_or(plain);
    let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    is_whole && value.is_f64()
}

fn number(plain: &str) -> Option<Value> {
    match plain.bytes().next()? {
        b'.' => decimal(plain),
        b'+' | b'-' | b'0'..=b'9' => {
            let digits = plain.replace('_', "");
            integer(&digits).or_else(|| decimal(&digits)).or_else(|| binary(&digits))
        }
        _ => None,
    }
}

/// As Go's `strconv.ParseInt` and `ParseUint` with base 0.
fn integer(text: &str) -> Option<Value> {
    let (sign, digits) = match text.bytes().next()? {
        b'+' => (Some(""), &text[1..]),
        b'-' => (Some("-"), &text[1..]),
        _ => (None, text),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, &digits[2..]),
        Some("0o" | "0O") => (8, &digits[2..]),
        Some("0b" | "0B") => (2, &digits[2..]),
        Some(octal) if octal.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !digits.starts_with(|first: char| first.is_digit(radix)) {
        return None;
    }
    let signed = i64::from_str_radix(&format!("{}{digits}", sign.unwrap_or_default()), radix).ok().map(Value::from);
    signed.or_else(|| sign.is_none().then(|| u64::from_str_radix(digits, radix).ok().map(Value::from)).flatten())
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`; one beyond all numbers is text.
fn decimal(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let are_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let lacks_digits = exponent.is_empty() || (whole.is_empty() && fraction.is_empty());
    if lacks_digits || ![whole, fraction, exponent].into_iter().all(are_digits) {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite()).and_then(float)
}

/// What go-yaml takes for binary though Go does not: `0b-1`.
fn binary(text: &str) -> Option<Value> {
    let digits = match text.strip_prefix("-0b") {
        Some(digits) => format!("-{digits}"),
        None => text.strip_prefix("0b")?.to_owned(),
    };
    i64::from_str_radix(&digits, 2).ok().map(Value::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_without_a_fraction_is_whole() {
        assert_eq!(
            (float(5.0), float(-0.0), float(1e18)),
            (Some(json!(5)), Some(json!(0)), Some(json!(10_u64.pow(18))))
        );
        assert_eq!((float(0.5), float(1e19)), (Some(json!(0.5)), Some(json!(1e19))));
        assert_eq!(float(f64::INFINITY), None);
    }

    #[test]
    fn names_are_what_kubernetes_makes_of_them() {
        for (plain, expected) in
            [("on", Some("true")), ("012", Some("10")), ("state", Some("state")), ("~", None), ("1.5", None)]
        {
            assert_eq!(name(plain).as_deref(), expected, "{plain}");
        }
    }
}
