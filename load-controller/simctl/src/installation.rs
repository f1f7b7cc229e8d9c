//! The load controller's objects, the same that the chart makes, and what of them a person may choose. Pure.

use anyhow::Context as _;
use images::{PROGRAMS, REGISTRY, Reference, TAG, program};
use serde_json::{Map, Value, json};

/// All objects, rendered from the chart with its defaults.
const MANIFEST: &str = include_str!("../../../manifests/install.yaml");

/// The monitors and alerts for the Prometheus Operator, rendered from the same chart.
const MONITORS: &str = include_str!("../../../manifests/monitors.yaml");

/// The group and version of the Prometheus Operator's kinds.
pub(crate) const PROMETHEUS_OPERATOR: &str = "monitoring.coreos.com/v1";

/// What brings the Prometheus Operator and Grafana where there is neither.
pub(crate) const STACK: &str = "helm install monitoring kube-prometheus-stack --repo \
     https://prometheus-community.github.io/helm-charts --namespace monitoring --create-namespace";

/// The namespace that they are rendered for.
pub(crate) const NAMESPACE: &str = "simctl-system";

/// How the names of objects begin that belong to no namespace; a policy's name may have no colon.
const SCOPED: [&str; 2] = ["simctl-system:", "simctl-system."];

/// What a person may choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The controller's namespace.
    pub(crate) namespace: String,
    /// What the names of images begin with.
    pub(crate) registry: String,
    /// Their tag.
    pub(crate) tag: String,
    /// When nodes ask the registry: `Always`, `IfNotPresent`, `Never`.
    pub(crate) pull_policy: Option<String>,
}

impl Default for Choice {
    fn default() -> Self {
        Self { namespace: NAMESPACE.into(), registry: REGISTRY.into(), tag: TAG.into(), pull_policy: None }
    }
}

/// The objects in the order in which they can be made, as `choice` wants them.
pub(crate) fn objects(choice: &Choice) -> anyhow::Result<Vec<Value>> {
    read(MANIFEST, choice)
}

/// What lets a Prometheus of the Prometheus Operator look into the controller and all fleets.
pub(crate) fn monitors(choice: &Choice) -> anyhow::Result<Vec<Value>> {
    read(MONITORS, choice)
}

/// The labels by which a `Prometheus` of the Prometheus Operator finds monitors and rules.
pub(crate) fn selected_by(prometheus: &Value) -> Map<String, Value> {
    let selectors = ["serviceMonitorSelector", "podMonitorSelector", "ruleSelector"];
    let labels =
        selectors.iter().filter_map(|name| prometheus.pointer(&format!("/spec/{name}/matchLabels"))?.as_object());
    labels.flat_map(Clone::clone).collect()
}

/// Adds labels to an object.
pub(crate) fn label(object: &mut Value, labels: &Map<String, Value>) {
    if let Some(present) = object.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        present.extend(labels.clone());
    }
}

fn read(manifest: &str, choice: &Choice) -> anyhow::Result<Vec<Value>> {
    let options = serde_saphyr::options! { strict_booleans: true };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(manifest, options)
        .context("the manifest of the load controller is not right")?;
    let mut objects: Vec<Value> = documents.into_iter().filter(Value::is_object).collect();
    for object in &mut objects {
        settle(object, choice);
    }
    objects.sort_by_key(|object| rank(kind(object)));
    Ok(objects)
}

/// What others need comes first.
fn rank(kind: &str) -> u8 {
    match kind {
        "Namespace" => 0,
        // Nobody can write a fleet before there is a policy that judges it.
        "ValidatingAdmissionPolicy" => 1,
        "ValidatingAdmissionPolicyBinding" => 2,
        "CustomResourceDefinition" => 3,
        "ServiceAccount" | "Secret" | "ConfigMap" => 4,
        "ClusterRole" | "Role" => 5,
        "ClusterRoleBinding" | "RoleBinding" => 6,
        "Deployment" => 8,
        _ => 7,
    }
}

/// The kinds whose objects people write, and which a policy judges.
const JUDGED: [&str; 2] = ["fleets.simctl.io", "loadtests.simctl.io"];

/// Whether an object stays as long as there are fleets: the kinds of what people write, and the policies that judge who may
/// write what.
pub(crate) fn stays_with_fleets(object: &Value) -> bool {
    JUDGED.iter().any(|kind| name(object).ends_with(kind))
}

/// The kind of an object.
pub(crate) fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or_default()
}

/// The name of an object.
pub(crate) fn name(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

/// Whether an object is for all load controllers of a cluster: the kinds, and what people may do with them. What one
/// controller may do across the cluster carries its namespace in the name.
pub(crate) fn is_shared(object: &Value) -> bool {
    let is_in_namespace = object.pointer("/metadata/namespace").is_some() || kind(object) == "Namespace";
    let is_policy = JUDGED.iter().any(|kind| name(object).strip_suffix(kind).is_some_and(|place| place.ends_with('.')));
    let carries_namespace = name(object).contains(':') || is_policy;
    !is_in_namespace && !carries_namespace
}

fn settle(object: &mut Value, choice: &Choice) {
    if kind(object) == "Namespace" {
        object["metadata"]["name"] = json!(choice.namespace);
    }
    // A name without anything after it is the namespace wherever it stands alone: of objects, of subjects.
    for_each_text(object, &mut |key, text| match key {
        "namespace" | "matchNames" if text == NAMESPACE => choice.namespace.clone_into(text),
        // Objects of the whole cluster carry the namespace in their names, so that two installations do not meet.
        "name" | "policyName" if SCOPED.iter().any(|scoped| text.starts_with(scoped)) => {
            text.replace_range(..NAMESPACE.len(), &choice.namespace);
        }
        _ => *text = renamed(text, choice),
    });
    let containers = object.pointer_mut("/spec/template/spec/containers").and_then(Value::as_array_mut);
    if let Some(policy) = &choice.pull_policy {
        containers.into_iter().flatten().for_each(|container| set_pull_policy(container, policy));
    }
}

/// The policy of the controller's image, and of the images of the pods that it makes.
fn set_pull_policy(container: &mut Value, policy: &str) {
    const VARIABLE: &str = "SIMCTL_IMAGE_PULL_POLICY";
    container["imagePullPolicy"] = json!(policy);
    let variables = container.get("env").and_then(Value::as_array).cloned().unwrap_or_default();
    let others = variables.into_iter().filter(|variable| variable["name"] != VARIABLE);
    container["env"] = others.chain([json!({ "name": VARIABLE, "value": policy })]).collect();
}

/// Calls `change` for every text in a value, with the name of its field; for one in a list, that of the list.
fn for_each_text(value: &mut Value, change: &mut impl FnMut(&str, &mut String)) {
    fn walk(key: &str, value: &mut Value, change: &mut impl FnMut(&str, &mut String)) {
        match value {
            Value::String(text) => change(key, text),
            Value::Array(items) => items.iter_mut().for_each(|item| walk(key, item, change)),
            Value::Object(fields) => fields.iter_mut().for_each(|(key, value)| walk(key, value, change)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    walk("", value, change);
}

/// A text in which the images of the programs are called as `choice` has it; a digest would be that of another image.
fn renamed(text: &str, choice: &Choice) -> String {
    let is_default = choice.registry == REGISTRY && choice.tag == TAG;
    for program in PROGRAMS.iter().filter(|_| !is_default) {
        let known = format!("{REGISTRY}/{}:", program.name);
        if let Some((before, _)) = text.split_once(&known) {
            return format!("{before}{}", Reference::new(&choice.registry, program.name, &choice.tag));
        }
    }
    text.to_owned()
}

/// The images that the objects name.
pub(crate) fn images(objects: &[Value]) -> Vec<Reference> {
    let mut found: Vec<Reference> = Vec::new();
    for object in objects.iter().filter(|object| kind(object) == "Deployment") {
        for_each_text(&mut object.clone(), &mut |_, text| {
            // `--worker-image=NAME` names one, too.
            let name = text.rsplit_once('=').map_or(text.as_str(), |(_, name)| name);
            let name = name.split('@').next().unwrap_or(name);
            let image = name.parse::<Reference>().ok().filter(|image| program::find(&image.program).is_some());
            found.extend(image.filter(|image| !found.contains(image)));
        });
    }
    found
}

/// The images that no node can have: nobody serves their name, or nodes may not ask, and no node has them.
pub(crate) fn unavailable<'a>(wanted: &'a [Reference], present: &[String], choice: &Choice) -> Vec<&'a Reference> {
    let is_pulled = |image: &Reference| !image.is_local() && choice.pull_policy.as_deref() != Some("Never");
    let is_present = |image: &Reference| present.contains(&image.to_string());
    wanted.iter().filter(|image| !is_pulled(image) && !is_present(image)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: load-controller, namespace: simctl-system}
spec:
  template:
    spec:
      containers:
        - name: load-controller
          image: ghcr.io/simctl/load-controller:VERSION@sha256:0123
          args: [--worker-image=ghcr.io/simctl/device-sim:VERSION]
          env: [{name: NOTE, value: simctl-system stays in a sentence}]
---
# nothing
---
kind: RoleBinding
apiVersion: rbac.authorization.k8s.io/v1
metadata: {name: a, namespace: simctl-system}
roleRef: {kind: ClusterRole, name: 'simctl-system:fleets'}
subjects: [{kind: ServiceAccount, name: load-controller, namespace: simctl-system}]
---
{apiVersion: v1, kind: Namespace, metadata: {name: simctl-system}}
";

    fn small(choice: &Choice) -> Vec<Value> {
        read(&SMALL.replace("VERSION", TAG), choice).unwrap()
    }

    fn chosen() -> Choice {
        Choice {
            namespace: "load".into(),
            registry: "localhost/lab".into(),
            tag: "dev".into(),
            pull_policy: Some("Never".into()),
        }
    }

    #[test]
    fn what_others_need_comes_first() {
        let kinds: Vec<_> = small(&Choice::default()).iter().map(|object| kind(object).to_owned()).collect();
        assert_eq!(kinds, ["Namespace", "RoleBinding", "Deployment"]);
    }

    #[test]
    fn a_policy_judges_fleets_before_anybody_can_write_one() {
        let objects = objects(&chosen()).unwrap();
        let at = |wanted: &str| objects.iter().position(|object| kind(object) == wanted).unwrap();
        let (policy, binding) = (at("ValidatingAdmissionPolicy"), at("ValidatingAdmissionPolicyBinding"));
        assert!(policy < binding && binding < at("CustomResourceDefinition"));
        for kind in JUDGED {
            let policy = format!("load.{kind}");
            let ours: Vec<_> = objects.iter().filter(|object| name(object) == policy).collect();
            assert_eq!(ours.len(), 2);
            assert_eq!(ours[1]["spec"]["policyName"], policy);
        }
    }

    #[test]
    fn namespace_and_images_are_chosen_everywhere() {
        let objects = small(&chosen());
        assert_eq!(objects[0]["metadata"]["name"], "load");
        assert_eq!(objects[1]["subjects"][0]["namespace"], "load");
        assert_eq!(objects[1]["roleRef"]["name"], "load:fleets");
        let container = &objects[2]["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], "localhost/lab/load-controller:dev");
        assert_eq!(container["args"][0], "--worker-image=localhost/lab/device-sim:dev");
        assert_eq!(container["imagePullPolicy"], "Never");
        assert_eq!(container["env"][1], json!({"name": "SIMCTL_IMAGE_PULL_POLICY", "value": "Never"}));
        assert_eq!(container["env"][0]["value"], "simctl-system stays in a sentence");
    }

    #[test]
    fn by_default_nothing_changes() {
        let container = &small(&Choice::default())[2]["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], format!("ghcr.io/simctl/load-controller:{TAG}@sha256:0123"));
        assert!(container.get("imagePullPolicy").is_none());
    }

    /// The policy that workers' pods get is an argument of the controller, which the manifest has set already.
    #[test]
    fn a_pull_policy_holds_for_the_controller_and_for_the_pods_that_it_makes() {
        let policies = |choice: &Choice| {
            let objects = super::objects(choice).unwrap();
            let deployment = objects.iter().find(|object| kind(object) == "Deployment").unwrap();
            let container = &deployment["spec"]["template"]["spec"]["containers"][0];
            let is_policy = |variable: &&Value| variable["name"] == "SIMCTL_IMAGE_PULL_POLICY";
            let of_pods = container["env"].as_array().unwrap().iter().filter(is_policy);
            let all = [&container["imagePullPolicy"]].into_iter().chain(of_pods.map(|variable| &variable["value"]));
            all.map(|policy| policy.as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(policies(&Choice::default()), ["IfNotPresent", "IfNotPresent"]);
        assert_eq!(policies(&chosen()), ["Never", "Never"]);
    }

    #[test]
    fn images_that_no_node_can_have_are_found() {
        let wanted = images(&small(&chosen()));
        assert_eq!(
            wanted.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["localhost/lab/load-controller:dev", "localhost/lab/device-sim:dev",]
        );
        let missing = unavailable(&wanted, &["localhost/lab/device-sim:dev".into()], &chosen());
        assert_eq!(missing, [&wanted[0]]);
        let served = images(&small(&Choice::default()));
        assert_eq!(served.len(), 2);
        assert_eq!(unavailable(&served, &[], &Choice::default()), Vec::<&Reference>::new());
    }

    #[test]
    fn monitors_look_into_the_namespace_of_the_controller_and_carry_what_prometheus_selects_by() {
        let mut monitors = monitors(&chosen()).unwrap();
        let kinds: Vec<_> = monitors.iter().map(kind).collect();
        assert_eq!(kinds, ["PodMonitor", "PrometheusRule", "ServiceMonitor"]);
        assert!(monitors.iter().all(|monitor| monitor["metadata"]["namespace"] == "load"));
        assert_eq!(monitors[2]["spec"]["namespaceSelector"]["matchNames"], json!(["load"]));
        let stack = json!({"spec": {
            "serviceMonitorSelector": {"matchLabels": {"release": "stack"}}, "podMonitorSelector": {},
            "ruleSelector": {"matchLabels": {"role": "rules"}},
        }});
        label(&mut monitors[0], &selected_by(&stack));
        let labels = &monitors[0]["metadata"]["labels"];
        assert_eq!([&labels["release"], &labels["role"]], ["stack", "rules"]);
        assert_eq!(labels["app.kubernetes.io/part-of"], "simctl");
        assert_eq!(selected_by(&json!({"spec": {}})), Map::new());
    }

    #[test]
    fn what_all_controllers_share_is_the_kinds_and_the_rights_of_people() {
        let objects = objects(&chosen()).unwrap();
        let is_shared = |of: &str| is_shared(objects.iter().find(|object| name(object) == of).unwrap());
        let shared = ["fleets.simctl.io", "loadtests.simctl.io", "simctl-fleets-view", "simctl-fleets-edit"];
        assert!(shared.into_iter().all(is_shared));
        let own = [
            "load",
            "load-controller",
            "load:load-controller-fleets",
            "load.fleets.simctl.io",
            "load.loadtests.simctl.io",
        ];
        assert!(!own.into_iter().any(is_shared));
    }

    #[test]
    fn the_embedded_manifest_has_a_controller_and_its_images() {
        let objects = objects(&Choice::default()).unwrap();
        let deployment = objects.iter().find(|object| kind(object) == "Deployment").unwrap();
        assert_eq!(name(deployment), load_controller::resource::names::CONTROLLER);
        let programs: Vec<_> = images(&objects).into_iter().map(|image| image.program).collect();
        for program in ["load-controller", "device-sim", "broker"] {
            assert!(programs.iter().any(|found| found == program), "{program} is not among {programs:?}");
        }
        let moved = super::objects(&chosen()).unwrap();
        let text = serde_json::to_string(&moved).unwrap();
        assert!(!text.contains("\"namespace\":\"simctl-system\""), "{text}");
    }
}
