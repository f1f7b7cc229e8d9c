//! `cargo xtask test`: the steps in their order, each timed and counted, and what they add up to.

mod deny;
mod kubernetes;
mod outcome;
mod previous;
mod step;

use std::{env, process::ExitCode, time::Instant};

use anyhow::{Result, bail};

use outcome::{Outcome, Summary};
use step::{Context, Length, STEPS, Step};

/// What to test.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Names of steps, or `all` for the long ones too
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Prints the steps and what they check
    #[arg(long)]
    list: bool,
}

/// Runs the chosen steps. A failed one stops no other.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.list {
        for step in STEPS {
            let long = if step.length == Length::Long { " (with `all` or by name)" } else { "" };
            println!("{:13} {}{long}", step.name, step.what);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let context = Context::new()?;
    println!("property tests start from PROPTEST_RNG_SEED={}", context.seed);
    let mut summary = Summary::default();
    let steps = chosen(&args.names)?;
    if steps.iter().any(|step| step.needs_kubernetes()) {
        context.kubernetes.start(steps.iter().any(|step| step.needs_fake_nodes()));
    }
    for step in steps {
        println!("\n=== {}: {}", step.name, step.what);
        let start = Instant::now();
        let outcome = (step.run)(&context).unwrap_or_else(|error| Outcome::broken(&error));
        println!("=== {}: {outcome} in {:.1} s", step.name, start.elapsed().as_secs_f64());
        summary.add(step.name, outcome, start.elapsed());
    }
    let is_ci = env::var_os("CI").is_some_and(|value| !value.is_empty());
    print!("{}", summary.render(is_ci, context.seed));
    Ok(if summary.has_failed(is_ci) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The steps of those names in the table's order; without names, all short ones.
fn chosen(names: &[String]) -> Result<Vec<&'static Step>> {
    if let Some(unknown) = names.iter().find(|name| *name != "all" && STEPS.iter().all(|step| step.name != **name)) {
        let known: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        bail!("there is no step {unknown:?}; there are: {}, all", known.join(", "));
    }
    let is_named = |step: &&Step| names.iter().any(|name| name == step.name || name == "all");
    let is_short = |step: &&Step| names.is_empty() && step.length == Length::Short;
    Ok(STEPS.iter().filter(|step| is_named(step) || is_short(step)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str], expected: &[&str]) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let found: Vec<&str> = chosen(&names).unwrap().iter().map(|step| step.name).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn named_steps_run_in_the_order_of_the_table() {
        check(&["unit", "fmt"], &["fmt", "unit"]);
    }

    #[test]
    fn without_a_name_the_long_steps_stay_out() {
        assert!(chosen(&[]).unwrap().iter().all(|step| step.length == Length::Short));
        assert_eq!(chosen(&["all".to_owned()]).unwrap().len(), STEPS.len());
    }

    #[test]
    fn an_unknown_name_is_told_with_the_known_ones() {
        let error = chosen(&["units".to_owned()]).err().unwrap().to_string();
        assert!(error.contains("\"units\"") && error.contains("clippy, "), "{error}");
    }
}
