//! The kind Fleet as the API server understands it: what it stores, what it refuses and in which words, what it shows.

use super::{
    admin,
    site::{Site, fleet},
};

#[test]
fn a_document_that_is_wrong_is_refused_in_words_that_help() {
    let site = Site::new("refused");
    // What is written instead of what, and what the API server has to say about it.
    let wrong: &[(&str, &str, &[&str])] = &[
        ("devices: 10", "devicez: 10", &["devicez: field not declared in schema"]),
        ("devices: 10", "devices: many", &["spec.devices", "expected numeric", "got string"]),
        ("devices: 10", "devices: -1", &["spec.devices", "greater than or equal to 0"]),
        ("devices: 10", "devices: 20000000", &["spec.devices", "less than or equal to 10000000"]),
        ("devicesPerPod: 5", "devicesPerPod: 0", &["spec.devicesPerPod", "greater than or equal to 1"]),
        ("rate: 1000/s", "rate: 1000/fortnight", &["spec.connect.rate", "should match"]),
        ("rate: 1000/s", "rate: 1000/s, keepAlive: 60", &["spec.connect.keepAlive", "string"]),
        ("rate: 1000/s", "rate: 1000/s, keepAlive: 60 parsecs", &["spec.connect.keepAlive", "should match"]),
        ("devices: 10", "devices: 10\n  lossAfter: soon", &["spec.lossAfter", "should match"]),
        ("devices: 10", "devices: 10\n  observe: sometimes", &["spec.observe", "supported values"]),
        ("devices: 10", "devices: 10\n  clientId: same", &["spec.clientId", "expected `{index}` or `{uuid}`"]),
        (
            "pod: {",
            "pod: {labels: {app.kubernetes.io/name: db, simctl.io/leader: 'true'}, ",
            &["spec.pod.labels", "another key than app.kubernetes.io/name", "no key that begins with simctl.io/"],
        ),
        (
            "pod: {",
            "pod: {annotations: {simctl.io/document: other}, ",
            &["spec.pod.annotations", "no key that begins with simctl.io/"],
        ),
        ("pod: {", "pod: {runAsUser: 0, ", &["spec.pod.runAsUser", "greater than or equal to 1"]),
        ("pod: {", "pod: {sysctls: [{name: a, value: 1}], ", &["spec.pod.sysctls", "expected string"]),
        (
            "pod: {",
            "pod: {sysctls: [{name: a, value: '1'}, {name: a, value: '2'}], ",
            &["spec.pod.sysctls", "uplicate"],
        ),
        ("pod: {", "pod: {affinity: {nodeAffinity: near}, ", &["spec.pod.affinity.nodeAffinity", "object"]),
        ("pod: {", "pod: {affinity: {nodeAfinity: {}}, ", &["spec.pod.affinity.nodeAfinity: field not declared"]),
        ("name: all,", "name: all, share: most,", &["spec.groups[0].share", "should match"]),
        (
            "[{name: all, model: thermometer}]",
            "[{name: a, model: thermometer}, {name: b, model: thermometer}]",
            &["spec.groups", "expected at most one group without a share"],
        ),
        ("[{name: all, model: thermometer}]", "[]", &["spec.groups", "at least 1 items"]),
        ("{name: wrong}", "{name: forty-one-characters-are-one-too-many-here}", &["expected a name of at most 40"]),
        (
            "url: 'mqtt://broker.example:1883'",
            "url: broker.example, credentials: {username: '{id}', passwordEnv: SECRET}",
            &["spec.broker.credentials", "write `secretName` instead"],
        ),
    ];
    let missed: Vec<String> = wrong.iter().filter_map(|(from, to, says)| missed(&site, from, to, says)).collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// What of the words the API server does not say, if anything.
fn missed(site: &Site, from: &str, to: &str, says: &[&str]) -> Option<String> {
    let document = fleet("wrong", 10, 5, "").replace(from, to);
    assert!(document.contains(to), "nothing was changed: {document}");
    match site.namespace.apply(&document) {
        Ok(_) => Some(format!("{to}: is taken")),
        Err(error) => {
            let error = error.to_string();
            let missing = says.iter().find(|says| !error.contains(**says))?;
            Some(format!("{to}: expected `{missing}`, found: {error}"))
        }
    }
}

#[test]
fn what_gives_devices_another_home_or_name_waits_until_there_are_none() {
    let site = Site::new("immutable");
    let two = |name: &str, share: &str, more: &str| {
        let groups =
            format!("[{{name: {name}, share: {share}, model: thermometer}}, {{name: rest, model: thermometer}}]");
        fleet("f", 10, 5, more).replace("[{name: all, model: thermometer}]", &groups)
    };
    let original = two("all", "90%", "");
    site.namespace.apply(&original).unwrap();
    let frozen = [
        ("devicesPerPod", original.replace("devicesPerPod: 5", "devicesPerPod: 6")),
        ("seed", two("all", "90%", "seed: 8")),
        ("clientId", two("all", "90%", "clientId: 'x-{index}'")),
        ("groups", two("all", "80%", "")),
        ("groups", two("some", "90%", "")),
    ];
    for (field, document) in &frozen {
        let error = site.namespace.apply(document).unwrap_err().to_string();
        let expected = format!("spec.{field}: Invalid value");
        assert!(error.contains(&expected) && error.contains("scale to 0 first"), "{field}: {error}");
    }
    // What a group publishes may change: devices keep home and name.
    let other_model = original.replace("name: rest, model: thermometer", "name: rest, model: smart-meter");
    site.namespace.apply(&other_model).unwrap();

    site.scale("f", 0);
    for (field, document) in &frozen {
        let empty = document.replace("devices: 10", "devices: 0");
        site.namespace.apply(&empty).unwrap_or_else(|error| panic!("{field}: {error:#}"));
    }
}

#[test]
fn kubectl_shows_and_scales_it_by_all_of_its_names() {
    let site = Site::new("kubectl");
    let _controller = site.controller("only");
    site.fleet("f", 4, 2, "");
    site.settles("f", 4, 2);
    for name in ["fleet", "fleets", "fl", "fleets.v1alpha1.simctl.io"] {
        let shown = site.namespace.kubectl(["get", name]).unwrap();
        let words: Vec<&str> = shown.split_whitespace().collect();
        assert_eq!(words[..7], ["NAME", "DEVICES", "CONNECTED", "PODS", "MSG/S", "READY", "AGE"], "{name}: {shown}");
        assert_eq!(words[7..13], ["f", "4", "0", "2", "0", "False"], "{name}: {shown}");
    }
    // All kinds that people write, each by its name.
    let all = site.namespace.kubectl(["get", "simctl"]).unwrap();
    assert!(all.contains("fleet.simctl.io/f "), "{all}");
    let wide = site.namespace.kubectl(["get", "fleets", "-o", "wide"]).unwrap();
    assert!(wide.contains("mqtt://broker.example:1883") && wide.contains("LAST ERROR"), "{wide}");
    site.scale("f", 5);
    site.settles("f", 5, 3);
    let scale = admin().kubectl(["get", "--raw", &scale_path(&site)]).unwrap();
    let scale: serde_json::Value = serde_json::from_str(&scale).unwrap();
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["replicas"]), (&5.into(), &5.into()));
    let selector = scale["status"]["selector"].as_str().unwrap();
    let selected = site.namespace.get(["pods", "-l", selector]).unwrap();
    assert_eq!(selected["items"].as_array().unwrap().len(), 3, "{selector}");
    let explained = site.namespace.kubectl(["explain", "fleet.spec.devicesPerPod"]).unwrap();
    assert!(explained.contains("devicesPerPod") && explained.contains("integer"), "{explained}");
}

fn scale_path(site: &Site) -> String {
    format!("/apis/simctl.io/v1alpha1/namespaces/{}/fleets/f/scale", site.namespace.name())
}
