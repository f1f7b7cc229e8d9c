//! `simctl status`: the figures of a run, once or as they change.

use std::time::Duration;

use clap::ValueEnum;
use kube::ResourceExt as _;
use load_controller::{
    report::{
        Report, json,
        text::{self, Style, Width},
    },
    run::verdict::ExitCode,
    yaml,
};
use tokio::signal::ctrl_c;

use crate::{
    cluster::{fleets::FleetName, question::Question, target::Target},
    flags::TargetFlags,
    local::control::Remote,
    printer::Printer,
    screen::Screen,
    view::{self, Hint},
};

const EXAMPLES: &str = "\
Examples:
  simctl status
  simctl status -w                    as it changes
  simctl status -o json | jq .messages
  simctl status fleet/robotaxis -n load";

/// Show the figures of a run, or of a fleet in a cluster
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The fleet, if there are several: `robotaxis` or `fleet/robotaxis`
    fleet: Option<FleetName>,
    /// How to print them
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Output,
    /// Go on as they change, until the run or you end it
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    target: TargetFlags,
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

/// Whoever knows the figures.
enum Source {
    Run(Remote),
    Fleet(Question<Report>),
}

impl Source {
    /// The report, and what was left out of it.
    async fn report(&mut self) -> anyhow::Result<(Report, Option<String>)> {
        match self {
            Self::Run(remote) => Ok((remote.report().await?, None)),
            Self::Fleet(question) => {
                let answer = question.ask().await?;
                Ok((answer.figures, answer.cut))
            }
        }
    }

    async fn end(self) {
        if let Self::Fleet(question) = self {
            question.end().await;
        }
    }

    const fn hint(&self) -> Hint {
        match self {
            Self::Run(_) => Hint::Watch,
            Self::Fleet(..) => Hint::Cluster,
        }
    }
}

impl Args {
    /// Prints the report, once or again and again.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let fleet = self.fleet.as_ref();
        let mut source = match Target::find(&self.target, fleet.map(|fleet| fleet.0.as_str()), printer).await? {
            Target::Local(remote) => Source::Run(remote),
            Target::Cluster(cluster) => {
                let name = cluster.fleet(fleet).await?.name_any();
                Source::Fleet(Question::report(&cluster, &name))
            }
        };
        let shown =
            if self.watch { self.watch(&mut source, printer).await } else { self.show(&mut source, printer).await };
        source.end().await;
        shown.map(|()| ExitCode::Passed)
    }

    async fn show(&self, source: &mut Source, printer: Printer) -> anyhow::Result<()> {
        let (report, cut) = source.report().await?;
        printer.data(rendered(&report, self.output, printer))?;
        // For people the timeline is not shown, and nothing else is left out.
        if let (Some(cut), Output::Json | Output::Yaml) = (cut, self.output) {
            printer.say(cut);
        }
        Ok(())
    }

    async fn watch(&self, source: &mut Source, printer: Printer) -> anyhow::Result<()> {
        let mut screen = (printer.is_terminal() && self.output == Output::Table).then(Screen::take);
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                pressed = ctrl_c() => return Ok(pressed?),
            }
            let report = match source.report().await {
                Ok((report, _)) => report,
                // A run that is over ends the view.
                Err(_) if matches!(source, Source::Run(_)) => return Ok(()),
                Err(error) => return Err(error),
            };
            match &mut screen {
                Some(screen) => screen.draw(&view::lines(&report, source.hint(), printer.palette())),
                None if self.output == Output::Table => printer.data(view::line(&report))?,
                None => printer.data(rendered(&report, self.output, printer))?,
            }
        }
    }
}

fn rendered(report: &Report, output: Output, printer: Printer) -> String {
    let paint = printer.palette();
    match output {
        Output::Table => text::render(report, Style { width: Width::Table, paint }),
        Output::Wide => text::render(report, Style { width: Width::Wide, paint }),
        Output::Json => json::render(report),
        Output::Yaml => yaml::text(report).expect("a report has string keys"),
    }
}
