//! Quantities as Kubernetes writes them: `250m`, `1.5`, `128Mi`, `2G`. Pure.

/// The number that a quantity means, in cores or bytes; none if it is none.
///
/// The suffixes are those of Kubernetes' `resource.Quantity`: decimal, binary, and powers of ten.
pub(crate) fn parse(text: &str) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 14] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("", 1.0),
    ];
    let (number, factor) = SUFFIXES.iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)))?;
    let number: f64 = number.parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_kubernetes_means_them() {
        for (text, expected) in
            [("250m", 0.25), ("1.5", 1.5), ("128Mi", 134_217_728.0), ("2G", 2e9), ("1e3", 1e3), ("0", 0.0)]
        {
            let found = parse(text).unwrap();
            assert!((found - expected).abs() <= expected * 1e-12, "{text}: {found}");
        }
        assert_eq!(["", "many", "-1", "1X"].map(parse), [None; 4]);
    }
}
