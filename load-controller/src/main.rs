//! The controller as a program: flags, logs, HTTP, election, signals, exit code.

use std::{io::Write as _, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Parser as _;
use kube::{Client, Config};
use load_controller::{
    api,
    controller::{self, metrics::Metrics},
    http,
    key::Key,
    lease::Election,
    resource::crd,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::args::{Args, Command, Run};

mod args;

/// How long the API server may take to accept a connection, and to answer what is no watch.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// How long it may take to give the Lease up, and to let answers go that are under way.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// From one attempt to have the controller's key to the next.
const KEY_RETRY: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Run(run) => start(&run),
        Command::Crd { kind: Some(kind) } => print(&kind.yaml()),
        Command::Crd { kind: None } => print(&crd::Kind::ALL.map(crd::Kind::yaml).join("---\n")),
        Command::Version => print(concat!("load-controller ", env!("CARGO_PKG_VERSION"), "\n")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error),
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("failed to write to standard output")
}

#[expect(clippy::print_stderr, reason = "the one place where an error is shown")]
fn complain(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

fn start(run: &Run) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&run.log)
        .with_context(|| format!("expected a log filter such as `info`, found `{}`", run.log))?;
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).with_writer(std::io::stderr).init();
    // A load test keeps a connection for each worker.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    // Its work is to wait; one thread more than one keeps metrics quick while a large report is made.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.context("failed to start")?.block_on(serve(run))
}

async fn serve(run: &Run) -> anyhow::Result<()> {
    let mut config = Config::infer().await.context("expected a pod's service account or KUBECONFIG")?;
    config.connect_timeout = Some(CONNECT_PATIENCE);
    let client = Client::try_from(config).context("failed to make a client of the API server")?;
    let (metrics, workers) = (Metrics::default(), api::Client::default());
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(stop_on_signal(stop.clone())?);

    let listener =
        TcpListener::bind(run.listen).await.with_context(|| format!("failed to listen on {}", run.listen))?;
    tracing::info!(address = %run.listen, "metrics are served");
    let router = http::router(metrics.clone());
    let until = stop.clone().cancelled_owned();
    tasks.spawn(async move {
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(until).await {
            tracing::error!(%error, "metrics are not served any more");
        }
    });

    Leadership { run, client, metrics, workers }.exercise(&stop).await;
    stop.cancel();
    // Whoever still reads an answer gets a moment for it.
    drop(timeout(END_PATIENCE, async { while tasks.join_next().await.is_some() {} }).await);
    Ok(())
}

/// Leads whenever it is elected.
struct Leadership<'a> {
    run: &'a Run,
    client: Client,
    metrics: Metrics,
    workers: api::Client,
}

impl Leadership<'_> {
    async fn exercise(&self, stop: &CancellationToken) {
        if !self.run.leader_election {
            self.look_after(stop.child_token()).await;
            return;
        }
        let mut election = Election::new(&self.client, &self.run.namespace, &self.run.identity);
        while !stop.is_cancelled() {
            tokio::select! {
                () = election.win() => {}
                () = stop.cancelled() => break,
            }
            let term = stop.child_token();
            tokio::select! {
                () = self.look_after(term.clone()) => {}
                // Dropping the work stops it at once: another controller may act from now on.
                () = election.hold() => {}
            }
            term.cancel();
            self.metrics.leader.set(0);
            drop(timeout(END_PATIENCE, election.resign()).await);
        }
    }

    /// The controller's key; tries until it has it, for without it there are no tokens.
    async fn key(&self) -> Key {
        loop {
            match controller::key::of_namespace(&self.client, &self.run.namespace).await {
                Ok(key) => return key,
                Err(error) => tracing::error!(%error, "the controller has no key, and does nothing without it"),
            }
            tokio::time::sleep(KEY_RETRY).await;
        }
    }

    async fn look_after(&self, stop: CancellationToken) {
        self.metrics.leader.set(1);
        let settings = self.run.settings();
        let (client, metrics) = (self.client.clone(), self.metrics.clone());
        let key = tokio::select! {
            key = self.key() => key,
            () = stop.cancelled() => return,
        };
        controller::run::run(client, key, &settings, metrics, self.workers.clone(), stop).await;
        self.metrics.leader.set(0);
    }
}

/// Cancels `stop` at SIGTERM or Ctrl-C.
fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to await SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to await Ctrl-C")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("Ctrl-C: stopping"),
        }
        stop.cancel();
    })
}
