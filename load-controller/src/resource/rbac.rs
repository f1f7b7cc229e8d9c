//! What the controller may do, and why: the least that its work needs. The chart and `install.yaml` are made from it.

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::names::CONTROLLER_KEY;

/// In every namespace with fleets: a ClusterRole by default, a Role each with `--watch-namespaces`.
pub fn fleets() -> Vec<PolicyRule> {
    vec![
        // What is wanted. It never changes a specification: whoever scales owns it.
        rule("simctl.io", &["fleets"], &["get", "list", "watch"]),
        rule("simctl.io", &["fleets/status"], &["patch"]),
        // patch: the mark that a test was started, an annotation. Its specification is never changed.
        rule("simctl.io", &["loadtests"], &["list", "watch", "patch"]),
        rule("simctl.io", &["loadtests/status"], &["patch"]),
        // Questions about figures: answered in their status, and deleted when their minute is over.
        rule("simctl.io", &["fleetqueries"], &["list", "watch", "delete"]),
        rule("simctl.io", &["fleetqueries/status"], &["patch"]),
        // Server-side apply is create and patch; delete is for a fleet that no longer needs a broker of its own.
        rule("apps", &["statefulsets"], &["list", "watch", "create", "patch", "delete"]),
        rule("", &["services"], &["list", "watch", "create", "patch", "delete"]),
        rule("networking.k8s.io", &["networkpolicies"], &["list", "watch", "create", "patch", "delete"]),
        rule("policy", &["poddisruptionbudgets"], &["list", "watch", "create", "patch"]),
        // get: the models that a fleet takes from a ConfigMap, and totals at the start. update: plan, totals and what a load test
        // has measured, whose writes must not mix. patch: the number of a revision. delete: revisions beyond the last ten.
        rule("", &["configmaps"], &["get", "list", "watch", "create", "update", "patch", "delete"]),
        // Tokens and passwords follow from the controller's key: none is read. A patch begins with a test of the owner.
        rule("", &["secrets"], &["create", "patch"]),
        // delete: by force, when their node is lost; and the fault kill-pods.
        rule("", &["pods"], &["list", "watch", "delete"]),
        // The hooks of load tests, whose authors must be allowed to create Jobs: a policy of admission sees to that. delete: of a
        // test that is aborted.
        rule("batch", &["jobs"], &["get", "create", "delete"]),
        // An autoscaler that computes with pods would be wrong by devicesPerPod, and is warned of.
        rule("autoscaling", &["horizontalpodautoscalers"], &["list", "watch"]),
        // patch: the count of an event that comes again.
        rule("events.k8s.io", &["events"], &["create", "patch"]),
        // Why a StatefulSet has too few pods, or a pod does not mount a volume, stands only in their events.
        rule("", &["events"], &["list"]),
    ]
}

/// Cluster-wide only, hence always a ClusterRole: which nodes are lost. Without it lost nodes are not noticed.
pub fn nodes() -> Vec<PolicyRule> {
    vec![rule("", &["nodes"], &["list", "watch"])]
}

/// In the controller's own namespace, a Role: the Lease, the label of the pod that leads, and the controller's key.
pub fn own() -> Vec<PolicyRule> {
    vec![
        rule("coordination.k8s.io", &["leases"], &["get", "create", "update"]),
        rule("", &["pods"], &["patch"]),
        // Kubernetes cannot limit a creation to a name.
        rule("", &["secrets"], &["create"]),
        PolicyRule { resource_names: Some(vec![CONTROLLER_KEY.into()]), ..rule("", &["secrets"], &["get"]) },
    ]
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(list(&[group])),
        resources: Some(list(resources)),
        verbs: list(verbs),
        ..PolicyRule::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_controller_may_do() {
        let line = |rule: &PolicyRule| {
            let [groups, resources] = [&rule.api_groups, &rule.resources].map(|list| list.as_ref().unwrap().join(","));
            let names = rule.resource_names.as_ref().map_or(String::new(), |names| format!("({})", names.join(",")));
            format!("{groups}/{resources}{names}: {}", rule.verbs.join(" "))
        };
        let lines: Vec<String> = fleets().iter().chain(&nodes()).chain(&own()).map(line).collect();
        assert!(lines.iter().all(|line| !line.contains('*')), "no rule is for everything");
        insta::assert_snapshot!(lines.join("\n"));
    }
}
