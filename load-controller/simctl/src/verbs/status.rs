//! `simctl status`: the figures of a run, once or as they change.

use std::time::Duration;

use clap::ValueEnum;
use load_controller::{
    report::{
        Report, json,
        text::{self, Paint, Style, Width},
        yaml,
    },
    verdict::ExitCode,
};
use tokio::signal::ctrl_c;

use crate::{
    args::RunFlag,
    local::control::Remote,
    printer::Printer,
    screen::Screen,
    view::{self, Hint},
};

const EXAMPLES: &str = "\
Examples:
  simctl status
  simctl status -w                    as it changes
  simctl status -o json | jq .messages";

/// Show the figures of a run
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How to print them
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Output,
    /// Go on as they change, until the run or you end it
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    run: RunFlag,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For people who want it all
    Wide,
    /// For programs
    Json,
    /// For programs and people
    Yaml,
}

impl Args {
    /// Prints the report, once or again and again.
    pub(crate) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let remote = Remote::find(&self.run).await?;
        if !self.watch {
            printer.data(rendered(&remote.report().await?, self.output, printer))?;
            return Ok(ExitCode::Passed);
        }
        let mut screen = (printer.is_terminal() && self.output == Output::Table).then(Screen::take);
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                pressed = ctrl_c() => { pressed?; break; }
            }
            // A run that is over ends the view.
            let Ok(report) = remote.report().await else { break };
            match &mut screen {
                Some(screen) => screen.draw(&view::lines(&report, Hint::Watch, printer.palette())),
                None if self.output == Output::Table => printer.data(view::line(&report))?,
                None => printer.data(rendered(&report, self.output, printer))?,
            }
        }
        Ok(ExitCode::Passed)
    }
}

fn rendered(report: &Report, output: Output, printer: Printer) -> String {
    let paint = if printer.palette().has_colors() { Paint::Coloured } else { Paint::Plain };
    match output {
        Output::Table => text::render(report, Style { width: Width::Table, paint }),
        Output::Wide => text::render(report, Style { width: Width::Wide, paint }),
        Output::Json => json::render(report),
        Output::Yaml => yaml::render(report),
    }
}
