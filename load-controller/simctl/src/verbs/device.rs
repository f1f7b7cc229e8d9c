//! `simctl device`: one device: its session, its last packets, its row of the ledger.

use std::{fmt::Write as _, time::Duration};

use fleet_contract::{
    fleet::Fleet,
    template::{Names, Template},
    worker::DeviceStatus,
};
use kube::ResourceExt as _;
use load_controller::{run::verdict::ExitCode, words};
use tokio::signal::ctrl_c;

use crate::{
    cbor,
    cluster::{
        fleets::{self, FleetName},
        question::Question,
        target::Target,
    },
    estimate::membership,
    exit::Failure,
    flags::TargetFlags,
    local::control::Remote,
    printer::{Format, Palette, Printer, Tone, columns},
    screen::Screen,
};

const EXAMPLES: &str = "\
Examples:
  simctl device 42
  simctl device demo-42
  simctl device fleet/robotaxis 42 -n load
  simctl device 42 -w
  simctl device 42 -o json";

/// Show one device: session, last messages, ledger
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Its index, from 0, or its client id, and its fleet if there are several: `42`, `demo-42` or `fleet/robotaxis 42`
    #[arg(value_name = "[FLEET] DEVICE", num_args = 1..=3, required = true)]
    words: Vec<String>,
    /// Go on as it changes, until you end it
    #[arg(short, long)]
    watch: bool,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
    #[command(flatten)]
    target: TargetFlags,
}

/// How a person calls a device.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Index(u32),
    ClientId(String),
}

impl Name {
    /// The index of the device that is meant, of the first `devices` of a fleet.
    fn index(self, fleet: impl FnOnce() -> anyhow::Result<Fleet>, devices: u32) -> anyhow::Result<u32> {
        match self {
            Self::Index(index) => Ok(index),
            Self::ClientId(id) => {
                let fleet = fleet()?;
                let index = index_of(&fleet, devices, &id)?;
                let wrong = || unknown(&format!("with the client id `{id}`"), &fleet.metadata.name, devices);
                index.ok_or_else(wrong)
            }
        }
    }
}

/// The device of a client id, of the first `devices` of a fleet.
fn index_of(fleet: &Fleet, devices: u32, id: &str) -> Result<Option<u32>, Failure> {
    let (spec, membership) = (&fleet.spec, membership(fleet)?);
    let template: Template = spec.client_id.parse().map_err(|error| Failure::document(format!("{error}")))?;
    let of_group = |group: &fleet_contract::fleet::Group| {
        let names = Names {
            fleet: &fleet.metadata.name,
            group: &group.name,
            stream: "",
            seed: spec.seed,
            first: spec.first_index,
        };
        template.bind(&names, &template)
    };
    let ids: Vec<_> = spec.groups.iter().map(of_group).collect();
    Ok((0..devices).find(|index| ids[membership.group_of(*index)].text(*index) == id))
}

fn unknown(device: &str, fleet: &str, devices: u32) -> anyhow::Error {
    let range = match devices {
        0 => "has no devices".to_owned(),
        devices => format!("has the devices 0 to {}", devices - 1),
    };
    anyhow::anyhow!("there is no device {device}: the fleet {fleet} {range}")
}

/// What was typed: `42`, `demo-42` or `fleet/robotaxis 42`.
fn parse(words: &[String]) -> Result<(Option<FleetName>, Name), Failure> {
    let wrong = || {
        let found = words.join(" ");
        Failure::usage(format!("expected the index of a device such as `42`, or its client id, found `{found}`"))
    };
    let (device, fleet) = words.split_last().filter(|(device, _)| !device.contains('/')).ok_or_else(wrong)?;
    let mut names = fleets::names(fleet)?;
    let name = device.parse().map_or_else(|_| Name::ClientId(device.clone()), Name::Index);
    match (names.pop(), names.is_empty()) {
        (fleet, true) => Ok((fleet, name)),
        _ => Err(wrong()),
    }
}

/// Whoever knows the device.
enum Source {
    Run(Remote),
    Fleet(Question<DeviceStatus>),
}

impl Source {
    /// The device, and what was left out of it.
    async fn device(&mut self, index: u32) -> anyhow::Result<(DeviceStatus, Option<String>)> {
        let (mut device, cut) = match self {
            Self::Run(remote) => (remote.device(index).await?, None),
            Self::Fleet(question) => {
                let answer = question.ask().await?;
                (answer.figures, answer.cut)
            }
        };
        cbor::decode_payloads(&mut device);
        Ok((device, cut))
    }

    async fn end(self) {
        if let Self::Fleet(question) = self {
            question.end().await;
        }
    }
}

impl Args {
    /// Prints the device, once or again and again.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let (fleet, device) = parse(&self.words)?;
        let target = Target::find(&self.target, fleet.as_ref().map(|fleet| fleet.0.as_str()), printer).await?;
        let (mut source, index) = match target {
            Target::Local(remote) => {
                let (fleet, devices) = (remote.document().await?, remote.plan().await?.devices_wanted());
                let name = fleet.metadata.name.clone();
                let index = device.index(|| Ok(fleet), devices)?;
                if index >= devices {
                    return Err(unknown(&index.to_string(), &name, devices));
                }
                (Source::Run(remote), index)
            }
            Target::Cluster(cluster) => {
                let fleet = cluster.fleet(fleet.as_ref()).await?;
                let index = device.index(|| Ok(fleet.document()?), fleet.devices())?;
                (Source::Fleet(Question::device(&cluster, &fleet.name_any(), index)), index)
            }
        };
        let shown = self.show(&mut source, index, printer).await;
        source.end().await;
        shown.map(|()| ExitCode::Passed)
    }

    async fn show(&self, source: &mut Source, index: u32, printer: Printer) -> anyhow::Result<()> {
        let palette = printer.palette();
        if !self.watch {
            let (device, cut) = source.device(index).await?;
            printer.figures(self.output, &device, || table(&device, palette))?;
            cut.into_iter().for_each(|cut| printer.say(cut));
            return Ok(());
        }
        let mut screen = (printer.is_terminal() && self.output == Format::Table).then(Screen::take);
        let mut ticks = tokio::time::interval(match source {
            Source::Run(_) => Duration::from_millis(500),
            // More is not answered.
            Source::Fleet(_) => Duration::from_secs(1),
        });
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                pressed = ctrl_c() => return Ok(pressed?),
            }
            let (device, _) = source.device(index).await?;
            match &mut screen {
                Some(screen) => screen.draw(&table(&device, palette).lines().map(String::from).collect::<Vec<_>>()),
                None => printer.figures(self.output, &device, || table(&device, palette))?,
            }
        }
    }
}

fn table(device: &DeviceStatus, palette: Palette) -> String {
    let DeviceStatus {
        index,
        client_id,
        group,
        model,
        state,
        last_error,
        said,
        connects_at,
        sessions,
        in_flight,
        streams,
    } = device;
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
    if let Some(said) = said {
        let _ = writeln!(text, "the broker said: {said}");
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
        if let Some(decoded) = &stream.decoded {
            let _ = writeln!(text, "{:1$}  {decoded}", "", stream.name.chars().count());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use fleet_contract::{model::payload, time::Micros, worker::StreamStatus};

    use super::*;
    use crate::{document::from_text, library::EXAMPLES};

    #[test]
    fn a_device_is_named_by_its_index() {
        let words = |words: &[&str]| parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(words(&["42"]).unwrap(), (None, Name::Index(42)));
        assert_eq!(words(&["fleet/a", "42"]).unwrap(), (Some(FleetName("a".into())), Name::Index(42)));
        assert_eq!(words(&["demo-42"]).unwrap(), (None, Name::ClientId("demo-42".into())));
        assert_eq!(words(&["42", "fleet/a"]).unwrap_err().code, ExitCode::Usage);
    }

    #[test]
    fn a_client_id_leads_to_its_device() {
        let mut fleet = from_text("f", EXAMPLES[0].1, None).unwrap().fleet;
        assert_eq!(index_of(&fleet, 100, "demo-42").unwrap(), Some(42));
        assert_eq!(index_of(&fleet, 42, "demo-42").unwrap(), None);
        fleet.spec.client_id = "SN{index:06}".into();
        fleet.spec.first_index = 1_000;
        assert_eq!(index_of(&fleet, 100, "SN001042").unwrap(), Some(42));
        assert_eq!(
            unknown("100", "demo", 100).to_string(),
            "there is no device 100: the fleet demo has the devices 0 to 99"
        );
    }

    #[test]
    fn a_device_shows_its_session_and_ledger() {
        let mut device = DeviceStatus {
            index: 42,
            client_id: "demo-42".into(),
            group: "vehicle".into(),
            model: "robotaxi".into(),
            state: "up".into(),
            last_error: Some("not_authorized".into()),
            said: Some("you owe us money".into()),
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
                format: payload::Format::Json,
                payload: r#"{"speed":3.5}"#.into(),
                decoded: None,
            }],
        };
        insta::assert_snapshot!(table(&device, Palette::Plain), @r#"
        device 42  demo-42  group vehicle, model robotaxi
        up  2 sessions, 1 waiting for acknowledgement
        last error: not_authorized
        the broker said: you owe us money

        STREAM  QOS   SENT  SETTLED  IN FLIGHT  NEXT DUE      TOPIC
        state     1  1,234    1,233          1  22:13:20.250  vehicles/demo-42/state

        state  {"speed":3.5}
        "#);
        device.streams[0].format = payload::Format::Cbor;
        device.streams[0].payload = "a1657370656564fb400c000000000000".into();
        cbor::decode_payloads(&mut device);
        let text = table(&device, Palette::Plain);
        assert!(text.ends_with("\nstate  a1657370656564fb400c000000000000\n       {\"speed\":3.5}\n"), "{text}");
    }
}
