//! The Job of a hook: a command of a load test's author.

use fleet_contract::{
    fault::Hook,
    fleet::{FleetSpec, PodSpec as Special},
};
use k8s_openapi::api::{
    batch::v1::{Job, JobSpec},
    core::v1::{Container, EnvVar, PodSpec, SecurityContext},
};

use super::{
    Owner,
    names::{self, Component, LOAD_TEST_LABEL},
    pod,
};

/// The name of its container.
const CONTAINER: &str = "hook";

/// What its container gets, which is room for a command-line tool.
const CPU: &str = "50m";
const MEMORY: &str = "128Mi";

/// The condition of a Job whose command has succeeded.
const COMPLETE: &str = "Complete";
/// That of one whose command has not.
const FAILED: &str = "Failed";

/// The Job of the hook at `position` of a load test, which runs once. Its pod goes where the fleet's pods go, under the same rules;
/// it has a token of the API server only if it names a service account, which whoever may create Jobs may name.
pub fn hook(test: &Owner, fleet: &str, spec: &FleetSpec, position: u32, hook: &Hook) -> Job {
    let name = names::hook(&test.name, position);
    let special = Special { service_account_name: hook.service_account_name.clone(), ..spec.pod.clone() };
    let mut template = pod::template(fleet, Component::LoadTest, &special);
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(LOAD_TEST_LABEL.into(), test.name.clone());
    template.spec = Some(PodSpec {
        automount_service_account_token: Some(hook.service_account_name.is_some()),
        restart_policy: Some("Never".into()),
        security_context: Some(pod::pod_security(&special, &[])),
        containers: vec![container(test, fleet, &special, hook)],
        ..template.spec.unwrap_or_default()
    });
    let seconds = i64::try_from(hook.timeout().0.div_ceil(1_000_000)).unwrap_or(i64::MAX);
    let spec = JobSpec {
        active_deadline_seconds: Some(seconds),
        // What it does to a backend is not to be done twice.
        backoff_limit: Some(0),
        template,
        ..JobSpec::default()
    };
    Job { metadata: test.metadata_of_test(name, fleet), spec: Some(spec), ..Job::default() }
}

fn container(test: &Owner, fleet: &str, special: &Special, hook: &Hook) -> Container {
    let set = |name: &str, value: &str| EnvVar { name: name.into(), value: Some(value.into()), ..EnvVar::default() };
    Container {
        name: CONTAINER.into(),
        image: hook.image.clone(),
        command: Some(hook.command.clone()),
        env: Some(vec![set("SIMCTL_LOAD_TEST", &test.name), set("SIMCTL_FLEET", fleet)]),
        image_pull_policy: special.image_pull_policy.map(<&str>::from).map(Into::into),
        resources: Some(pod::requirements(CPU.into(), None, MEMORY.into(), None)),
        // Tools write caches beside themselves.
        security_context: Some(SecurityContext { read_only_root_filesystem: None, ..pod::container_security() }),
        termination_message_policy: Some(pod::LAST_LINES.into()),
        ..Container::default()
    }
}

/// What came of a Job; `None` as long as it goes on.
///
/// # Errors
///
/// When it has failed: why.
pub fn outcome(job: &Job) -> Option<Result<(), String>> {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ended = conditions.filter(|condition| condition.status == "True").find_map(|condition| {
        match condition.type_.as_str() {
            COMPLETE => Some(Ok(())),
            FAILED => Some(Err(condition.message.clone().unwrap_or_default())),
            _ => None,
        }
    });
    let name = job.metadata.name.clone().unwrap_or_default();
    ended.map(|ended| {
        ended.map_err(|why| format!("Job {name} failed: {why}; `kubectl logs job/{name}` has what it said"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resource::fixture;

    fn job(more: &str, text: &str) -> serde_json::Value {
        let spec = fixture::spec(more);
        let hook_fault: Hook = serde_json::from_str(text).unwrap();
        serde_json::to_value(hook(&fixture::owner(), "demo", &spec, 2, &hook_fault)).unwrap()
    }

    #[test]
    fn a_job_runs_once_without_rights_of_its_own() {
        let job = job("devices: 1", r#"{"command": ["restart", "broker"], "image": "tools:1", "timeout": "90s"}"#);
        assert_eq!(job["metadata"]["name"], "demo-hook-2");
        assert_eq!(job["metadata"]["ownerReferences"][0]["name"], "demo");
        let (spec, pod) = (&job["spec"], &job["spec"]["template"]["spec"]);
        assert_eq!((&spec["backoffLimit"], &spec["activeDeadlineSeconds"]), (&json!(0), &json!(90)));
        assert_eq!((&pod["restartPolicy"], &pod["automountServiceAccountToken"]), (&json!("Never"), &json!(false)));
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        let container = &pod["containers"][0];
        assert_eq!((&container["image"], &container["command"]), (&json!("tools:1"), &json!(["restart", "broker"])));
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    }

    #[test]
    fn its_pod_goes_where_the_fleets_pods_go_as_the_account_that_it_names() {
        let text = r#"{"command": ["x"], "image": "tools:1", "serviceAccountName": "restarter"}"#;
        let special =
            "{nodeSelector: {zone: edge}, serviceAccountName: other, annotations: {sidecar.istio.io/inject: 'false'}}";
        let job = job(&format!("devices: 1\npod: {special}"), text);
        let (metadata, pod) = (&job["spec"]["template"]["metadata"], &job["spec"]["template"]["spec"]);
        assert_eq!(metadata["annotations"], json!({"sidecar.istio.io/inject": "false"}));
        assert_eq!(pod["nodeSelector"], json!({"zone": "edge"}));
        assert_eq!(
            (&pod["serviceAccountName"], &pod["automountServiceAccountToken"]),
            (&json!("restarter"), &json!(true))
        );
    }

    #[test]
    fn a_job_tells_what_came_of_it() {
        let with = |conditions: serde_json::Value| -> Job {
            serde_json::from_value(json!({"metadata": {"name": "demo-hook-2"}, "status": {"conditions": conditions}}))
                .unwrap()
        };
        assert_eq!(outcome(&with(json!([]))), None);
        assert_eq!(outcome(&with(json!([{"type": "Failed", "status": "False"}]))), None);
        assert_eq!(outcome(&with(json!([{"type": "Complete", "status": "True"}]))), Some(Ok(())));
        let failed = with(json!([{"type": "Failed", "status": "True", "message": "it took too long"}]));
        let why = "Job demo-hook-2 failed: it took too long; `kubectl logs job/demo-hook-2` has what it said";
        assert_eq!(outcome(&failed), Some(Err(why.into())));
    }
}
