//! `simctl apply`: makes the cluster's fleets what documents say.

use std::path::PathBuf;

use kube::{Resource as _, ResourceExt as _};
use load_controller::{resource::Fleet, run::verdict::ExitCode};
use serde_json::{Map, Value, json};

use crate::{
    cluster::{
        client::{Cluster, ClusterError},
        load_tests,
        manifest::{self, Manifest},
        objects::{DryRun, Manner, Outcome, Place, title, trial},
        ownership::{self, Kept},
        show,
    },
    exit::Failure,
    flags::ClusterFlags,
    printer::{Format, Output, Printer},
};

const EXAMPLES: &str = "\
Examples:
  simctl apply -f fleet.yaml
  simctl apply -f fleets/ -n load             all documents of a directory
  simctl example robotaxis | simctl apply -f -
  simctl apply -f fleet.yaml --dry-run=server would the cluster take it?";

/// Make the cluster's fleets what documents say
///
/// Documents are checked here first, as `simctl validate` does, and models and recordings beside them travel along.
/// Then the API server applies them (server-side apply, field manager `simctl`). The number of devices, a pause and
/// intervals that somebody else has set since stay as they are. So does the number of devices that a document leaves
/// out.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A document or a directory of documents; `-` reads standard input
    #[arg(short, long = "file", visible_alias = "filename", value_name = "FILE", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
    /// Only try: what would be done
    #[arg(long, value_name = "HOW")]
    dry_run: Option<DryRun>,
    /// Take fields that other tools own, the number of devices included
    #[arg(long)]
    force_conflicts: bool,
    /// How to print what was applied
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Output,
    #[command(flatten)]
    cluster: ClusterFlags,
}

impl Args {
    /// Checks all documents, then applies one after the other.
    pub(super) async fn run(self, printer: Printer) -> anyhow::Result<ExitCode> {
        let manifests = manifest::read(&self.files)?;
        for manifest in &manifests {
            self.check_namespace(manifest)?;
        }
        let cluster = Cluster::find(&self.cluster, printer).await?;
        for manifest in manifests {
            let applied = self.apply(&cluster, manifest, printer).await?;
            self.print(&applied, printer)?;
        }
        Ok(ExitCode::Passed)
    }

    fn check_namespace(&self, manifest: &Manifest) -> Result<(), Failure> {
        match (manifest.namespace(), self.cluster.namespace.as_deref()) {
            (Some(own), Some(flag)) if own != flag => Err(Failure::document(format!(
                "{}: expected the namespace of --namespace, {flag}, found `{own}` in {}",
                manifest.file,
                manifest.name()
            ))),
            _ => Ok(()),
        }
    }

    async fn apply(&self, cluster: &Cluster, mut manifest: Manifest, printer: Printer) -> anyhow::Result<Applied> {
        let place = cluster.place(&manifest.object).await?;
        let cluster = match manifest.namespace() {
            Some(namespace) => cluster.within(namespace),
            None => cluster.clone(),
        };
        if manifest.is_load_test() {
            self.warn_of_the_end(&cluster, &place, printer).await?;
        }
        if manifest.fleet.is_none() {
            return self.apply_object(&cluster, &place, &manifest.object).await;
        }
        let before = cluster.ask_for(cluster.fleets().get(&place.name)).await?;
        if let (Some(fleet), Some(spec)) = (&before, manifest.object.get_mut("spec").and_then(Value::as_object_mut)) {
            let is_left_out = !spec.contains_key("devices");
            if !self.force_conflicts {
                for kept in ownership::yield_live(spec, fleet) {
                    printer.warn(note(&place, &kept));
                }
                self.yield_to_autoscaler(&cluster, &place, fleet, spec, printer).await?;
            }
            if !spec.contains_key("devices")
                && let Some(devices) = self.leave_devices(&cluster, fleet, spec).await?
                && is_left_out
            {
                printer.say(format_args!(
                    "{}: devices stays {devices}, which the document leaves out; `simctl scale fleet/{} N` changes it",
                    place.title(),
                    place.name
                ));
            }
        }
        let recordings = manifest.recordings()?;
        if let Some(recordings) = &recordings {
            self.apply_recordings(&cluster, recordings, before.as_ref(), printer).await?;
        }
        let applied = self.apply_object(&cluster, &place, &manifest.object).await?;
        if let (Some(recordings), None, None) = (&recordings, &before, self.dry_run) {
            // They go when the fleet goes, which had no identity until now.
            let fleet = cluster.fleet_named(&place.name).await?;
            self.apply_recordings(&cluster, recordings, Some(&fleet), printer).await?;
        }
        Ok(applied)
    }

    /// Says so where a load test is over and would not run again.
    async fn warn_of_the_end(&self, cluster: &Cluster, place: &Place, printer: Printer) -> anyhow::Result<()> {
        let Some(test) = cluster.ask_for(cluster.load_tests().get(&place.name)).await? else { return Ok(()) };
        if test.is_complete() && test.started().is_some() {
            let (name, (state, _)) = (&place.name, load_tests::state(&test.status.unwrap_or_default()));
            printer.warn(format_args!(
                "load test {name} is over ({state}) and does not run again: `simctl delete loadtest/{name}` before, or another \
                 name, makes a new one"
            ));
        }
        Ok(())
    }

    /// Takes the number of devices out of `spec` where an autoscaler sets it, whom Kubernetes does not always note as its owner.
    async fn yield_to_autoscaler(
        &self,
        cluster: &Cluster,
        place: &Place,
        fleet: &Fleet,
        spec: &mut Map<String, Value>,
        printer: Printer,
    ) -> anyhow::Result<()> {
        let live = fleet.devices();
        // One leaves a fleet of 0 devices alone.
        if live == 0 || !spec.contains_key("devices") {
            return Ok(());
        }
        let Some(autoscaler) = cluster.autoscaler_of(&place.name).await? else { return Ok(()) };
        if spec.shift_remove("devices").is_some_and(|wanted| wanted != live) {
            printer.warn(format_args!(
                "{}: devices stays {live}, which the {} sets; --force-conflicts takes the document's",
                place.title(),
                autoscaler.title()
            ));
        }
        Ok(())
    }

    /// Leaves the number of devices as it is though the document does not send it; the number, if it was the document's.
    async fn leave_devices(
        &self,
        cluster: &Cluster,
        fleet: &Fleet,
        spec: &mut Map<String, Value>,
    ) -> anyhow::Result<Option<u32>> {
        if ownership::give_up_devices(fleet).is_none() {
            return Ok(None);
        }
        if self.dry_run.is_none() {
            return Ok(Some(cluster.give_up_devices(&fleet.name_any()).await?));
        }
        // A trial gives nothing up. The same number in the document has the same outcome.
        spec.insert("devices".into(), fleet.devices().into());
        Ok(Some(fleet.devices()))
    }

    async fn apply_recordings(
        &self,
        cluster: &Cluster,
        recordings: &Value,
        owner: Option<&Fleet>,
        printer: Printer,
    ) -> anyhow::Result<()> {
        let mut wanted = recordings.clone();
        if let Some(reference) = owner.and_then(|fleet| fleet.owner_ref(&())) {
            wanted["metadata"]["ownerReferences"] = json!([reference]);
        }
        let place = cluster.place(&wanted).await?;
        let Applied { title, outcome, .. } = self.apply_object(cluster, &place, &wanted).await?;
        if outcome != Outcome::Unchanged {
            printer.say(format_args!("{title} holds the recordings"));
        }
        Ok(())
    }

    async fn apply_object(&self, cluster: &Cluster, place: &Place, wanted: &Value) -> anyhow::Result<Applied> {
        let title = place.title();
        if self.dry_run == Some(DryRun::Client) {
            let before = cluster.ask_for(place.api.get(&place.name)).await?;
            let outcome = if before.is_some() { Outcome::Configured } else { Outcome::Created };
            return Ok(Applied { title, outcome, object: wanted.clone() });
        }
        let manner = Manner { dry_run: self.dry_run, force: self.force_conflicts };
        let (outcome, after) = cluster.apply(place, wanted, manner).await.map_err(ClusterError::of_document)?;
        let mut object = serde_json::to_value(after)?;
        show::without_noise(&mut object);
        Ok(Applied { title, outcome, object })
    }

    fn print(&self, applied: &Applied, printer: Printer) -> anyhow::Result<()> {
        let Applied { title, outcome, object } = applied;
        let format = match self.output {
            Output::Name => return Ok(printer.data(title)?),
            Output::Json => Format::Json,
            Output::Yaml => Format::Yaml,
            Output::Table | Output::Wide => {
                let trial = trial(self.dry_run);
                return Ok(printer.data(format_args!("{title} {}{trial}", outcome.word()))?);
            }
        };
        printer.value(format, object, String::new)
    }
}

/// An object, and what became of it.
struct Applied {
    title: String,
    outcome: Outcome,
    object: Value,
}

/// What the reader must know of a number that stays.
fn note(place: &Place, kept: &Kept) -> String {
    let Kept { field, live, owner } = kept;
    let name = title(&place.resource.kind, &place.resource.group, &place.name);
    let live = if live.is_null() { "unset".into() } else { live.to_string() };
    let remedy = match *field {
        "devices" => format!("`simctl scale fleet/{} N` changes it", place.name),
        "paused" => "`simctl pause` and `simctl resume` change it".into(),
        _ => "`simctl set interval=TIME` changes it".into(),
    };
    format!("{name}: {field} stays {live}, which {owner} has set; {remedy}, --force-conflicts takes the document's")
}
