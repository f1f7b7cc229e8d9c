//! The documents of `manifests/examples/`, shortened for tests: what a test runs is what people are shown.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::project;

/// A document of `manifests/examples/`, such as `rush-hour.yaml`, with each of these texts replaced by another one.
///
/// # Errors
/// When it cannot be read, or does not have one of the texts exactly once: then the example has changed, and whoever runs it
/// here would run something else.
pub fn example(name: &str, changes: &[(&str, impl AsRef<str>)]) -> Result<String> {
    let path = project::root().join("manifests/examples").join(name);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    changed(text, changes).with_context(|| name.to_owned())
}

fn changed(text: String, changes: &[(&str, impl AsRef<str>)]) -> Result<String> {
    changes.iter().try_fold(text, |text, (from, to)| {
        let times = text.matches(*from).count();
        ensure!(times == 1, "expected `{from}` once, found it {times} times in\n{text}");
        Ok(text.replacen(*from, to.as_ref(), 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_replaced_is_there_once() {
        let of = |changes: &[(&str, &str)]| changed("ramp: 30s, steady: 1m, rest: 30s".into(), changes);
        assert_eq!(of(&[("ramp: 30s", "ramp: 2s"), ("1m", "4s")]).unwrap(), "ramp: 2s, steady: 4s, rest: 30s");
        for (from, times) in [("20s", "0 times"), ("30s", "2 times")] {
            let error = of(&[("1m", "4s"), (from, "2s")]).unwrap_err().to_string();
            assert!(error.contains(from) && error.contains(times), "{error}");
        }
    }

    #[test]
    fn the_example_is_found_by_its_name() {
        let text = example("rush-hour.yaml", &[("devices: 500", "devices: 7")]).unwrap();
        assert!(text.contains("\n  devices: 7\n"), "{text}");
    }
}
