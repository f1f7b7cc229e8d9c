//! `simctl set`: changes intervals and rates while the fleet runs.

use std::str::FromStr;

use fleet_contract::units::{Factor, ParseError, Span};
use kube::ResourceExt as _;
use load_controller::run::{change::Change, verdict::ExitCode};

use crate::{
    cluster::{
        fleets::{self, FleetName},
        live,
        objects::{self, DryRun},
        settle,
        target::Target,
    },
    exit::Failure,
    flags::{TargetFlags, interval},
    printer::Printer,
};

const EXAMPLES: &str = "\
Examples:
  simctl set interval=200ms           every periodic stream
  simctl set state.interval=5s        the streams called `state` alone
  simctl set rate=2                   twice as fast as the intervals say
  simctl set state.rate=5/30s         five times, in a straight line over 30 s
  simctl set fleet/robotaxis interval=1s -n load";

/// Change the interval of streams, or how fast they go
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What to set, `[STREAM.]interval=TIME` or `[STREAM.]rate=FACTOR[/TIME]`; before it the fleet, if there are several
    ///
    /// A rate is of a run on this machine; `0` lets a stream rest, `1` ends it.
    #[arg(value_name = "[FLEET] KEY=VALUE", required = true)]
    words: Vec<String>,
    /// Only try, in a cluster
    #[arg(long, value_name = "HOW")]
    dry_run: Option<DryRun>,
    #[command(flatten)]
    target: TargetFlags,
}

/// `[STREAM.]interval=TIME` or `[STREAM.]rate=FACTOR[/TIME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Assignment {
    stream: Option<String>,
    value: Value,
}

/// What is set.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Interval(Span),
    Rate { factor: Factor, over: Option<Span> },
}

/// What may be set, for an error.
const EXPECTED: &str = "expected `[STREAM.]interval=TIME` or `[STREAM.]rate=FACTOR[/TIME]`";

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{EXPECTED}, found `{text}`");
        let (key, value) = text.split_once('=').ok_or_else(wrong)?;
        let (stream, key) = match key.rsplit_once('.') {
            None => (None, key),
            Some((stream, key)) if !stream.is_empty() => (Some(stream.to_owned()), key),
            Some(_) => return Err(wrong()),
        };
        let value = match key {
            "interval" => Value::Interval(interval(value)?),
            "rate" => {
                let (factor, over) = value.split_once('/').map_or((value, None), |(factor, over)| (factor, Some(over)));
                let factor = factor.parse().map_err(|error: ParseError| error.to_string())?;
                Value::Rate { factor, over: over.map(interval).transpose()? }
            }
            _ => return Err(wrong()),
        };
        Ok(Self { stream, value })
    }
}

/// What was typed: a fleet if the first words have no `=`, then what to set.
fn parse(words: &[String]) -> Result<(Option<FleetName>, Vec<Assignment>), Failure> {
    let first = words.iter().position(|word| word.contains('=')).unwrap_or(words.len());
    let (fleet, assignments) = words.split_at(first);
    let mut names = fleets::names(fleet)?;
    if names.len() > 1 || assignments.is_empty() {
        let found = words.join(" ");
        return Err(Failure::usage(format!("{EXPECTED}, found `{found}`")));
    }
    let assignments: Result<_, _> =
        assignments.iter().map(|text| text.parse().map_err(|error: String| Failure::usage(error))).collect();
    Ok((names.pop(), assignments?))
}

impl Args {
    /// Sets one after the other; a stream that does not exist is an error.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let (fleet, assignments) = parse(&self.words)?;
        let target = Target::find(&self.target, fleet.as_ref().map(|fleet| fleet.0.as_str()), printer).await?;
        let name = match &target {
            Target::Local(remote) => remote.fleet().to_owned(),
            Target::Cluster(cluster) => cluster.fleet(fleet.as_ref()).await?.name_any(),
        };
        for Assignment { stream, value } in assignments {
            let what = stream.clone().map_or_else(|| "all periodic streams".into(), |name| format!("streams `{name}`"));
            let change = match value {
                Value::Interval(interval) => Change::Interval { interval, stream: stream.clone() },
                Value::Rate { factor, over } => Change::Rate { factor, stream: stream.clone(), over },
            };
            match (&target, &value) {
                (Target::Local(remote), _) => drop(remote.change(&change).await?),
                (Target::Cluster(cluster), Value::Interval(interval)) => {
                    let change = |fleet: &_| live::interval(fleet, stream.as_deref(), *interval);
                    let changed = cluster.change(&name, self.dry_run, change).await?;
                    if settle::is_tested(&changed.status.unwrap_or_default()) {
                        printer.say(format_args!("fleet {name}: {}", settle::TESTED));
                        continue;
                    }
                }
                (Target::Cluster(_), Value::Rate { .. }) => {
                    return Err(Failure::usage("expected `rate` with a run on this machine, found a cluster").into());
                }
            }
            let how = match value {
                Value::Interval(interval) => format!("send every {interval} now"),
                Value::Rate { factor, over: None } => format!("go {factor} times as fast as their intervals now"),
                Value::Rate { factor, over: Some(over) } => {
                    format!("go {factor} times as fast as their intervals after {over}")
                }
            };
            printer.say(format_args!("fleet {name}: {what} {how}{}", objects::trial(self.dry_run)));
        }
        Ok(ExitCode::Passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(Option<&str>, u64), &str>) {
        let found = text.parse::<Assignment>();
        let expected = expected.map(|(stream, millis)| Assignment {
            stream: stream.map(String::from),
            value: Value::Interval(Span::from_millis(millis)),
        });
        assert_eq!(found, expected.map_err(String::from));
    }

    #[test]
    fn an_interval_is_of_all_streams_or_of_one() {
        check("interval=200ms", Ok((None, 200)));
        check("state.interval=5s", Ok((Some("state"), 5_000)));
    }

    #[test]
    fn a_rate_is_a_factor_and_the_time_until_it_is_reached() {
        let value = |text: &str| text.parse::<Assignment>().map(|assignment| (assignment.stream, assignment.value));
        assert_eq!(value("rate=2"), Ok((None, Value::Rate { factor: Factor(2_000_000), over: None })));
        let ramp = Value::Rate { factor: Factor(500_000), over: Some(Span::from_secs(30)) };
        assert_eq!(value("state.rate=0.5/30s"), Ok((Some("state".into()), ramp)));
    }

    #[test]
    fn a_fleet_may_stand_before_what_is_set() {
        let words = |words: &[&str]| parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        let (fleet, assignments) = words(&["fleet", "a", "interval=1s", "state.interval=5s"]).unwrap();
        assert_eq!((fleet, assignments.len()), (Some(FleetName("a".into())), 2));
        assert_eq!(words(&["interval=1s"]).unwrap().0, None);
        for wrong in [&["fleet/a"][..], &["a", "b", "interval=1s"], &["interval=1s", "fleet/a"]] {
            assert_eq!(words(wrong).unwrap_err().code, ExitCode::Usage, "{wrong:?}");
        }
    }

    #[test]
    fn what_cannot_be_set_is_said() {
        check("qos=1", Err("expected `[STREAM.]interval=TIME` or `[STREAM.]rate=FACTOR[/TIME]`, found `qos=1`"));
        check("rate=fast", Err("expected a factor from `0` to `1000` such as `2` or `0.5`, found `fast`"));
        check("interval=0s", Err("expected more than no time, found `0s`"));
    }
}
