//! The control plane ring: a real API server with its controllers and scheduler, and nodes that KWOK plays.
//!
//! `cargo xtask test control-plane` runs it, and says NOT RUN where Kubernetes cannot be built. All tests share one
//! control plane and work in a namespace each, those with fleets at a [`Site`](site::Site) with controllers of its own.
//!
//! Fake pods run nothing and answer no HTTP; where the controller's figures need workers that answer, they are
//! processes behind such pods ([`kubelet`]). What devices do in containers is the business of the cluster ring.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![expect(clippy::disallowed_methods, reason = "processes and sockets take real time")]

mod admission;
mod autoscaler;
mod clock;
mod completion;
mod conflicts;
mod crd;
mod degraded;
mod documents;
mod fleets;
mod formats;
mod handover;
mod kubelet;
mod limits;
mod load_tests;
mod monitoring;
mod ownership;
mod panels;
mod plane;
mod query;
mod refusals;
mod restarts;
mod rights;
mod sandbox;
mod scale;
mod secrets;
mod simctl;
mod site;
mod speed;
mod thousand;
mod words;
mod workers;

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use tests::kubernetes::{Client, ControlPlane, control_plane::Settings};

/// Far beyond what anything here takes, so that only a hang reaches it.
const PATIENCE: Duration = Duration::from_mins(2);

/// Started by the first test that uses it; it ends with this process.
static PLANE: LazyLock<ControlPlane> = LazyLock::new(|| {
    let start = Instant::now();
    let plane = ControlPlane::start(&Settings { fake_nodes: 10, ..Settings::default() }).unwrap();
    println!("the control plane and ten fake nodes are ready after {:.1} s", start.elapsed().as_secs_f64());
    plane
});

/// The administrator.
fn admin() -> &'static Client {
    PLANE.client()
}
