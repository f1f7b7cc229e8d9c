//! What is wrong with what is special about a fleet's pods.

use std::collections::BTreeSet;

use super::Findings;
use crate::{
    document::pointer_step,
    fleet::{OWN_LABELS, OWN_PREFIX, PodSpec},
};

pub(super) fn check(pod: &PodSpec, found: &mut Findings) {
    check_keys(pod, found);
    check_ids(pod, found);
    let mut names = BTreeSet::new();
    for (position, sysctl) in pod.sysctls.iter().enumerate() {
        if !names.insert(&sysctl.name) {
            let message = format!("expected each parameter once, found `{}` again", sysctl.name);
            found.add(format!("/spec/pod/sysctls/{position}/name"), message);
        }
    }
}

/// Services, policies and the controller find pods by keys that nobody else may set.
fn check_keys(pod: &PodSpec, found: &mut Findings) {
    let labels = pod.labels.keys().map(|key| ("labels", key, OWN_LABELS.contains(&key.as_str())));
    let annotations = pod.annotations.keys().map(|key| ("annotations", key, false));
    for (field, key, is_own) in labels.chain(annotations) {
        if is_own || key.starts_with(OWN_PREFIX) {
            found.add(
                format!("/spec/pod/{field}/{}", pointer_step(key)),
                format!("expected another key than `{key}`, which the load controller sets itself"),
            );
        }
    }
}

fn check_ids(pod: &PodSpec, found: &mut Findings) {
    let ids = [("runAsUser", pod.run_as_user), ("runAsGroup", pod.run_as_group), ("fsGroup", pod.fs_group)];
    for (field, _) in ids.iter().filter(|(_, id)| pod.omit_ids && id.is_some()) {
        found.add(format!("/spec/pod/{field}"), "expected no id beside `omitIds: true`, which leaves all ids out");
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::complaints;

    fn of(pod: &str) -> String {
        complaints(&format!("  devices: 1\n  groups: [{{name: a, model: thermometer}}]\n  pod: {pod}"))
    }

    #[test]
    fn labels_and_annotations_of_the_product_are_refused_by_their_key() {
        assert_eq!(of("{labels: {team: taxi}, annotations: {app.kubernetes.io/name: note}}"), "none");
        insta::assert_snapshot!(of(
            "{labels: {app.kubernetes.io/name: db, simctl.io/leader: 'true'}, annotations: {simctl.io/document: other}}"
        ), @r"
        f:7:18: spec.pod.labels.app.kubernetes.io/name: expected another key than `app.kubernetes.io/name`, which the load controller sets itself
        f:7:46: spec.pod.labels.simctl.io/leader: expected another key than `simctl.io/leader`, which the load controller sets itself
        f:7:87: spec.pod.annotations.simctl.io/document: expected another key than `simctl.io/document`, which the load controller sets itself
        ");
    }

    #[test]
    fn ids_are_given_or_left_out() {
        assert_eq!(of("{runAsUser: 1000, runAsGroup: 0, fsGroup: 7}"), "none");
        assert_eq!(of("{omitIds: true}"), "none");
        insta::assert_snapshot!(of("{omitIds: true, runAsUser: 1000, fsGroup: 7}"), @r"
        f:7:24: spec.pod.runAsUser: expected no id beside `omitIds: true`, which leaves all ids out
        f:7:41: spec.pod.fsGroup: expected no id beside `omitIds: true`, which leaves all ids out
        ");
        insta::assert_snapshot!(of("{runAsUser: 0}"), @"f:7:9: spec.pod.runAsUser: expected at least 1, found `0`");
    }

    #[test]
    fn a_kernel_parameter_is_set_once_and_as_text() {
        assert_eq!(of("{sysctls: [{name: net.ipv4.tcp_keepalive_time, value: '60'}]}"), "none");
        insta::assert_snapshot!(of("{sysctls: [{name: a, value: '1'}, {name: a, value: '2'}]}"), @"f:7:43: spec.pod.sysctls[1].name: expected each parameter once, found `a` again");
        insta::assert_snapshot!(of("{sysctls: [{name: a, value: 1}]}"), @"f:7:29: spec.pod.sysctls[0].value: expected text, found `1`");
    }

    #[test]
    fn affinity_is_anything_here_because_only_kubernetes_knows_its_form() {
        assert_eq!(of("{affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}}"), "none");
    }
}
