//! The cluster ring: real nodes, real containers, real images of the product.
//!
//! `cargo xtask test cluster` runs it, and says NOT RUN where Kubernetes or its nodes cannot be had. All tests share
//! one cluster and work in a namespace each. Those that measure times, kill a node or remove the product have it alone.
//!
//! With `E2E_KUBECONFIG` it runs in a cluster that exists already, whose nodes need the images that `E2E_REGISTRY` and
//! `E2E_TAG` name; what needs nodes of our own then says that it was not run.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![expect(clippy::disallowed_methods, reason = "processes and sockets take real time")]

mod acts;
mod books;
mod broker;
mod causes;
mod dashboard;
mod drain;
mod fleet;
mod heal;
mod install;
mod listener;
mod load_tests;
mod machine;
mod node;
mod partitions;
mod pipelines;
mod product;
mod releases;
mod rollout;
mod scale;
mod volume;

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use tests::{
    kubernetes::{
        Client, Cluster,
        cluster::{NodePatience, Settings},
    },
    turn::Turns,
};

/// Far beyond what anything here takes, so that only a hang reaches it.
const PATIENCE: Duration = Duration::from_mins(3);

/// The cluster that exists already; `None` for one of our own.
static FOREIGN: LazyLock<Option<Client>> = LazyLock::new(|| Client::from_environment().unwrap());

/// Started by the first test that uses it; it ends with this process.
static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let images = vec![product::archive(folder.path())];
    let start = Instant::now();
    let settings = Settings { nodes: 2, images, patience: NodePatience::Short };
    let cluster = Cluster::start(&settings).unwrap();
    println!("two nodes are ready after {:.1} s", start.elapsed().as_secs_f64());
    cluster
});

/// The administrator.
fn admin() -> &'static Client {
    FOREIGN.as_ref().unwrap_or_else(|| CLUSTER.client())
}

/// The cluster as one whose nodes and containers can be killed; `None`, and says so, where they are not ours.
fn own_nodes(what: &str) -> Option<&'static Cluster> {
    if FOREIGN.is_some() {
        println!("NOT RUN: {what}: the nodes of this cluster are not ours");
        return None;
    }
    Some(&CLUSTER)
}

/// Who is alone measures times, kills a node, or changes the installation that all others use.
static TURNS: Turns = Turns::new();
