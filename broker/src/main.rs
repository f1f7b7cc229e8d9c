//! The broker as a program: flags, logs, metrics over HTTP, signals, exit code.

use std::process::ExitCode;

use anstream::{AutoStream, ColorChoice};
use anyhow::Context;
use broker::{Broker, LOG_DIRECTIVE, endpoints};
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use crate::args::{Args, Settings};

mod args;

/// Wrong flags or configuration; clap uses the same.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = log(&args.log) {
        return complain(&error, ExitCode::from(USAGE));
    }
    match args.settings() {
        Err(error) => complain(&error, ExitCode::from(USAGE)),
        Ok(settings) => match start(settings) {
            Err(error) => complain(&error, ExitCode::FAILURE),
            Ok(()) => ExitCode::SUCCESS,
        },
    }
}

#[expect(clippy::print_stderr, reason = "the one place where an error is shown")]
fn complain(error: &anyhow::Error, code: ExitCode) -> ExitCode {
    eprintln!("error: {error:#}");
    code
}

fn log(filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter)
        .and_then(|_| EnvFilter::try_new(format!("{filter},{LOG_DIRECTIVE}")))
        .with_context(|| format!("--log: {filter:?} is no filter"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(AutoStream::choice(&std::io::stderr()) != ColorChoice::Never)
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}

fn start(settings: Settings) -> anyhow::Result<()> {
    raise_open_files(settings.broker.limits.connections as u64);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(run(settings))
}

/// Every connection is an open file; the soft limit is often 1,024.
fn raise_open_files(connections: u64) {
    let needed = connections + 512;
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit < needed => {
            warn!(limit, needed, "fewer open files are allowed than there may be connections; see `ulimit -Hn`");
        }
        Ok(_) => {}
        Err(error) => warn!(%error, "cannot raise the limit of open files"),
    }
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let broker = Broker::bind(settings.broker)?;
    let mut services = JoinSet::new();
    services.spawn(stop_on_signal(stop.clone())?);
    if let Some(address) = settings.metrics {
        let listener =
            TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} (--metrics)"))?;
        let address = listener.local_addr().context("metrics listener")?;
        info!(url = %format_args!("http://{address}/metrics"), "metrics are served");
        let app = endpoints(broker.metrics(), stop.clone());
        let until = stop.clone().cancelled_owned();
        services.spawn(async move {
            if let Err(error) = axum::serve(listener, app).with_graceful_shutdown(until).await {
                error!(%error, "metrics are not served any more");
            }
        });
    }
    let outcome = broker.run(stop.clone()).await;
    stop.cancel();
    services.shutdown().await;
    Ok(outcome?)
}

/// Cancels `stop` at Ctrl-C or SIGTERM.
fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot await SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot await Ctrl-C")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: stopping"),
            _ = interrupt.recv() => info!("Ctrl-C: stopping"),
        }
        stop.cancel();
    })
}
