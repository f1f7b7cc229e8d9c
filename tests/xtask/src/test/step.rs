//! The table of steps.

use std::{
    cell::OnceCell,
    env,
    hash::{BuildHasher, RandomState},
    num::NonZero,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Result, anyhow};
use tests::{
    arm64,
    chromium::Chromium,
    kubernetes::{Cluster, ControlPlane, EXISTING, Kwok, control_plane::DEFAULT_RATES},
    mochi,
    mosquitto::Installation,
    oracle,
    project::{BIN_DIR, PARTITIONS, PREVIOUS_BIN_DIR, PREVIOUS_CHART},
    prometheus, rabbitmq,
    unavailable::Unavailable,
    valgrind::Valgrind,
};

use super::{
    deny,
    kubernetes::Kubernetes,
    outcome::{InCi, Outcome},
    previous::Previous,
};
use crate::cargo;

/// One check, or one set of tests.
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) length: Length,
    pub(super) run: fn(&Context) -> Result<Outcome>,
}

/// How many tests run side by side: most of them wait, for sockets, containers and timetables, and compute little. Who
/// measures has the machine for itself by a lock of its ring.
const TESTS_PER_CORE: usize = 3;

/// The same for the rings that need no Kubernetes, which compute least.
const TESTS_PER_CORE_WITHOUT_KUBERNETES: usize = 6;

/// Where the test harness of Rust reads how many run side by side.
const THREADS: &str = "RUST_TEST_THREADS";

/// Whether continuous integration waits for a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Short,
    Long,
}

/// All steps: the quick checks first, then what needs more and more of the product.
pub(super) const STEPS: &[Step] = &[
    Step { name: "fmt", what: "every file is formatted", length: Length::Short, run: fmt },
    Step { name: "clippy", what: "the workspace has no warning", length: Length::Short, run: clippy },
    Step { name: "deny", what: "dependencies: bans, licences, sources", length: Length::Short, run: deny::check },
    Step {
        name: "advisories",
        what: "no dependency with a known advisory",
        length: Length::Short,
        run: deny::advisories,
    },
    Step { name: "unit", what: "unit, property and integration tests", length: Length::Short, run: unit },
    Step { name: "doc", what: "examples in documents, and the documents", length: Length::Short, run: doc },
    Step { name: "build", what: "the optimized binaries that the rings start", length: Length::Short, run: build },
    Step { name: "local", what: "simctl with real sockets and real faults", length: Length::Short, run: local },
    Step {
        name: "local-faults",
        what: "faults at their instants, while nothing else runs",
        length: Length::Short,
        run: local_faults,
    },
    Step {
        name: "local-links",
        what: "faults of links beside packets that others delay and hold up",
        length: Length::Short,
        run: local_links,
    },
    Step { name: "local-pages", what: "the report's page in a real browser", length: Length::Short, run: local_pages },
    Step {
        name: "instructions",
        what: "instructions a message costs, within committed bounds",
        length: Length::Short,
        run: instructions,
    },
    Step { name: "brokers", what: "simctl and Mosquitto", length: Length::Short, run: brokers },
    Step { name: "brokers-mochi", what: "simctl and mochi-mqtt, in Go", length: Length::Short, run: brokers_mochi },
    Step {
        name: "brokers-rabbitmq",
        what: "simctl and RabbitMQ's MQTT plugin",
        length: Length::Long,
        run: brokers_rabbitmq,
    },
    Step {
        name: "manifests",
        what: "chart, manifests and dashboards by Helm and Prometheus",
        length: Length::Short,
        run: manifests,
    },
    Step {
        name: "control-plane",
        what: "a real control plane with hundreds of fake pods",
        length: Length::Short,
        run: control_plane,
    },
    Step {
        name: "control-plane-costs",
        what: "what a thousand pods, sixty fleets and two hundred busy workers cost the controller",
        length: Length::Long,
        run: control_plane_costs,
    },
    Step {
        name: "control-plane-rates",
        what: "500 pods by controllers that ask the API server as seldom as by default",
        length: Length::Long,
        run: control_plane_rates,
    },
    Step { name: "cluster", what: "real containers on two real nodes", length: Length::Short, run: cluster },
    Step {
        name: "upgrade",
        what: "from the release before this one to this one and back, under load",
        length: Length::Long,
        run: upgrade,
    },
    Step {
        name: "partitions",
        what: "nodes and controllers that are cut off for two minutes",
        length: Length::Long,
        run: partitions,
    },
    Step {
        name: "arm64",
        what: "the programs for arm64, emulated, beside those of this machine",
        length: Length::Long,
        run: arm64,
    },
    Step {
        name: "soak",
        what: "10,000 devices and Mosquitto for five minutes, and through a storm",
        length: Length::Long,
        run: soak,
    },
];

/// The tests of the local ring that say when a broker sees a fault.
const FAULTS: &str = "faults::";

/// Those that compare latencies with an oracle's.
const LINKS: &str = "links::";

/// Those that look at pages in a browser.
const PAGES: &str = "pages::";

/// The test of the control plane ring that measures how long 500 pods take.
const SPEED: &str = "speed::";

/// What the names of its tests have in common that measure for minutes what the controller takes, while nothing else runs.
const COSTS: &str = "_cost_";

/// What steps share.
pub(super) struct Context {
    /// Where every property test starts.
    pub(super) seed: u64,
    /// The optimized binaries, or why there are none; built once, by the first step that needs them.
    binaries: OnceCell<Result<PathBuf, String>>,
    pub(super) kubernetes: Kubernetes,
}

impl Step {
    /// Whether the build of Kubernetes is to start beside the steps before it.
    pub(super) fn needs_kubernetes(&self) -> bool {
        let of_control_plane = self.needs_fake_nodes();
        of_control_plane || ["manifests", "cluster", "upgrade", "partitions"].contains(&self.name)
    }

    /// Whether KWOK is to be built with it.
    pub(super) fn needs_fake_nodes(&self) -> bool {
        ["control-plane", "control-plane-costs", "control-plane-rates"].contains(&self.name)
    }
}

impl Context {
    /// # Errors
    /// When `PROPTEST_RNG_SEED` is set to something that is no seed.
    pub(super) fn new() -> Result<Context> {
        let seed = match env::var("PROPTEST_RNG_SEED") {
            Ok(seed) => seed.parse().map_err(|_| anyhow!("PROPTEST_RNG_SEED={seed:?} is no number"))?,
            // The standard library's hashers are seeded by the operating system.
            Err(_) => RandomState::new().hash_one(()),
        };
        Ok(Context { seed, binaries: OnceCell::new(), kubernetes: Kubernetes::default() })
    }

    fn binaries(&self) -> Result<&Path> {
        let built = self.binaries.get_or_init(|| cargo::build_release().map_err(|error| format!("{error:#}")));
        built.as_deref().map_err(|reason| anyhow!("{reason}"))
    }

    /// `cargo test`, of which one failing binary stops no other, and whose failures the seed reproduces.
    ///
    /// Always of the whole workspace: a part of it would have other features of its dependencies and build them anew.
    fn cargo_test(&self, args: &[&str]) -> Command {
        let mut command = cargo::command(&["test", "--locked", "--workspace", "--no-fail-fast"]);
        command.args(args).env("PROPTEST_RNG_SEED", self.seed.to_string());
        // The seed says it all; no file is left beside the sources.
        command.env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true");
        side_by_side(&mut command, TESTS_PER_CORE);
        command
    }
}

fn fmt(_: &Context) -> Result<Outcome> {
    check(&mut cargo::command(&["fmt", "--all", "--check"]))
}

fn clippy(_: &Context) -> Result<Outcome> {
    let mut command = cargo::command(&["clippy", "--locked", "--workspace", "--all-targets"]);
    // The rings are no part of "all targets", because they run only by name.
    check(command.args(["--test", "*", "--", "-D", "warnings"]))
}

/// Everything but the rings, which run only by name.
fn unit(context: &Context) -> Result<Outcome> {
    tested(&mut context.cargo_test(&["--lib", "--bins", "--tests"])).map(Outcome::Ran)
}

fn doc(context: &Context) -> Result<Outcome> {
    let mut rustdoc = cargo::command(&["doc", "--locked", "--workspace", "--no-deps"]);
    let documents = cargo::run(rustdoc.env("RUSTDOCFLAGS", "-D warnings"))?;
    // There may be no example yet: the documents are the check that always runs.
    let mut counts = cargo::run(&mut context.cargo_test(&["--doc"])).map(counted)?;
    counts.passed += u32::from(documents.success);
    counts.failed += u32::from(!documents.success);
    Ok(Outcome::Ran(counts))
}

fn build(context: &Context) -> Result<Outcome> {
    context.binaries().map(|_| Outcome::of_one(true))
}

fn local(context: &Context) -> Result<Outcome> {
    let args = ["--test", "local", "--test", "allocations", "--", "--skip", FAULTS, "--skip", LINKS, "--skip", PAGES];
    ring(context, TESTS_PER_CORE_WITHOUT_KUBERNETES, &args)
}

fn local_faults(context: &Context) -> Result<Outcome> {
    ring(context, TESTS_PER_CORE_WITHOUT_KUBERNETES, &["--test", "local", "--", FAULTS])
}

fn local_links(context: &Context) -> Result<Outcome> {
    if let Err(unavailable) = oracle::requirements() {
        return Ok(Outcome::NotRun { reason: unavailable.reason(), in_ci: InCi::Fails });
    }
    // Each has several processes and measures times.
    ring(context, 1, &["--test", "local", "--", LINKS])
}

fn local_pages(context: &Context) -> Result<Outcome> {
    if let Err(unavailable) = Chromium::find_or_unpack() {
        return Ok(Outcome::NotRun { reason: unavailable.reason(), in_ci: InCi::Fails });
    }
    ring(context, TESTS_PER_CORE, &["--test", "local", "--", PAGES])
}

fn instructions(context: &Context) -> Result<Outcome> {
    if !cfg!(target_arch = "x86_64") {
        let reason = "needs x86-64, because the bounds count its instructions".to_owned();
        return Ok(Outcome::NotRun { reason, in_ci: InCi::Passes });
    }
    if let Err(unavailable) = Valgrind::find_or_unpack() {
        return Ok(Outcome::NotRun { reason: unavailable.reason(), in_ci: InCi::Fails });
    }
    ring(context, TESTS_PER_CORE, &["--test", "instructions"])
}

fn brokers(context: &Context) -> Result<Outcome> {
    with_broker(context, Installation::find_or_unpack().map(drop), "brokers", "mosquitto::")
}

fn brokers_mochi(context: &Context) -> Result<Outcome> {
    with_broker(context, mochi::find_or_build().map(drop), "brokers", "mochi::")
}

fn brokers_rabbitmq(context: &Context) -> Result<Outcome> {
    with_broker(context, rabbitmq::Installation::find_or_unpack().map(drop), "brokers", "rabbitmq::")
}

fn soak(context: &Context) -> Result<Outcome> {
    with_broker(context, Installation::find_or_unpack().map(drop), "soak", "")
}

fn arm64(context: &Context) -> Result<Outcome> {
    let required =
        || -> Result<_, Unavailable> { Ok((arm64::Compiler::find_or_unpack()?, arm64::Emulator::find_or_unpack()?)) };
    let compiler = match required() {
        Ok((compiler, _)) => compiler,
        Err(unavailable) => {
            return Ok(Outcome::NotRun { reason: unavailable.reason(), in_ci: InCi::Fails });
        }
    };
    let programs = cargo::build_release_for_arm64(&compiler)?;
    let mut command = context.cargo_test(&["--test", "arm64"]);
    command.env(BIN_DIR, context.binaries()?).env(arm64::BIN_DIR, programs);
    tested(&mut command).map(Outcome::Ran)
}

fn manifests(context: &Context) -> Result<Outcome> {
    let requirements = || prometheus::Tools::find_or_unpack().and_then(|_| Installation::find_or_unpack()).map(drop);
    with_kubernetes(context, requirements, || ring(context, TESTS_PER_CORE, &["--test", "manifests"]))
}

fn control_plane(context: &Context) -> Result<Outcome> {
    let requirements = || fake_nodes().and_then(|()| prometheus::Tools::find_or_unpack()).map(drop);
    let args = ["--test", "control-plane", "--", "--skip", SPEED, "--skip", COSTS];
    with_kubernetes(context, requirements, || ring(context, TESTS_PER_CORE, &args))
}

fn control_plane_costs(context: &Context) -> Result<Outcome> {
    with_kubernetes(context, fake_nodes, || ring(context, TESTS_PER_CORE, &["--test", "control-plane", "--", COSTS]))
}

fn control_plane_rates(context: &Context) -> Result<Outcome> {
    with_kubernetes(context, fake_nodes, || {
        let mut command = context.cargo_test(&["--test", "control-plane", "--", SPEED]);
        tested(command.env(DEFAULT_RATES, "1").env(BIN_DIR, context.binaries()?)).map(Outcome::Ran)
    })
}

/// What a control plane with fake nodes needs.
fn fake_nodes() -> Result<(), Unavailable> {
    ControlPlane::requirements().and_then(|_| Kwok::find_or_build()).map(drop)
}

fn cluster(context: &Context) -> Result<Outcome> {
    // A cluster that is there already needs nothing of this machine.
    let is_there = env::var_os(EXISTING).is_some();
    let requirements = || if is_there { Ok(()) } else { Cluster::requirements().map(drop) };
    with_kubernetes(context, requirements, || ring(context, TESTS_PER_CORE, &["--test", "cluster"]))
}

fn upgrade(context: &Context) -> Result<Outcome> {
    let previous = match Previous::find_or_extract() {
        Ok(previous) => previous,
        Err(unavailable) => return Ok(Outcome::NotRun { reason: unavailable.reason(), in_ci: InCi::Fails }),
    };
    with_kubernetes(
        context,
        || Cluster::requirements().map(drop),
        || {
            let mut command = context.cargo_test(&["--test", "cluster", "--", "releases::"]);
            command.env(PREVIOUS_BIN_DIR, previous.build()?).env(PREVIOUS_CHART, previous.chart());
            tested(command.env(BIN_DIR, context.binaries()?)).map(Outcome::Ran)
        },
    )
}

fn partitions(context: &Context) -> Result<Outcome> {
    with_kubernetes(
        context,
        || Cluster::requirements().map(drop),
        || {
            let mut command = context.cargo_test(&["--test", "cluster", "--", "partitions::"]);
            tested(command.env(PARTITIONS, "1").env(BIN_DIR, context.binaries()?)).map(Outcome::Ran)
        },
    )
}

fn with_kubernetes(
    context: &Context,
    requirements: impl FnOnce() -> Result<(), Unavailable>,
    run: impl FnOnce() -> Result<Outcome>,
) -> Result<Outcome> {
    let failure = context.kubernetes.failure().map(str::to_owned);
    match failure.or_else(|| requirements().err().map(|unavailable| unavailable.reason())) {
        Some(reason) => Ok(Outcome::NotRun { reason, in_ci: InCi::Fails }),
        None => run(),
    }
}

/// The tests of a ring whose names contain `filter`, if the broker that they need can be had.
fn with_broker(context: &Context, broker: Result<(), Unavailable>, name: &str, filter: &str) -> Result<Outcome> {
    if let Err(unavailable) = broker {
        return Ok(Outcome::NotRun { reason: unavailable.reason(), in_ci: InCi::Fails });
    }
    ring(context, TESTS_PER_CORE_WITHOUT_KUBERNETES, &["--test", name, "--", filter])
}

/// Lets so many tests run side by side on each core, unless whoever calls has said how many.
fn side_by_side(command: &mut Command, per_core: usize) {
    if env::var_os(THREADS).is_none() {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        command.env(THREADS, (per_core * cores).to_string());
    }
}

/// A ring is one or more test binaries of the package `tests` that start optimized binaries.
fn ring(context: &Context, per_core: usize, args: &[&str]) -> Result<Outcome> {
    let mut command = context.cargo_test(args);
    side_by_side(&mut command, per_core);
    tested(command.env(BIN_DIR, context.binaries()?)).map(Outcome::Ran)
}

fn check(command: &mut Command) -> Result<Outcome> {
    Ok(Outcome::of_one(cargo::run(command)?.success))
}

/// # Errors
/// When no test ran, which is never what was meant.
fn tested(command: &mut Command) -> Result<cargo::Counts> {
    let counts = counted(cargo::run(command)?);
    if counts.passed + counts.failed == 0 {
        return Err(anyhow!("no test ran"));
    }
    Ok(counts)
}

/// A failure outside of a test, such as one that does not compile, counts as one.
fn counted(finished: cargo::Finished) -> cargo::Counts {
    let mut counts = finished.counts;
    if !finished.success && counts.failed == 0 {
        counts.failed = 1;
    }
    counts
}
