//! `simctl top`: what the fleets of a cluster and their pods do and take, as it changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use kube::ResourceExt;
use load_controller::{
    resource::{
        Fleet,
        fleet_query::{PodReport, PodsOfFleets},
    },
    run::verdict::ExitCode,
    words,
};
use tokio::signal::ctrl_c;

use crate::{
    cluster::{client::Cluster, fleets::FleetName, question::Question, table::state},
    flags::ClusterFlags,
    printer::{Palette, Printer, Tone, columns},
    screen::Screen,
};

const EXAMPLES: &str = "\
Examples:
  simctl top                      live, on a terminal
  simctl top fleet/robotaxis
  simctl top -A --once
  simctl top -w | tee top.log     line by line";

/// Show what the fleets of a cluster and their pods do and take
///
/// Live on a terminal, once elsewhere (`-w` goes on). Pods that lack devices come first.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The fleet [default: all]
    fleet: Option<FleetName>,
    /// In all namespaces
    #[arg(short = 'A', long, conflicts_with_all = ["namespace", "fleet"])]
    all_namespaces: bool,
    /// Only those with these labels
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "fleet")]
    selector: Option<String>,
    /// Go on where there is no terminal, too
    #[arg(short, long)]
    watch: bool,
    /// Not live: print it once
    #[arg(long, conflicts_with = "watch")]
    once: bool,
    #[command(flatten)]
    cluster: ClusterFlags,
}

/// How many namespaces are asked for at a time: enough that a view of many is as quick as the slowest of them, few
/// enough that the controller is not overrun.
const AT_ONCE: usize = 16;

/// What is shown.
#[derive(Debug, Default)]
struct Figures {
    fleets: Vec<Fleet>,
    /// The pods of each fleet, or why the controller does not tell.
    pods: Vec<Result<Vec<PodReport>, String>>,
    /// What is left out of the pods.
    cuts: Vec<String>,
}

/// One question for each namespace with fleets.
type Questions = BTreeMap<String, Question<PodsOfFleets>>;

impl Args {
    /// Shows the figures, once or every second.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let cluster = Cluster::find_all(&self.cluster, self.all_namespaces, printer).await?;
        let mut questions = Questions::new();
        let shown = self.show(&cluster, &mut questions, printer).await;
        side_by_side(questions.into_values(), Question::end).await;
        shown.map(|()| ExitCode::Passed)
    }

    async fn show(&self, cluster: &Cluster, questions: &mut Questions, printer: Printer) -> anyhow::Result<()> {
        let is_live = printer.is_terminal() && !self.once;
        if !is_live && !self.watch {
            let figures = self.read(cluster, questions).await?;
            return Ok(printer.data(lines(&figures, usize::MAX, printer.palette()).join("\n"))?);
        }
        let mut screen = is_live.then(Screen::take);
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                pressed = ctrl_c() => return Ok(pressed?),
            }
            let figures = self.read(cluster, questions).await?;
            match &mut screen {
                Some(screen) => {
                    let mut lines = lines(&figures, Screen::size().1.saturating_sub(2), printer.palette());
                    lines.push(printer.palette().paint(Tone::Faint, "Ctrl-C ends this view").to_string());
                    screen.draw(&lines);
                }
                None => figures.fleets.iter().try_for_each(|fleet| printer.data(line(fleet)))?,
            }
        }
    }

    async fn read(&self, cluster: &Cluster, questions: &mut Questions) -> anyhow::Result<Figures> {
        let fleets = match &self.fleet {
            Some(name) => vec![cluster.fleet(Some(name)).await?],
            None => cluster.select(self.all_namespaces, self.selector.as_deref()).await?,
        };
        let namespaces: BTreeSet<String> = fleets.iter().filter_map(ResourceExt::namespace).collect();
        // That of a namespace whose last fleet is gone ends by itself.
        questions.retain(|namespace, _| namespaces.contains(namespace));
        for namespace in namespaces {
            let ask = || Question::pods(&cluster.within(&namespace), self.fleet.as_ref().map(|name| name.0.as_str()));
            questions.entry(namespace.clone()).or_insert_with(ask);
        }
        let answers = side_by_side(questions.iter_mut(), |(namespace, question)| async move {
            (namespace.clone(), question.ask().await.map_err(|error| error.to_string()))
        });
        let mut answers: BTreeMap<_, _> = answers.await.into_iter().collect();
        let cuts = answers.values_mut().filter_map(|answer| answer.as_mut().ok()?.cut.take()).collect();
        let pods = fleets.iter().map(|fleet| match answers.get_mut(&fleet.namespace().unwrap_or_default()) {
            Some(Ok(answer)) => Ok(answer.figures.remove(&fleet.name_any()).unwrap_or_default()),
            Some(Err(why)) => Err(why.clone()),
            None => Ok(Vec::new()),
        });
        Ok(Figures { pods: pods.collect(), fleets, cuts })
    }
}

/// The answers for all of `items` in their order, of which [`AT_ONCE`] are awaited at a time.
async fn side_by_side<T, A, F: Future<Output = A>>(items: impl Iterator<Item = T>, ask: impl Fn(T) -> F) -> Vec<A> {
    // All are made first, which asks nobody yet.
    let answers: Vec<F> = items.map(ask).collect();
    stream::iter(answers).buffered(AT_ONCE).collect().await
}

/// The figures as lines, not more than `height`.
fn lines(figures: &Figures, height: usize, palette: Palette) -> Vec<String> {
    if figures.fleets.is_empty() {
        return vec!["there is no fleet".into()];
    }
    let heading = ["FLEET", "NAMESPACE", "DEVICES", "CONNECTED", "PODS", "MSG/S", "BYTES/S", "CPU", "MEMORY", "STATE"];
    let mut rows = vec![heading.map(String::from).to_vec()];
    for (fleet, pods) in figures.fleets.iter().zip(&figures.pods) {
        rows.push(fleet_row(fleet, pods.as_deref().unwrap_or_default()));
    }
    let mut lines: Vec<String> = columns(palette, &[2, 3, 4, 5, 6, 7, 8], &rows).lines().map(String::from).collect();
    let mut errors: Vec<_> = figures.pods.iter().filter_map(|pods| pods.as_ref().err()).collect();
    errors.dedup();
    let warnings = errors.into_iter().chain(&figures.cuts);
    lines.extend(warnings.map(|warning| palette.paint(Tone::Warning, warning).to_string()));
    let pods = pod_rows(figures);
    if pods.len() > 1 {
        let free = height.saturating_sub(lines.len() + 1);
        let (shown, hidden) =
            if pods.len() <= free { (pods.len(), 0) } else { (free.max(2) - 1, pods.len() - (free.max(2) - 1)) };
        lines.push(String::new());
        lines.extend(columns(palette, &[1, 2, 3, 4, 5, 6], &pods[..shown]).lines().map(String::from));
        if hidden > 0 {
            lines.push(palette.paint(Tone::Faint, format_args!("and {hidden} more pods")).to_string());
        }
    }
    lines
}

fn fleet_row(fleet: &Fleet, pods: &[PodReport]) -> Vec<String> {
    let status = fleet.status.clone().unwrap_or_default();
    let cpu: f64 = pods.iter().map(|pod| pod.cpu_cores).sum();
    let memory: u64 = pods.iter().map(|pod| pod.memory_bytes).sum();
    let known = |text: String| if pods.is_empty() { "-".into() } else { text };
    vec![
        fleet.name_any(),
        fleet.namespace().unwrap_or_default(),
        words::count(fleet.devices().into()),
        words::count(status.connected.into()),
        format!("{}/{}", status.pods_ready, status.pods),
        words::count(status.messages_per_second),
        words::bytes(status.bytes_per_second as f64),
        known(format!("{cpu:.2}")),
        known(words::bytes(memory as f64)),
        state(fleet, &status),
    ]
}

/// The pods of all fleets, those that lack devices first.
fn pod_rows(figures: &Figures) -> Vec<Vec<String>> {
    let heading = ["POD", "FIRST", "DEVICES", "CONNECTED", "MSG/S", "CPU", "MEMORY", "NODE"];
    let mut pods: Vec<&PodReport> = figures.pods.iter().flatten().flatten().collect();
    pods.sort_by_key(|pod| (pod.answers, std::cmp::Reverse(pod.desired.saturating_sub(pod.connected))));
    let mut rows = vec![heading.map(String::from).to_vec()];
    rows.extend(pods.into_iter().map(|pod| {
        let known = |text: String| if pod.answers { text } else { "-".into() };
        vec![
            pod.pod.clone(),
            pod.first.to_string(),
            words::count(pod.desired.into()),
            known(words::count(pod.connected.into())),
            known(words::number(pod.messages_per_second)),
            known(format!("{:.2}", pod.cpu_cores)),
            known(words::bytes(pod.memory_bytes as f64)),
            pod.node.clone().unwrap_or_else(|| "-".into()),
        ]
    }));
    rows
}

/// A fleet as one line, for logs.
fn line(fleet: &Fleet) -> String {
    let status = fleet.status.clone().unwrap_or_default();
    format!(
        "{}/{}  {} of {} connected  {} of {} pods ready  {} msg/s  {}/s  {}",
        fleet.namespace().unwrap_or_default(),
        fleet.name_any(),
        words::count(status.connected.into()),
        words::count(fleet.devices().into()),
        status.pods_ready,
        status.pods,
        words::count(status.messages_per_second),
        words::bytes(status.bytes_per_second as f64),
        state(fleet, &status)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn figures(pods: u32) -> Figures {
        let fleet = serde_json::from_value(json!({
            "apiVersion": "simctl.io/v1alpha1", "kind": "Fleet", "metadata": {"name": "taxis", "namespace": "load"},
            "spec": {"devices": 500},
            "status": {"connected": 498, "pods": pods, "podsReady": pods, "messagesPerSecond": 1234, "bytesPerSecond": 51200},
        }))
        .unwrap();
        let pod = |ordinal: u32| PodReport {
            pod: format!("taxis-{ordinal}"),
            ordinal,
            first: ordinal * 100,
            desired: 100,
            connected: 100 - ordinal % 3,
            messages_per_second: 246.8,
            cpu_cores: 0.03,
            memory_bytes: 14 << 20,
            answers: ordinal != 0,
            node: Some("n1".into()),
            ..PodReport::default()
        };
        Figures { fleets: vec![fleet], pods: vec![Ok((0..pods).map(pod).collect())], cuts: Vec::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn many_are_asked_side_by_side_and_stay_in_order() {
        let fleets: Vec<u64> = (0..40).collect();
        let started = tokio::time::Instant::now();
        // The later a fleet stands, the sooner it answers.
        let answers = side_by_side(fleets.iter(), |&fleet| async move {
            tokio::time::sleep(Duration::from_millis(1_000 - fleet)).await;
            fleet
        })
        .await;
        assert_eq!(answers, fleets);
        let took = started.elapsed();
        assert!(took > Duration::from_secs(2) && took < Duration::from_secs(4), "three rounds, not {took:?}");
    }

    #[test]
    fn pods_that_lack_devices_come_first() {
        insta::assert_snapshot!(lines(&figures(3), usize::MAX, Palette::Plain).join("\n"), @r"
        FLEET  NAMESPACE  DEVICES  CONNECTED  PODS  MSG/S   BYTES/S   CPU    MEMORY  STATE
        taxis  load           500        498   3/3  1,234  50.0 KiB  0.09  42.0 MiB  Pending

        POD      FIRST  DEVICES  CONNECTED  MSG/S   CPU    MEMORY  NODE
        taxis-0      0      100          -      -     -         -  n1
        taxis-2    200      100         98    247  0.03  14.0 MiB  n1
        taxis-1    100      100         99    247  0.03  14.0 MiB  n1
        ");
    }

    #[test]
    fn what_does_not_fit_the_screen_is_counted() {
        let lines = lines(&figures(50), 10, Palette::Plain);
        assert_eq!((lines.len(), lines.last().map(String::as_str)), (10, Some("and 45 more pods")));
    }

    #[test]
    fn without_the_controller_the_status_is_shown() {
        let figures = Figures { pods: vec![Err("no controller".into())], ..figures(1) };
        insta::assert_snapshot!(lines(&figures, usize::MAX, Palette::Plain).join("\n"), @r"
        FLEET  NAMESPACE  DEVICES  CONNECTED  PODS  MSG/S   BYTES/S  CPU  MEMORY  STATE
        taxis  load           500        498   1/1  1,234  50.0 KiB    -       -  Pending
        no controller
        ");
    }
}
