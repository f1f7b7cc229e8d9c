//! simctl as a person uses it on a cluster: what it prints, what it changes, how it ends.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::Value;
use tests::{
    kubernetes::Client,
    process::Process,
    simctl::{Finished, Simctl, finish},
};

use super::{
    PATIENCE,
    site::{Site, fleet},
};

/// Somebody with simctl who may edit one namespace, and do nothing elsewhere.
pub(crate) struct Hand {
    simctl: Simctl,
    client: Client,
    namespace: String,
}

impl Hand {
    pub(crate) fn of(site: &Site) -> Hand {
        Hand::with_role(site, "edit")
    }

    /// The same with another of Kubernetes' own roles.
    pub(crate) fn with_role(site: &Site, role: &str) -> Hand {
        Hand::as_person(site, site.person(role))
    }

    /// The same as somebody.
    pub(crate) fn as_person(site: &Site, client: Client) -> Hand {
        Hand { simctl: Simctl::new().unwrap(), client, namespace: site.namespace.name().to_owned() }
    }

    /// Makes a call in the namespace and awaits its end.
    pub(crate) fn call(&self, args: &[&str]) -> Finished {
        finish(self.start(args), PATIENCE).unwrap()
    }

    /// Starts a call in the namespace, which may go on.
    pub(crate) fn start(&self, args: &[&str]) -> Process {
        let mut command = self.simctl.command(args);
        command.args(["-n", &self.namespace]);
        let name = args.first().copied().unwrap_or("simctl");
        Process::spawn(name, &mut self.client.run_in(&command), self.simctl.dir()).unwrap()
    }

    /// What a call that succeeds prints.
    #[track_caller]
    pub(crate) fn does(&self, args: &[&str]) -> String {
        let finished = self.call(args);
        assert_eq!(finished.code, Some(0), "simctl {args:?}: {finished:?}");
        finished.stdout
    }

    /// Writes a document, and the path of it.
    pub(crate) fn document(&self, name: &str, text: &str) -> String {
        let path = self.simctl.dir().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

#[test]
fn a_fleet_is_applied_shown_and_deleted() {
    let site = Site::new("verbs");
    let _controller = site.controller("load-controller");
    let hand = Hand::of(&site);
    let path = hand.document("fleet.yaml", &fleet("f", 6, 2, ""));
    let dry = hand.does(&["apply", "-f", &path, "--dry-run=server"]);
    assert!(dry.contains("fleet.simctl.io/f created"), "{dry}");
    assert!(hand.does(&["get", "-o", "name"]).is_empty(), "a dry run changes nothing");

    assert!(hand.does(&["apply", "-f", &path]).contains("fleet.simctl.io/f created"));
    assert!(hand.does(&["apply", "-f", &path]).contains("fleet.simctl.io/f unchanged"));
    site.settles("f", 6, 3);
    site.condition("f", "Degraded", "True NoWorkerAnswers");
    assert_eq!(hand.does(&["get", "-o", "name"]), "fleet.simctl.io/f\n");
    let table = hand.does(&["get"]);
    assert!(table.contains("NAME") && table.lines().nth(1).is_some_and(|row| row.starts_with("f ")), "{table}");
    let wide = hand.does(&["get", "-o", "wide"]);
    assert!(wide.contains("mqtt://broker.example:1883") && wide.contains("Degraded"), "{wide}");
    let json: Value = serde_json::from_str(&hand.does(&["get", "f", "-o", "json"])).unwrap();
    let (devices, pods) = (json["spec"]["devices"].as_u64(), json["status"]["pods"].as_u64());
    assert_eq!((devices, pods), (Some(6), Some(3)), "{json}");
    let yaml = hand.does(&["get", "f", "-o", "yaml"]);
    assert!(yaml.contains("devicesPerPod: 2"), "{yaml}");
    let described = hand.does(&["describe", "f"]);
    for expected in ["NoWorkerAnswers", "Created", "f-0", "6 devices in 3 pods"] {
        assert!(described.contains(expected), "expected `{expected}` in:\n{described}");
    }
    let top = hand.call(&["top", "f", "--once"]);
    assert!(top.code == Some(0) && top.stdout.contains("f-2"), "{top:?}");
    let device = hand.call(&["device", "0", "--target", "cluster"]);
    assert!(device.code == Some(1) && device.stderr.contains("does not answer"), "{device:?}");

    assert!(hand.does(&["delete", "fleet", "f"]).contains("deleted"));
    assert_eq!(site.pods("f").len(), 0, "delete waits until the pods are gone");
    let absent = hand.call(&["get", "f"]);
    assert!(absent.code == Some(1) && absent.stderr.contains("not found"), "{absent:?}");
}

#[test]
fn scale_says_what_hinders_and_asks_which_fleet() {
    let site = Site::new("which");
    let _controller = site.controller("load-controller");
    let hand = Hand::of(&site);
    let none = hand.call(&["scale", "5"]);
    assert!(none.code == Some(1) && none.stderr.contains("there is no fleet"), "{none:?}");
    site.fleet("f", 2, 1, "");
    site.settles("f", 2, 2);
    let scaled = hand.call(&["scale", "4", "--timeout", "8s"]);
    site.settles("f", 4, 4);
    assert_eq!(scaled.code, Some(1), "{scaled:?}");
    assert!(scaled.stderr.contains("2 devices in 2 pods now, 4 in 4 pods then"), "{scaled:?}");
    assert!(scaled.stderr.contains("0 of 4 devices are connected after 8s"), "{scaled:?}");
    assert!(scaled.stderr.contains("answer"), "it says what hinders: {scaled:?}");
    hand.does(&["scale", "fleet/f", "--by", "-1", "--no-wait"]);
    site.settles("f", 3, 3);
    hand.does(&["scale", "0"]);
    site.settles("f", 0, 0);

    site.fleet("g", 2, 1, "");
    let several = hand.call(&["scale", "5"]);
    assert!(several.code == Some(2) && several.stderr.contains("fleet/f, fleet/g"), "{several:?}");
    let strange = hand.call(&["scale", "fleet/h", "5"]);
    assert!(strange.code == Some(1) && strange.stderr.contains("\"h\" not found"), "{strange:?}");
    assert_eq!(hand.call(&["scale", "g", "many"]).code, Some(2));
}

#[test]
fn live_numbers_travel_in_the_plan_and_roll_no_pods() {
    let site = Site::new("live");
    let _controller = site.controller("load-controller");
    let hand = Hand::of(&site);
    site.fleet("f", 4, 2, "");
    site.settles("f", 4, 2);
    let uid = site.field("pod/f-0", "{.metadata.uid}");
    let plan_has = |what: &str, wanted: &dyn Fn(&str) -> bool| {
        let has = || Ok(Some(site.plan("f").to_string()).filter(|plan| wanted(plan)));
        tests::eventually(&format!("the plan has {what}"), PATIENCE, has).unwrap()
    };
    let paused = hand.does(&["pause", "f"]);
    let plan = plan_has("a pause", &|plan| plan.contains("ause"));
    assert!(paused.is_empty() || paused.contains('f'), "{paused}");
    hand.does(&["resume", "f"]);
    plan_has("an end of the pause", &|now| now != plan);
    let plan = site.plan("f").to_string();
    hand.does(&["set", "f", "interval=200ms"]);
    plan_has("the interval", &|now| now != plan && now.contains("nterval"));
    // All of it is a change of numbers: same pods, same revision, same document.
    site.condition("f", "Reconciling", "False Settled");
    assert_eq!(site.field("pod/f-0", "{.metadata.uid}"), uid);
    assert_eq!(site.field("fleet/f", "{.status.revision}"), "1");
    assert_eq!(site.field("statefulset/f", "{.metadata.generation}"), "1");
}

#[test]
fn a_roll_out_has_a_history_and_a_way_back() {
    let site = Site::new("rollout");
    let _controller = site.controller("load-controller");
    let hand = Hand::of(&site);
    site.fleet("f", 4, 1, "");
    site.settles("f", 4, 4);
    site.fleet("f", 4, 1, "lossAfter: 20s");
    let rolled = hand.does(&["rollout", "status", "f"]);
    assert!(rolled.contains("4 of 4 pods run revision 2"), "{rolled}");
    let history = hand.does(&["rollout", "history", "f"]);
    assert!(history.contains("2 (current)") && history.contains("lossAfter"), "{history}");
    assert_eq!(history.lines().count(), 3, "{history}");
    site.scale("f", 5);
    hand.does(&["rollout", "undo", "f"]);
    site.namespace.wait_for("fleet/f", "{.status.revision}", PATIENCE, |it| it == "3").unwrap();
    let rolled = hand.does(&["rollout", "status", "f"]);
    assert!(rolled.contains("5 of 5 pods run revision 3"), "{rolled}");
    assert_eq!(site.field("fleet/f", "{.spec.lossAfter} {.spec.devices}"), " 5", "devices stay what they are");
    let history = hand.does(&["rollout", "history", "f"]);
    assert_eq!(history.lines().count(), 3, "an old document that is wanted again is no new one: {history}");
    hand.does(&["rollout", "restart", "f"]);
    let restarted = "{.spec.template.metadata.annotations.kubectl\\.kubernetes\\.io/restartedAt}";
    site.namespace.wait_for("statefulset/f", restarted, PATIENCE, |at| !at.is_empty()).unwrap();
}

#[test]
fn a_document_that_is_wrong_ends_with_104_and_where() {
    let site = Site::new("wrong");
    let hand = Hand::of(&site);
    let wrong = fleet("f", 6, 2, "").replace("model: thermometer", "model: termometer");
    let path = hand.document("wrong.yaml", &wrong);
    let refused = hand.call(&["apply", "-f", &path]);
    assert!(refused.code == Some(104) && refused.stderr.contains("termometer"), "{refused:?}");
    // What only the cluster knows: a change that must wait until there are no devices.
    let path = hand.document("fleet.yaml", &fleet("f", 6, 2, ""));
    hand.does(&["apply", "-f", &path]);
    let path = hand.document("other.yaml", &fleet("f", 6, 3, ""));
    let refused = hand.call(&["apply", "-f", &path]);
    assert!(refused.code == Some(104) && refused.stderr.contains("scale to 0 first"), "{refused:?}");
}

#[test]
fn devices_that_somebody_else_has_scaled_stay_when_the_document_comes_again() {
    let site = Site::new("kept");
    let _controller = site.controller("load-controller");
    let hand = Hand::of(&site);
    let path = hand.document("fleet.yaml", &fleet("f", 6, 2, ""));
    hand.does(&["apply", "-f", &path]);
    site.scale("f", 9);
    let path = hand.document("fleet.yaml", &fleet("f", 6, 2, "lossAfter: 20s"));
    let applied = hand.call(&["apply", "-f", &path]);
    assert!(applied.code == Some(0) && applied.stderr.contains('9'), "{applied:?}");
    site.settles("f", 9, 5);
    assert_eq!(site.field("fleet/f", "{.spec.lossAfter}"), "20s");
}

#[test]
fn a_cluster_that_cannot_be_reached_is_an_error_in_seconds() {
    let simctl = Simctl::new().unwrap();
    // In the control plane's network nobody listens there, and no packet comes back from the second one.
    for server in ["https://127.0.0.1:1", "https://10.250.0.77:6443"] {
        let config = format!(
            "apiVersion: v1\nkind: Config\nclusters: [{{name: gone, cluster: {{server: '{server}'}}}}]\n\
             users: [{{name: gone, user: {{token: x}}}}]\n\
             contexts: [{{name: gone, context: {{cluster: gone, user: gone}}}}]\ncurrent-context: gone\n"
        );
        let path = simctl.dir().join("gone.conf");
        fs::write(&path, config).unwrap();
        let client = super::admin().with_kubeconfig(path);
        let start = Instant::now();
        let command = simctl.command(&["scale", "5"]);
        let finished =
            finish(Process::spawn("scale", &mut client.run_in(&command), simctl.dir()).unwrap(), PATIENCE).unwrap();
        println!("{server}: {} after {:.1} s", finished.stderr.trim(), start.elapsed().as_secs_f64());
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        assert!(finished.code == Some(1) && finished.stderr.contains("cannot be reached"), "{finished:?}");
    }
}
