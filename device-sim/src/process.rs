//! A worker's process: its log, its API, and what ends it.
//!
//! On SIGTERM, or when its parent is gone, a worker drains: it offers nothing more, lets every message settle and
//! disconnects its devices. Its final statistics are served until somebody has pulled them, at most five seconds.

mod ending;

use std::{sync::Arc, time::Duration};

use anstream::{AutoStream, ColorChoice};
use anyhow::Context as _;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{interval, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    api,
    args::{Args, LogFormat, Settings, TOKEN_VARIABLE, TokenFiles, Tokens},
    engine::Options,
    reload::{Files, LOOK},
    worker::Worker,
};
use ending::{Ending, Endings};

/// How long answers that are under way may take when the worker ends.
const ANSWERS_PATIENCE: Duration = Duration::from_secs(1);

/// Runs a worker until it is told to end.
///
/// Errs when what was typed cannot be meant, the API cannot listen, or the assignment of `--assignment` is wrong.
pub fn run(args: Args) -> anyhow::Result<()> {
    start_log(&args.log, args.log_format)?;
    let settings = Settings::new(args, std::env::var(TOKEN_VARIABLE).ok().as_deref())?;
    // A device is an open file, and the soft limit is often far below what the system would allow.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("failed to start")?;
    runtime.block_on(serve(settings))
}

fn start_log(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .with_context(|| format!("expected a log filter such as `info`, found `{filter}`"))?;
    let has_colours = AutoStream::choice(&std::io::stderr()) != ColorChoice::Never;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(has_colours).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    // Whoever runs a worker inside a larger program may have a log already.
    started.unwrap_or_else(|_| tracing::debug!("the log was started before"));
    Ok(())
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let Settings {
        listen,
        tokens,
        token_files,
        given,
        state,
        records,
        threads,
        engine,
        sources,
        allowed_brokers,
        with_parent,
    } = settings;
    let mut endings = Endings::watch(with_parent)?;
    let options = Options {
        kind: engine,
        threads,
        sources,
        allowed_brokers,
        records,
        ends_with_drain: with_parent,
        ..Options::default()
    };
    let worker = Arc::new(Worker::new(options, state));
    let listener = api::Listener::bind(&listen).await?;
    tracing::info!(api = %listener.address(), "the worker listens");
    let stop = CancellationToken::new();
    let tokens = tokens.map(watch::Sender::new);
    let current = tokens.as_ref().map(watch::Sender::subscribe);
    let mut looks = JoinSet::new();
    if let (Some(tokens), Some(files)) = (tokens, token_files) {
        looks.spawn(follow_tokens(files, tokens));
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(listener.serve(api::router(Arc::clone(&worker), &listen, current), stop.clone()));
    let ending = tokio::select! {
        ending = endings.next() => ending,
        refusal = worker.run_given(given) => return Err(refusal.into()),
    };
    tracing::info!(reason = ending.name(), "the worker drains");
    tokio::select! {
        () = worker.finish(ending != Ending::ParentGone) => {}
        again = endings.next() => tracing::warn!(reason = again.name(), "the worker ends at once"),
    }
    stop.cancel();
    let ended = timeout(ANSWERS_PATIENCE, tasks.join_next()).await;
    if let Ok(Some(served)) = ended {
        served.context("the API was cut off")?.context("the API has failed")?;
    }
    Ok(())
}

/// Takes changed tokens over, so that a controller with a new key reaches the worker without a restart of its pod.
async fn follow_tokens(paths: TokenFiles, tokens: watch::Sender<Tokens>) {
    let mut files = Files::new(paths.paths());
    let mut looks = interval(LOOK);
    loop {
        match paths.read() {
            Ok(changed) => drop(tokens.send_replace(changed)),
            Err(error) => tracing::warn!(%error, "the changed token cannot be used; the old one stays in use"),
        }
        looks.tick().await;
        while !files.have_changed() {
            looks.tick().await;
        }
    }
}
