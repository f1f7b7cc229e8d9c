//! The process that holds the cluster between `up` and `down`.
//!
//! It is the same program in a session of its own. It holds the cluster as a test does, so that the cluster ends with
//! it, whatever ends it, and there is one way to clean up. A lock says whether it runs; a file says how to reach what it
//! holds.

use std::{
    fs::{self, File, TryLockError},
    io::{BufRead, BufReader, Read},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::{consts::SIGTERM, low_level::pipe};
use tests::{
    eventually,
    kubernetes::{
        Client, Cluster,
        cluster::{NodePatience, Settings},
    },
    project,
};

/// What the keeper prints once the cluster is up.
const READY: &str = "ready";

/// How long everything may take to be gone.
const PATIENCE: Duration = Duration::from_mins(1);

/// Which cluster to hold
#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    nodes: u8,
    /// The archive of the images that its nodes have
    #[arg(long)]
    images: PathBuf,
}

/// Holds a cluster until SIGTERM.
pub(super) fn keep(args: &Args) -> Result<()> {
    let lock = lock()?;
    lock.try_lock().map_err(|_| anyhow!("another keeper runs"))?;
    let (mut told, signal) = UnixStream::pair()?;
    pipe::register(SIGTERM, signal)?;
    let settings = Settings { nodes: args.nodes, images: vec![args.images.clone()], patience: NodePatience::Default };
    let cluster = Cluster::start(&settings)?;
    let (process, init) = (std::process::id(), cluster.control_plane().network().init());
    fs::write(state(), format!("{process}\n{init}\n{}\n", cluster.client().kubeconfig().display()))?;
    println!("{READY}");
    told.read_exact(&mut [0])?;
    fs::remove_file(state())?;
    Ok(())
}

/// Starts the keeper and awaits that its cluster is up.
pub(super) fn start(nodes: u8, images: &Path) -> Result<()> {
    fs::create_dir_all(home())?;
    let log = home().join("keeper.log");
    let mut command = Command::new("setsid");
    command.arg(std::env::current_exe()?).args(["cluster", "keep", "--nodes"]).arg(nodes.to_string());
    command.arg("--images").arg(images);
    let mut keeper = command
        .current_dir(project::root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(&log)?)
        .spawn()
        .context("setsid does not start")?;
    let stdout = keeper.stdout.take().context("the output was not captured")?;
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    let is_ready = lines.any(|line| line == READY);
    ensure!(is_ready, "the cluster does not start: {}", fs::read_to_string(&log)?.trim());
    Ok(())
}

/// Ends the keeper, and awaits that nothing of its cluster is left.
pub(super) fn stop() -> Result<()> {
    let process = fields()?.context("the cluster is still starting; its keeper's log is .cache/cluster/keeper.log")?;
    let process = process.process.parse().ok().and_then(Pid::from_raw).context("the keeper's number is not known")?;
    kill_process(process, Signal::TERM)?;
    eventually("the cluster is gone", PATIENCE, || Ok((!is_running()?).then_some(())))
}

/// Whether one runs: it holds the lock until it ends, however it ends.
pub(super) fn is_running() -> Result<bool> {
    match lock()?.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error).context("the keeper's lock cannot be asked"),
    }
}

/// The administrator of its cluster; `None` when there is none.
pub(super) fn client() -> Result<Option<Client>> {
    let Some(State { init, kubeconfig, .. }) = fields()? else {
        return Ok(None);
    };
    Ok(Some(Cluster::attach(init.parse()?, kubeconfig.into())?))
}

/// How to reach the keeper and what it holds.
struct State {
    process: String,
    init: String,
    kubeconfig: String,
}

fn fields() -> Result<Option<State>> {
    // A keeper that was killed leaves its file behind.
    if !is_running()? || !state().is_file() {
        return Ok(None);
    }
    let text = fs::read_to_string(state())?;
    let mut lines = text.lines().map(str::to_owned);
    let mut next = || lines.next().context("the keeper's file is incomplete");
    Ok(Some(State { process: next()?, init: next()?, kubeconfig: next()? }))
}

fn home() -> PathBuf {
    project::cache().join("cluster")
}

fn state() -> PathBuf {
    home().join("state")
}

fn lock() -> Result<File> {
    fs::create_dir_all(home())?;
    let mut options = File::options();
    options.create(true).truncate(false).write(true).open(home().join("lock")).context("no lock in .cache/cluster")
}
