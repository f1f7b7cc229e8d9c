//! Network, mount and PID namespaces of a test's own, which end with the test whatever becomes of it.
//!
//! Process 1 of a sandbox reads from a pipe that only the test's process can write to. When the test ends, be it by a
//! SIGKILL, the pipe is closed, process 1 exits, and the kernel ends whatever runs in its namespaces and removes their
//! networks and mounts. A shell outside of them, which no signal of a terminal reaches, then removes the sandbox's
//! directory and its control groups.
//!
//! A sandbox reaches nothing: it has a loopback interface and what its owner adds. Only root can make one.

use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    os::{fd::AsFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{command, debian::Packages, eventually, project};

/// How long everything inside may take to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// Outlives the sandbox `$1` (the script of process 1), to remove its directory `$2` and its control groups named `$3`.
/// A group that has just lost its last process is busy for a moment.
const SUPERVISOR: &str = r#"
trap '' HUP INT TERM
unshare --net --mount --pid --fork --kill-child --propagation private bash -c "$1" bash "$3"
rm -rf --one-file-system -- "$2"
for try in $(seq 50); do
    groups=$(find /sys/fs/cgroup -mindepth 1 -maxdepth 2 -type d -name "$3" 2>/dev/null) || true
    [ -n "$groups" ] || break
    find $groups -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
done
"#;

/// Process 1: says which number it has outside, and lives until the other end of its input is closed. It is bash that
/// reaps what others leave behind meanwhile.
const INIT: &str = r#"
set -eu
read -r number _ < /proc/self/stat
mount -t proc proc /proc
ip link set lo up
echo "$number"
read -r _ || true
"#;

/// Distinguishes the sandboxes of one process.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Namespaces with processes in them.
pub struct Sandbox {
    /// Named in messages, directories and control groups.
    name: String,
    supervisor: Child,
    /// What process 1 reads; `None` once it was told to end.
    lifeline: Option<ChildStdin>,
    /// Process 1, as it is numbered outside.
    init: u32,
    packages: Packages,
}

/// The network of a sandbox, which ends with it.
#[derive(Clone, Debug)]
pub struct Network {
    init: u32,
    packages: Packages,
}

impl Sandbox {
    /// Whether this machine lets us make one.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn check() -> Result<()> {
        ensure!(rustix::process::geteuid().is_root(), "only root can make network namespaces with routes between them");
        let probe = ["--net", "--mount", "--pid", "--fork", "--propagation", "private", "true"];
        command::run(Command::new("unshare").args(probe)).context("the kernel refuses namespaces")?;
        Ok(())
    }

    /// Makes one in which `packages` can be used.
    ///
    /// # Errors
    /// When the kernel refuses, see [`Sandbox::check`].
    pub fn start(purpose: &str, packages: &Packages) -> Result<Sandbox> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{purpose}-{}-{number}", std::process::id());
        let (state, logs) = (state_of(&name), logs_of(&name));
        sweep_logs()?;
        fs::create_dir_all(&state)?;
        fs::create_dir_all(&logs)?;
        let mut command = packages.command("bash");
        command.args(["-c", SUPERVISOR, "bash", INIT]).arg(state).arg(control_group(&name));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(logs.join("sandbox.log"))?);
        // A group of its own: Ctrl-C in a terminal ends the test, and thereby everything in here, in that order.
        let mut supervisor = command.process_group(0).spawn().context("bash does not start")?;
        let lifeline = supervisor.stdin.take();
        let mut line = String::new();
        BufReader::new(supervisor.stdout.take().context("the output was not captured")?).read_line(&mut line)?;
        let init = line.trim().parse().ok().with_context(|| {
            let says = fs::read_to_string(logs.join("sandbox.log")).unwrap_or_default();
            format!("no namespaces for {name}: {}", says.trim())
        })?;
        Ok(Sandbox { name, supervisor, lifeline, init, packages: packages.clone() })
    }

    /// Its directory, outside of it and inside; removed with it.
    pub fn state(&self) -> PathBuf {
        state_of(&self.name)
    }

    /// The directory for the logs of what runs in it; kept until the next test.
    pub fn logs(&self) -> PathBuf {
        logs_of(&self.name)
    }

    /// The name of the control groups that are removed with it, directly below each hierarchy's root.
    pub fn control_group(&self) -> String {
        control_group(&self.name)
    }

    /// Process 1, as it is numbered outside.
    pub fn init(&self) -> u32 {
        self.init
    }

    /// Its network, for commands that run outside of it for the rest.
    pub fn network(&self) -> Network {
        Network { init: self.init, packages: self.packages.clone() }
    }

    /// `command`, to be run wholly inside. Its program and libraries are found among the packages; it ends with the
    /// sandbox, and not with the process that is started here.
    pub fn inside(&self, command: &Command) -> Command {
        // Entering other mounts leads to their root, so the directory is entered afterwards.
        let dir = command.get_current_dir().unwrap_or(Path::new("/"));
        let mut within = Command::new("env");
        within.arg("--chdir").arg(dir);
        let mut command = command::wrap(within, command);
        command.current_dir("/");
        enter(self.init, &["--net", "--mount", "--pid"], &self.packages, &command)
    }

    /// Runs a program inside to its end.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        command::text(&mut self.inside(Command::new(program).args(args)))
    }

    /// Ends everything inside, as when power fails, and awaits that nothing of it is left.
    pub fn end(&mut self) -> Result<()> {
        self.lifeline = None;
        eventually(&format!("{} has ended", self.name), PATIENCE, || Ok(self.supervisor.try_wait()?)).map(drop)
    }
}

impl Network {
    /// That of a sandbox whose process 1 has that number.
    pub fn of(init: u32, packages: Packages) -> Network {
        Network { init, packages }
    }

    /// `command`, to be run in this network: for the rest it sees what we see, and is our child.
    pub fn enter(&self, command: &Command) -> Command {
        enter(self.init, &["--net"], &self.packages, command)
    }

    /// A listener in this network. A socket stays in the network that it was made in, whoever uses it.
    ///
    /// # Errors
    /// When the sandbox has ended, or the address is none of this network.
    pub fn listen(&self, address: SocketAddr) -> Result<TcpListener> {
        self.within(|| Ok(TcpListener::bind(address)?)).with_context(|| format!("listen on {address}"))
    }

    /// Runs `act` in this network, as do the threads that it starts.
    ///
    /// # Errors
    /// When the sandbox has ended, or `act` fails.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let network = File::open(format!("/proc/{}/ns/net", self.init)).context("the sandbox has ended")?;
        // Only a thread of its own enters, and it ends in there.
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
                act()
            });
            inside.join().unwrap_or_else(|_| bail!("the thread panicked"))
        })
    }

    /// Process 1 of the sandbox, as it is numbered outside.
    pub fn init(&self) -> u32 {
        self.init
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.end().is_err() {
            // It hangs. Its supervisor is left to clean up, whenever that becomes possible.
            drop(fs::write(self.logs().join("hangs"), ""));
        }
    }
}

fn enter(init: u32, namespaces: &[&str], packages: &Packages, command: &Command) -> Command {
    let mut nsenter = Command::new("nsenter");
    nsenter.arg("--target").arg(init.to_string()).args(namespaces).arg("--");
    packages.show(&mut nsenter);
    command::wrap(nsenter, command)
}

fn state_of(name: &str) -> PathBuf {
    project::cache().join("run").join(name)
}

fn logs() -> PathBuf {
    project::cache().join("logs")
}

fn logs_of(name: &str) -> PathBuf {
    logs().join(name)
}

fn control_group(name: &str) -> String {
    format!("simctl-{name}")
}

/// Removes the logs of processes that have ended, but not what a failed test before this one left to be read: the
/// last process's logs are removed when the next one starts its first sandbox.
fn sweep_logs() -> Result<()> {
    let Ok(entries) = fs::read_dir(logs()) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        if owner(&path).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            // Another process may sweep at the same time.
            drop(fs::remove_dir_all(path));
        }
    }
    Ok(())
}

/// The process in `PURPOSE-PROCESS-NUMBER`.
fn owner(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.rsplit('-').nth(1)?.parse().ok()
}

/// Where a sandbox's own mounts would hide the project from it.
///
/// # Errors
/// Names the directory.
pub fn ensure_project_is_outside_of(dirs: &[&str]) -> Result<()> {
    let place = env::current_dir()?.join(project::root());
    let hidden = dirs.iter().find(|dir| place.starts_with(dir));
    ensure!(hidden.is_none(), "the project lies in {}, where a node mounts its own", hidden.unwrap_or(&""));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_log_is_in_its_name() {
        assert_eq!(owner(Path::new("/logs/control-plane-4711-0")), Some(4711));
        assert_eq!(owner(Path::new("/logs/other")), None);
    }
}
