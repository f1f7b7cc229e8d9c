//! `simctl device`: one device: its session, its last packets, its row of the ledger.

use std::fmt::Write as _;

use std::time::Duration;

use fleet_contract::worker::DeviceStatus;
use load_controller::{report::words, verdict::ExitCode};
use tokio::signal::ctrl_c;

use crate::{
    args::RunFlag,
    local::control::Remote,
    printer::{Format, Palette, Printer, Tone, columns},
    screen::Screen,
};

const EXAMPLES: &str = "\
Examples:
  simctl device 42
  simctl device 42 -w
  simctl device 42 -o json";

/// Show one device: session, last messages, ledger
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Its index, from 0
    index: u32,
    /// Go on as it changes, until you end it
    #[arg(short, long)]
    watch: bool,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
    #[command(flatten)]
    run: RunFlag,
}

impl Args {
    /// Prints the device, once or again and again.
    pub(crate) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let remote = Remote::find(&self.run).await?;
        let palette = printer.palette();
        if !self.watch {
            let device = remote.device(self.index).await?;
            printer.value(self.output, &device, || table(&device, palette))?;
            return Ok(ExitCode::Passed);
        }
        let mut screen = (printer.is_terminal() && self.output == Format::Table).then(Screen::take);
        let mut ticks = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                pressed = ctrl_c() => { pressed?; return Ok(ExitCode::Passed); }
            }
            let device = remote.device(self.index).await?;
            match &mut screen {
                Some(screen) => screen.draw(&table(&device, palette).lines().map(String::from).collect::<Vec<_>>()),
                None => printer.value(self.output, &device, || table(&device, palette))?,
            }
        }
    }
}

fn table(device: &DeviceStatus, palette: Palette) -> String {
    let DeviceStatus { index, client_id, group, model, state, last_error, connects_at, sessions, in_flight, streams } =
        device;
    let tone = if state == "up" { Tone::Good } else { Tone::Warning };
    let sessions = words::counted((*sessions).into(), "session", "sessions");
    let mut text = format!(
        "device {index}  {}  group {group}, model {model}\n{}  {sessions}, {in_flight} waiting for acknowledgement\n",
        palette.paint(Tone::Strong, client_id),
        palette.paint(tone, state),
    );
    if let Some(error) = last_error {
        let _ = writeln!(text, "last error: {}", palette.paint(Tone::Bad, error));
    }
    if let Some(at) = connects_at {
        let _ = writeln!(text, "connects again at {at}");
    }
    let mut rows =
        vec![["STREAM", "QOS", "SENT", "SETTLED", "IN FLIGHT", "NEXT DUE", "TOPIC"].map(String::from).to_vec()];
    rows.extend(streams.iter().map(|stream| {
        vec![
            stream.name.clone(),
            stream.qos.to_string(),
            words::count(stream.sent.into()),
            words::count(stream.settled.into()),
            words::count(stream.in_flight.into()),
            stream.next_due.map_or_else(|| "-".into(), |due| due.to_string().chars().skip(11).take(12).collect()),
            stream.topic.clone(),
        ]
    }));
    text.push('\n');
    text.push_str(&columns(palette, &[1, 2, 3, 4], &rows));
    for stream in streams {
        let _ = write!(text, "\n{}  {}\n", palette.paint(Tone::Faint, &stream.name), stream.payload);
    }
    text
}

#[cfg(test)]
mod tests {
    use fleet_contract::{time::Micros, worker::StreamStatus};

    use super::*;

    #[test]
    fn a_device_shows_its_session_and_ledger() {
        let device = DeviceStatus {
            index: 42,
            client_id: "demo-42".into(),
            group: "vehicle".into(),
            model: "robotaxi".into(),
            state: "up".into(),
            last_error: Some("connection reset".into()),
            connects_at: None,
            sessions: 2,
            in_flight: 1,
            streams: vec![StreamStatus {
                name: "state".into(),
                topic: "vehicles/demo-42/state".into(),
                qos: 1,
                next_due: Some(Micros(1_700_000_000_250_000)),
                sent: 1_234,
                settled: 1_233,
                in_flight: 1,
                payload: r#"{"speed":3.5}"#.into(),
            }],
        };
        insta::assert_snapshot!(table(&device, Palette::PLAIN), @r#"
        device 42  demo-42  group vehicle, model robotaxi
        up  2 sessions, 1 waiting for acknowledgement
        last error: connection reset

        STREAM  QOS   SENT  SETTLED  IN FLIGHT  NEXT DUE      TOPIC
        state     1  1,234    1,233          1  22:13:20.250  vehicles/demo-42/state

        state  {"speed":3.5}
        "#);
    }
}
