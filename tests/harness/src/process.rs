//! A child process: its output, its signals, its end, each awaited with a deadline.

use std::{
    fmt, fs,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal},
};

use crate::{
    cores::{self, Core},
    usage::{self, Cpu, Memory},
};

mod output;

use output::Capture;
pub use output::Stream;
pub use rustix::process::Signal;

/// A running child whose output is captured in files; killed on drop, it alone and none of its children.
pub struct Process {
    name: String,
    child: Child,
    /// Names the process even after its number was given to another one.
    handle: OwnedFd,
    stdout: Capture,
    stderr: Capture,
}

impl Process {
    /// Starts `command`, capturing what it prints in `logs/NAME.stdout` and `logs/NAME.stderr`.
    ///
    /// # Errors
    /// When the command cannot be started or the files cannot be written.
    pub fn spawn(name: &str, command: &mut Command, logs: &Path) -> Result<Process> {
        Process::start(name, command, logs, |command| Ok(command.spawn()?))
    }

    /// As [`Process::spawn`], on one core.
    pub fn spawn_on(core: Core, name: &str, command: &mut Command, logs: &Path) -> Result<Process> {
        Process::start(name, command, logs, |command| cores::spawn_on(core, command))
    }

    fn start(
        name: &str,
        command: &mut Command,
        logs: &Path,
        spawn: impl FnOnce(&mut Command) -> Result<Child>,
    ) -> Result<Process> {
        fs::create_dir_all(logs).with_context(|| format!("{} cannot be made", logs.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            spawn(command).with_context(|| format!("{name}: {} does not start", command.get_program().display()))?;
        let stdout = child.stdout.take().context("the output was not captured")?;
        let stderr = child.stderr.take().context("the output was not captured")?;
        let log = |stream| logs.join(format!("{name}.{stream}"));
        Ok(Process {
            name: name.to_owned(),
            handle: pidfd_open(pid(&child)?, PidfdFlags::empty())?,
            stdout: Capture::start(stdout, log("stdout"))?,
            stderr: Capture::start(stderr, log("stderr"))?,
            child,
        })
    }

    /// What it was called at its start.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything printed to `stream` so far.
    pub fn output(&self, stream: Stream) -> Result<String> {
        self.capture(stream).text()
    }

    /// The file that holds what is printed to `stream`.
    pub fn log(&self, stream: Stream) -> PathBuf {
        self.capture(stream).path().to_path_buf()
    }

    /// Awaits the next line on `stream` that `wanted` accepts, and returns it.
    ///
    /// A line is seen once: a second call looks only at the lines after the one that the first returned.
    ///
    /// # Errors
    /// When no such line came `within` the deadline or before the process closed the stream; the message shows
    /// the end of what it printed.
    pub fn wait_for_line(&self, stream: Stream, within: Duration, wanted: impl Fn(&str) -> bool) -> Result<String> {
        self.capture(stream).wait_for_line(within, wanted).map_err(|missed| self.complain(&missed))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        pidfd_send_signal(self.handle.as_fd(), signal)
            .with_context(|| format!("{} (process {}) cannot be signalled", self.name, self.pid()))
    }

    /// Awaits the end.
    ///
    /// # Errors
    /// When the process still runs after `within`; it is left running.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        while !self.has_ended(deadline.saturating_duration_since(Instant::now()))? {
            if Instant::now() >= deadline {
                return Err(self.complain(&format_args!("still runs after {within:?}")));
            }
        }
        let status = self.child.wait()?;
        // What a process printed last arrives before its end is reported, unless a child of it prints on.
        self.stdout.wait_for_end(Duration::from_secs(1));
        self.stderr.wait_for_end(Duration::from_secs(1));
        Ok(status)
    }

    /// # Errors
    /// When the process has ended; the message shows the end of what it printed.
    pub fn ensure_running(&self) -> Result<()> {
        if self.has_ended(Duration::ZERO)? {
            // Its last words say why.
            self.stdout.wait_for_end(Duration::from_secs(1));
            self.stderr.wait_for_end(Duration::from_secs(1));
            return Err(self.complain(&"has ended too early"));
        }
        Ok(())
    }

    /// Asks for the end with SIGTERM and awaits it.
    pub fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(within)
    }

    /// Ends it with SIGKILL and awaits that.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::KILL)?;
        self.wait(Duration::from_secs(10))
    }

    /// CPU time of the process and all its living descendants.
    pub fn cpu(&self) -> Result<Cpu> {
        usage::cpu_of_tree(self.pid())
    }

    /// Memory of the process and all its living descendants.
    pub fn memory(&self) -> Result<Memory> {
        usage::memory_of_tree(self.pid())
    }

    /// Whether the process has ended, waiting up to `within` for it.
    fn has_ended(&self, within: Duration) -> Result<bool> {
        let timeout = Timespec::try_from(within)?;
        let mut ready = [PollFd::new(&self.handle, PollFlags::IN)];
        match poll(&mut ready, Some(&timeout)) {
            Ok(count) => Ok(count > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error).context("a process cannot be awaited"),
        }
    }

    fn capture(&self, stream: Stream) -> &Capture {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
    }

    fn complain(&self, what: &dyn fmt::Display) -> anyhow::Error {
        anyhow!(
            "{} (process {}): {what}\n--- stdout ends\n{}\n--- stderr ends\n{}",
            self.name,
            self.pid(),
            self.stdout.tail(),
            self.stderr.tail()
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn pid(child: &Child) -> Result<Pid> {
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
        bail!("{} is no process number", child.id());
    };
    Ok(pid)
}
