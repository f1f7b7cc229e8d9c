//! `simctl set`: changes an interval while the fleet runs.

use std::str::FromStr;

use fleet_contract::units::Span;
use load_controller::verdict::ExitCode;

use crate::{
    args::{RunFlag, interval},
    local::control::{Change, Remote},
    printer::Printer,
};

const EXAMPLES: &str = "\
Examples:
  simctl set interval=200ms           every periodic stream
  simctl set state.interval=5s        the streams called `state` alone";

/// Change the interval of streams
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What to set: `interval=TIME` or `STREAM.interval=TIME`
    #[arg(value_name = "KEY=VALUE", required = true)]
    assignments: Vec<Assignment>,
    #[command(flatten)]
    run: RunFlag,
}

/// `[STREAM.]interval=TIME`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Assignment {
    stream: Option<String>,
    interval: Span,
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected `interval=TIME` or `STREAM.interval=TIME`, found `{text}`");
        let (key, value) = text.split_once('=').ok_or_else(wrong)?;
        let stream = match key.rsplit_once('.') {
            None if key == "interval" => None,
            Some((stream, "interval")) if !stream.is_empty() => Some(stream.to_owned()),
            _ => return Err(wrong()),
        };
        Ok(Self { stream, interval: interval(value)? })
    }
}

impl Args {
    /// Sets one after the other; a stream that does not exist is an error of the run's.
    pub(crate) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let remote = Remote::find(&self.run).await?;
        for Assignment { stream, interval } in self.assignments {
            let what = stream.clone().map_or_else(|| "all periodic streams".into(), |name| format!("streams `{name}`"));
            remote.change(&Change::Interval { stream, interval }).await?;
            printer.say(format_args!("fleet {}: {what} send every {interval} now", remote.fleet()));
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
            interval: Span::from_millis(millis),
        });
        assert_eq!(found, expected.map_err(String::from));
    }

    #[test]
    fn an_interval_is_of_all_streams_or_of_one() {
        check("interval=200ms", Ok((None, 200)));
        check("state.interval=5s", Ok((Some("state"), 5_000)));
    }

    #[test]
    fn what_cannot_be_set_is_said() {
        check("qos=1", Err("expected `interval=TIME` or `STREAM.interval=TIME`, found `qos=1`"));
        check("interval=0s", Err("expected more than no time, found `0s`"));
    }
}
