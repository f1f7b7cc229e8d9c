//! The command lines of a control plane's programs, which run in its directory.

use std::env;

use super::DEFAULT_RATES;

/// The control plane's address in its network.
pub(in crate::kubernetes) const ADDRESS: &str = "10.250.0.1";
/// The addresses of all pods of real nodes.
pub(in crate::kubernetes) const PODS: &str = "10.244.0.0/16";
/// The addresses of Services, the first of which is the API server's.
const SERVICES: &str = "10.96.0.0/16";
pub(super) const API_SERVICE: &str = "10.96.0.1";

pub(super) fn etcd() -> Vec<String> {
    owned(&[
        "--data-dir=etcd",
        // What is lost when the machine fails is lost with the test anyway, so no write waits for the disk.
        "--unsafe-no-fsync",
        "--log-level=warn",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=default=http://127.0.0.1:2380",
    ])
}

pub(super) fn api_server() -> Vec<String> {
    let mut args = owned(&[
        "--etcd-servers=http://127.0.0.1:2379",
        "--bind-address=0.0.0.0",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
        // The names of nodes are in no DNS.
        "--kubelet-preferred-address-types=InternalIP",
        // It asks the endpoints of an aggregated API or a webhook itself: no kube-proxy runs beside it.
        "--enable-aggregator-routing=true",
        "--event-ttl=10m",
        "--profiling=false",
        "--client-ca-file=authority.crt",
        "--tls-cert-file=api-server.crt",
        "--tls-private-key-file=api-server.key",
        "--kubelet-client-certificate=kubelet-client.crt",
        "--kubelet-client-key=kubelet-client.key",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        "--service-account-key-file=service-accounts.pub",
        "--service-account-signing-key-file=service-accounts.key",
        // How an aggregated API, such as one for external metrics, knows that the API server asks it, and for whom.
        "--requestheader-client-ca-file=authority.crt",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--proxy-client-cert-file=front-proxy.crt",
        "--proxy-client-key-file=front-proxy.key",
    ]);
    args.push(format!("--advertise-address={ADDRESS}"));
    args.push(format!("--service-cluster-ip-range={SERVICES}"));
    args
}

/// `further` ones come last and therefore win.
pub(super) fn controller_manager(further: &[String]) -> Vec<String> {
    let mut args = owned(&[
        "--kubeconfig=controller-manager.conf",
        "--bind-address=127.0.0.1",
        // Nobody else could lead, and to find that out takes seconds.
        "--leader-elect=false",
        // The controllers' own rights, one account each; those of the manager's user alone are not enough.
        "--use-service-account-credentials=true",
        "--service-account-private-key-file=service-accounts.key",
        "--root-ca-file=authority.crt",
        "--allocate-node-cidrs=true",
        // Kubernetes' own 15 s would be most of an autoscaler's test.
        "--horizontal-pod-autoscaler-sync-period=2s",
        "--flex-volume-plugin-dir=flex",
        "--profiling=false",
    ]);
    args.extend(rates());
    args.push(format!("--cluster-cidr={PODS}"));
    args.push(format!("--service-cluster-ip-range={SERVICES}"));
    args.extend_from_slice(further);
    args
}

pub(super) fn scheduler() -> Vec<String> {
    let mut args = owned(&[
        "--kubeconfig=scheduler.conf",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--profiling=false",
    ]);
    args.extend(rates());
    args
}

/// How often a program may ask the API server.
fn rates() -> Vec<String> {
    if env::var_os(DEFAULT_RATES).is_some() {
        Vec::new()
    } else {
        owned(&["--kube-api-qps=500", "--kube-api-burst=1000"])
    }
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|&arg| arg.to_owned()).collect()
}
