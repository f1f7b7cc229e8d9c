//! Where runs are found: one Unix socket each, in a directory that only its owner may enter.
//!
//! A run is called by its fleet's name and the id of its process: `robotaxis-4711.sock`.
//! A socket that nobody listens on was left by a process that died; whoever meets it removes it.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use tokio::net::{UnixListener, UnixStream};

/// The longest path of a Unix socket (`sun_path` of Linux, with its terminating zero).
const PATH_MAX: usize = 107;

/// A run that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Live {
    /// The fleet's name.
    pub(crate) fleet: String,
    /// The process.
    pub(crate) pid: u32,
    /// Its control socket.
    pub(crate) socket: PathBuf,
}

/// The place of a run that is about to start; what it made is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    socket: PathBuf,
    workers: PathBuf,
}

/// `$XDG_RUNTIME_DIR/simctl`, or `/tmp/simctl-UID` where there is none.
pub(crate) fn directory() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir()) {
        Some(runtime) => runtime.join("simctl"),
        None => std::env::temp_dir().join(format!("simctl-{}", rustix::process::getuid().as_raw())),
    }
}

/// Makes a directory that only its owner may enter; refuses one that belongs to somebody else.
fn private_directory(path: &Path) -> anyhow::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => {
            return Err(error).with_context(|| {
                format!(
                    "failed to make {}; set XDG_RUNTIME_DIR to a directory that you may write, or mount one there",
                    path.display()
                )
            });
        }
    }
    // Not `metadata`: a link that somebody planted must not be followed.
    let found = fs::symlink_metadata(path)?;
    ensure!(
        found.is_dir() && found.uid() == rustix::process::getuid().as_raw(),
        "expected {} to be a directory of yours, found somebody else's; remove it or set XDG_RUNTIME_DIR",
        path.display()
    );
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    Ok(())
}

impl Claim {
    /// The place of a run of `fleet` by this process.
    pub(crate) fn new(fleet: &str) -> anyhow::Result<Self> {
        Self::within(&directory(), fleet)
    }

    pub(super) fn within(directory: &Path, fleet: &str) -> anyhow::Result<Self> {
        private_directory(directory)?;
        remove_leftovers(directory);
        let name = format!("{fleet}-{}", std::process::id());
        let claim =
            Self { socket: directory.join(format!("{name}.sock")), workers: directory.join(format!("{name}.workers")) };
        ensure!(
            claim.worker_socket(u32::MAX).as_os_str().len() <= PATH_MAX,
            "expected a path of at most {PATH_MAX} bytes for a socket, found {}; set XDG_RUNTIME_DIR to a shorter one",
            claim.workers.display()
        );
        private_directory(&claim.workers)?;
        Ok(claim)
    }

    /// Listens on the control socket; it is its owner's alone.
    ///
    /// The socket gets its name once it listens: before that it refuses connections, as the socket of a dead run does,
    /// and [`list`] would remove it.
    pub(crate) fn listen(&self) -> anyhow::Result<UnixListener> {
        let unnamed = self.workers.join("control.sock");
        let listen = || {
            let listener = UnixListener::bind(&unnamed)?;
            fs::set_permissions(&unnamed, fs::Permissions::from_mode(0o600))?;
            fs::rename(&unnamed, &self.socket)?;
            Ok::<_, io::Error>(listener)
        };
        listen().with_context(|| format!("failed to listen on {}", self.socket.display()))
    }

    /// The folder in which worker `ordinal` records what it counts.
    pub(super) fn worker_records(&self, ordinal: u32) -> anyhow::Result<PathBuf> {
        let folder = self.workers.join(ordinal.to_string());
        private_directory(&folder)?;
        Ok(folder)
    }

    /// The socket of worker `ordinal`.
    pub(super) fn worker_socket(&self, ordinal: u32) -> PathBuf {
        self.workers.join(format!("{ordinal}.sock"))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        remove(&self.socket);
        drop(fs::remove_dir_all(&self.workers));
    }
}

/// Removes what runs have left here whose process is gone: they were killed, and could not. One that answers lives,
/// in another container perhaps, where processes have other numbers.
fn remove_leftovers(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let answers = || std::os::unix::net::UnixStream::connect(path.with_extension("sock")).is_ok();
        if process_of(&path).is_some_and(|pid| !is_alive(pid)) && !answers() {
            // A file or a folder, whichever it is.
            remove(&path);
            drop(fs::remove_dir_all(&path));
        }
    }
}

/// The process that a socket or a folder of sockets is called after.
fn process_of(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(".sock").or_else(|| name.strip_suffix(".workers"))?;
    name.rsplit_once('-')?.1.parse().ok()
}

/// Whether there is such a process, somebody else's included.
fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// Removes a file; that it is gone already is as good.
fn remove(path: &Path) {
    drop(fs::remove_file(path));
}

/// The runs that live, by name and process; removes what dead ones left.
pub(crate) async fn list() -> Vec<Live> {
    list_within(&directory()).await
}

async fn list_within(directory: &Path) -> Vec<Live> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut live = Vec::new();
    for socket in entries.flatten().map(|entry| entry.path()) {
        let Some((fleet, pid)) = parse(&socket) else { continue };
        match UnixStream::connect(&socket).await {
            Ok(_) => live.push(Live { fleet, pid, socket }),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                remove(&socket);
                drop(fs::remove_dir_all(socket.with_extension("workers")));
            }
            Err(_) => {}
        }
    }
    live.sort_by(|a, b| (&a.fleet, a.pid).cmp(&(&b.fleet, b.pid)));
    live
}

/// `robotaxis-4711.sock` is the fleet `robotaxis` in process 4711.
fn parse(socket: &Path) -> Option<(String, u32)> {
    let (fleet, pid) = socket.file_name()?.to_str()?.strip_suffix(".sock")?.rsplit_once('-')?;
    Some((fleet.into(), pid.parse().ok()?))
}

/// The run that is meant: the one called `wanted` (a fleet's name or a process id), or the only one.
pub(crate) async fn find(wanted: Option<&str>) -> anyhow::Result<Live> {
    choose(list().await, wanted)
}

fn choose(mut live: Vec<Live>, wanted: Option<&str>) -> anyhow::Result<Live> {
    if live.is_empty() {
        bail!("no fleet is running on this machine; start one with `simctl run`, in another terminal");
    }
    let names: Vec<String> = live.iter().map(|run| format!("{} (process {})", run.fleet, run.pid)).collect();
    if let Some(wanted) = wanted {
        live.retain(|run| run.fleet == wanted || wanted.parse() == Ok(run.pid));
    }
    match (live.pop(), live.len(), wanted) {
        (Some(run), 0, _) => Ok(run),
        (None, _, Some(wanted)) => bail!("no fleet called `{wanted}` is running; running: {}", names.join(", ")),
        _ => bail!("several fleets are running: {}; choose one with --run NAME or --run PROCESS", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(fleet: &str, pid: u32) -> Live {
        Live { fleet: fleet.into(), pid, socket: PathBuf::new() }
    }

    #[track_caller]
    fn check(live: &[Live], wanted: Option<&str>, expected: &str) {
        let found = choose(live.to_vec(), wanted);
        assert_eq!(found.map_or_else(|error| error.to_string(), |run| run.pid.to_string()), expected);
    }

    /// A second terminal may ask at any moment, also while a run begins to listen.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_asks_takes_nothing_from_a_run_that_begins() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("simctl");
        let _claim = Claim::within(&place, "first").unwrap();
        let mut asking = tokio::task::JoinSet::<()>::new();
        asking.spawn({
            let place = place.clone();
            async move {
                loop {
                    list_within(&place).await;
                    tokio::task::yield_now().await;
                }
            }
        });
        for number in 0..2_000 {
            let claim = Claim::within(&place, &format!("next{number}")).unwrap();
            let _listener = claim.listen().unwrap();
            tokio::task::yield_now().await;
            assert!(claim.socket.exists() && claim.workers.exists());
        }
        asking.shutdown().await;
    }

    #[test]
    fn the_only_run_needs_no_name() {
        check(&[run("demo", 7)], None, "7");
        check(&[], None, "no fleet is running on this machine; start one with `simctl run`, in another terminal");
    }

    #[test]
    fn of_several_runs_one_is_chosen_by_name_or_process() {
        let live = [run("demo", 7), run("demo", 8), run("taxis", 9)];
        check(&live, Some("taxis"), "9");
        check(&live, Some("8"), "8");
        let several = "several fleets are running: demo (process 7), demo (process 8), taxis (process 9); \
                       choose one with --run NAME or --run PROCESS";
        check(&live, None, several);
        check(&live, Some("demo"), several);
        check(
            &live,
            Some("bus"),
            "no fleet called `bus` is running; running: demo (process 7), demo (process 8), taxis (process 9)",
        );
    }

    #[tokio::test]
    async fn what_killed_runs_have_left_goes_with_the_next_run() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("simctl");
        private_directory(&place).unwrap();
        // No process has the highest number there is: the kernel gives at most 2^22.
        let (dead, own) = (i32::MAX, std::process::id());
        for folder in [format!("demo-{dead}.workers"), format!("demo-{own}.workers"), "not-ours".into()] {
            fs::create_dir(place.join(folder)).unwrap();
        }
        for file in [format!("demo-{dead}.sock"), format!("demo-{dead}.workers/0.sock"), format!("two-{own}.sock")] {
            fs::write(place.join(file), "").unwrap();
        }
        let elsewhere = UnixListener::bind(place.join(format!("far-{dead}.sock"))).unwrap();
        let _claim = Claim::within(&place, "next").unwrap();
        assert!(place.join(format!("far-{dead}.sock")).exists(), "it answers");
        drop(elsewhere);
        // A program that another test starts holds the socket, too, until it is another program.
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        let _claim = loop {
            let claim = Claim::within(&place, "next").unwrap();
            if !place.join(format!("far-{dead}.sock")).exists() || tokio::time::Instant::now() > deadline {
                break claim;
            }
        };
        let mut left: Vec<_> = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        let next = format!("next-{own}.workers");
        assert_eq!(left, [&*format!("demo-{own}.workers"), &next, "not-ours", &format!("two-{own}.sock")]);
    }

    #[test]
    fn a_place_that_cannot_be_made_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let error = Claim::within(&directory.path().join("missing/simctl"), "demo").unwrap_err().to_string();
        assert!(error.starts_with("failed to make ") && error.contains("set XDG_RUNTIME_DIR"), "{error}");
    }

    #[tokio::test]
    async fn what_a_dead_run_left_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("simctl");
        let claim = Claim::within(&place, "demo").unwrap();
        let listener = claim.listen().unwrap();
        assert_eq!(list_within(&place).await.len(), 1);
        assert_eq!(fs::metadata(&claim.socket).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o700);
        drop(listener);
        assert_eq!(list_within(&place).await, []);
        assert!(!claim.socket.exists() && !claim.workers.exists());
    }
}
