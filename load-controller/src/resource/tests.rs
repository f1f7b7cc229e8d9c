//! What the builders make of a small fleet, as people read it.

use fleet_contract::{
    allowed::AllowedBrokers,
    fleet::{BrokerAccess, OWN_LABELS, OWN_PREFIX},
};
use kube::ResourceExt as _;
use serde::Serialize;

use super::{
    Size,
    broker::{self, Broker, Storage},
    config_map, fixture,
    names::{self, Component},
    network_policy,
    pod::{self, DOCUMENT_ANNOTATION, SECRETS_ANNOTATION, Worker},
    pod_disruption_budget, service, stateful_set,
};

fn yaml(object: &impl Serialize) -> String {
    serde_saphyr::to_string(&serde_json::to_value(object).unwrap()).unwrap()
}

fn template(more: &str) -> k8s_openapi::api::core::v1::PodTemplateSpec {
    let spec = fixture::spec(more);
    pod::build(&Worker {
        fleet: "demo",
        spec: &spec,
        document: "demo-0123456789",
        has_own_broker: false,
        image: "ghcr.io/simctl/device-sim:0.1.0",
        pull_policy: None,
        size: Size::of(&spec),
        allowed: "10.0.0.0/8,*.example".parse().unwrap(),
    })
}

#[test]
fn workers_are_a_stateful_set() {
    let object = stateful_set::build(&fixture::owner(), 3, template("devices: 10"));
    insta::assert_snapshot!(yaml(&object));
}

/// All that a document can say of pods.
const SPECIAL: &str = "
devices: 10
broker: {url: 'mqtt://broker.example', credentials: {username: '{id}', secretName: devices}}
observer: {credentials: {username: eye, secretName: eye}}
pod:
  imagePullSecrets: [registry]
  nodeSelector: {kubernetes.io/arch: arm64}
  tolerations: [{key: edge, operator: Exists}]
  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [n1]}]}]}}}
  priorityClassName: low
  runtimeClassName: gvisor
  serviceAccountName: nobody
  runAsUser: 1000
  runAsGroup: 0
  fsGroup: 2000
  sysctls: [{name: net.ipv4.tcp_keepalive_time, value: '60'}]
  labels: {team: taxi, simctl.io/fleet: other}
  annotations: {note: hello}
  cpu: 250m
  cpuLimit: '1'
  memory: 128Mi
  ephemeralStorage: 64Mi
  broker: {cpu: 200m, cpuLimit: '2', ephemeralStorage: 1Gi}
";

#[test]
fn what_is_special_about_pods_reaches_them() {
    let template = template(SPECIAL);
    let metadata = template.metadata.as_ref().unwrap();
    assert_eq!(metadata.labels.as_ref().unwrap()[names::FLEET_LABEL], "demo", "our labels win");
    insta::assert_snapshot!(yaml(&template));
}

#[test]
fn workers_of_an_own_broker_have_its_passwords() {
    let spec = fixture::spec("devices: 10");
    let template = pod::build(&Worker {
        fleet: "demo",
        spec: &spec,
        document: "demo-0123456789",
        has_own_broker: true,
        image: "device-sim:1",
        pull_policy: None,
        size: Size::of(&spec),
        allowed: AllowedBrokers::default(),
    });
    let pod = template.spec.unwrap();
    let volumes: Vec<String> = pod
        .volumes
        .iter()
        .flatten()
        .filter_map(|volume| {
            let secret = volume.secret.as_ref()?;
            let item = &secret.items.as_ref()?[0];
            Some(format!("{}: {} {} as {}", volume.name, secret.secret_name.as_ref()?, item.key, item.path))
        })
        .collect();
    assert_eq!(
        volumes,
        [
            "token: demo-secrets token as token",
            "former-token: demo-token token as token",
            "credentials: demo-secrets devices as password",
            "observer: demo-secrets observer as password",
        ]
    );
    let mounts = pod.containers[0].volume_mounts.iter().flatten();
    assert!(mounts.clone().all(|mount| mount.sub_path.is_none()), "kubelet does not update what has a subPath");
    let paths: Vec<_> = mounts.map(|mount| mount.mount_path.as_str()).collect();
    assert!(paths.contains(&"/etc/simctl/credentials") && paths.contains(&"/etc/simctl/observer"), "{paths:?}");
}

#[test]
fn what_is_special_about_pods_reaches_the_broker() {
    let broker = Broker { image: "broker", pull_policy: None, memory: broker::memory_for(10), storage: None };
    let spec = broker::build(&fixture::owner(), &fixture::spec(SPECIAL).pod, &broker).spec.unwrap();
    let (mut pod, metadata) = (spec.template.spec.unwrap(), spec.template.metadata.unwrap());
    assert_eq!(metadata.labels.as_ref().unwrap()[names::FLEET_LABEL], "demo", "our labels win");
    let resources = pod.containers.remove(0).resources;
    pod.volumes = None;
    insta::assert_snapshot!([yaml(&metadata), yaml(&pod), yaml(&resources)].join("---\n"));
}

#[test]
fn a_platform_that_assigns_ids_finds_none() {
    let pod = template("devices: 10\npod: {omitIds: true}").spec.unwrap();
    let security = pod.security_context.unwrap();
    assert_eq!((security.run_as_user, security.run_as_group, security.fs_group), (None, None, None));
    assert_eq!(security.run_as_non_root, Some(true), "Pod Security asks for it");
}

#[test]
fn a_kernel_parameter_of_the_document_comes_in_place_of_ours() {
    let more = "devices: 10\npod: {sysctls: [{name: net.ipv4.ip_local_port_range, value: 20000 30000}]}";
    let sysctls = template(more).spec.unwrap().security_context.unwrap().sysctls.unwrap();
    assert_eq!(sysctls.iter().map(|sysctl| sysctl.value.as_str()).collect::<Vec<_>>(), ["20000 30000"]);
}

#[test]
fn no_pod_has_a_token_whatever_its_account() {
    for more in ["devices: 10", SPECIAL] {
        let broker = Broker { image: "broker", pull_policy: None, memory: broker::memory_for(10), storage: None };
        let broker = broker::build(&fixture::owner(), &fixture::spec(more).pod, &broker).spec.unwrap();
        for pod in [template(more).spec.unwrap(), broker.template.spec.unwrap()] {
            assert_eq!(pod.automount_service_account_token, Some(false));
            let volumes = pod.volumes.unwrap_or_default();
            assert!(volumes.iter().all(|volume| volume.projected.is_none()), "a token may be projected, too");
        }
    }
}

#[test]
fn every_label_of_the_product_is_refused_in_a_document() {
    for component in [Component::Worker, Component::Broker] {
        for key in names::labels("demo", component).keys() {
            assert!(key.starts_with(OWN_PREFIX) || OWN_LABELS.contains(&key.as_str()), "{key}");
        }
    }
    assert!([DOCUMENT_ANNOTATION, SECRETS_ANNOTATION].iter().all(|key| key.starts_with(OWN_PREFIX)));
}

#[test]
fn the_small_objects() {
    let owner = fixture::owner();
    let objects = [
        yaml(&service::build(&owner)),
        yaml(&pod_disruption_budget::build(&owner)),
        yaml(&network_policy::build(&owner)),
        yaml(&config_map::document(&owner, "0123456789abcdef", 3, "{}", "{}")),
    ];
    insta::assert_snapshot!(objects.join("---\n"));
}

#[test]
fn a_broker_of_our_own() {
    let owner = fixture::owner();
    let special = fixture::spec("devices: 10").pod;
    let broker = Broker {
        image: "ghcr.io/simctl/broker:0.1.0",
        pull_policy: Some("IfNotPresent"),
        memory: broker::memory_for(10),
        storage: None,
    };
    let object = broker::build(&owner, &special, &broker);
    assert_eq!(broker::memory_of(&object), Some(256 << 20), "what was given can be read again");
    assert_eq!(broker::storage_of(&object), None);
    let storage = Storage { size: "1Gi".into(), class: Some("fast".into()) };
    let claiming = broker::build(&owner, &special, &Broker { storage: Some(&storage), ..broker });
    assert_eq!(broker::storage_of(&claiming), Some(storage));
    let spec = claiming.spec.unwrap();
    let volumes = spec.template.spec.unwrap().volumes.unwrap();
    assert!(volumes.iter().all(|volume| volume.empty_dir.is_none()), "the claim is the volume");
    insta::assert_snapshot!("a_claim", yaml(&spec.volume_claim_templates));
    assert_eq!(broker::url(&owner).to_string(), "mqtt://demo-broker.load.svc:1883");
    insta::assert_snapshot!(
        [
            yaml(&object),
            yaml(&broker::service(&owner)),
            yaml(&network_policy::broker(&owner, BrokerAccess::Namespace)),
            yaml(&config_map::access(&owner, false)),
        ]
        .join("---\n")
    );
    let policy = network_policy::broker(&owner, BrokerAccess::Cluster).spec.unwrap();
    assert!(policy.ingress.unwrap().iter().all(|rule| rule.from.is_none()), "everybody may reach it");
}

#[test]
fn a_broker_has_room_for_twice_the_devices() {
    for devices in [0, 1, 1_024, 1_025, 100_000] {
        assert!(broker::devices_max(broker::memory_for(devices)) >= 2 * devices);
    }
}

#[test]
fn plans_and_totals_are_read_as_they_were_written() {
    let owner = fixture::owner();
    let plan = fleet_contract::plan::Plan::new(7, fleet_contract::time::Micros(1), 10);
    let object = config_map::plan(&owner, &plan, Some("42".into()));
    assert_eq!((config_map::read_plan(&object).unwrap(), object.resource_version()), (plan, Some("42".into())));
    assert_eq!(config_map::revision(&object), None);
    let ended = fleet_contract::stats::Ended::default();
    assert_eq!(config_map::read_totals(&config_map::totals(&owner, &ended, &[], None)).unwrap(), ended);
}
