//! What simctl brings along: the built-in models and the example documents.

/// The example documents by name, the first one the fleet of `simctl run`.
pub(crate) const EXAMPLES: &[(&str, &str)] = &[
    ("demo", include_str!("../../../manifests/examples/demo.yaml")),
    ("thermometers", include_str!("../../../manifests/examples/thermometers.yaml")),
    ("robotaxis", include_str!("../../../manifests/examples/robotaxis.yaml")),
    ("rush-hour", include_str!("../../../manifests/examples/rush-hour.yaml")),
    ("street-lights", include_str!("../../../manifests/examples/street-lights.yaml")),
    ("own-model", include_str!("../../../manifests/examples/own-model.yaml")),
    ("ten-thousand", include_str!("../../../manifests/examples/ten-thousand.yaml")),
    ("hello", include_str!("../../../manifests/examples/hello.yaml")),
    ("five-hundred", include_str!("../../../manifests/examples/five-hundred.yaml")),
    ("edge", include_str!("../../../manifests/examples/edge.yaml")),
    ("own-broker", include_str!("../../../manifests/examples/own-broker.yaml")),
    ("secure", include_str!("../../../manifests/examples/secure.yaml")),
];

/// An example document.
pub(crate) fn example(name: &str) -> Option<&'static str> {
    EXAMPLES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The first comment of a document: one sentence that says what it is.
pub(crate) fn headline(text: &str) -> &str {
    let comment =
        text.lines().filter_map(|line| line.strip_prefix("# ")).find(|line| !line.starts_with("yaml-language-server"));
    comment.unwrap_or_default()
}
