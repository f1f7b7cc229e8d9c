//! One output stream of a child: kept in a file, and announced line by line to whoever waits.

use std::{
    fmt, fs,
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// What a failure shows of a log.
const TAIL_LINES: usize = 30;

/// Which output of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// What it computed.
    Stdout,
    /// What it says about its work.
    Stderr,
}

/// A thread copies the stream into a file; it ends with the stream, that is when the last process that holds the
/// other end has ended.
pub(super) struct Capture {
    path: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Default)]
struct Seen {
    /// Everything that came, a test's output and therefore small.
    text: Vec<u8>,
    /// Where the next awaited line starts.
    next: usize,
    has_ended: bool,
}

/// Why a line was not seen.
pub(super) enum Missed {
    Ended,
    TimedOut(Duration),
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missed::Ended => f.write_str("ended its output without the awaited line"),
            Missed::TimedOut(within) => {
                write!(f, "did not print the awaited line within {within:?}")
            }
        }
    }
}

impl Capture {
    pub(super) fn start(stream: impl Read + Send + 'static, path: PathBuf) -> Result<Capture> {
        let file = File::create(&path).with_context(|| format!("{} cannot be written", path.display()))?;
        let shared = Arc::new(Shared::default());
        let copier = Arc::clone(&shared);
        thread::Builder::new().name("capture".to_owned()).spawn(move || copier.copy(stream, file))?;
        Ok(Capture { path, shared })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn text(&self) -> Result<String> {
        let bytes = fs::read(&self.path).with_context(|| format!("{} is not readable", self.path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The last lines, for a failure's message.
    pub(super) fn tail(&self) -> String {
        let seen = self.shared.lock();
        let text = String::from_utf8_lossy(&seen.text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    pub(super) fn wait_for_line(&self, within: Duration, wanted: impl Fn(&str) -> bool) -> Result<String, Missed> {
        let deadline = Instant::now() + within;
        let mut seen = self.shared.lock();
        loop {
            while let Some(line) = seen.next_line() {
                if wanted(&line) {
                    return Ok(line);
                }
            }
            if seen.has_ended {
                return Err(Missed::Ended);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Missed::TimedOut(within));
            }
            seen = self.shared.wait(seen, left);
        }
    }

    /// Awaits the end of the stream, but no longer than `within`: a grandchild may keep it open.
    pub(super) fn wait_for_end(&self, within: Duration) {
        let deadline = Instant::now() + within;
        let mut seen = self.shared.lock();
        while !seen.has_ended && Instant::now() < deadline {
            seen = self.shared.wait(seen, deadline.saturating_duration_since(Instant::now()));
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, seen: MutexGuard<'a, Seen>, within: Duration) -> MutexGuard<'a, Seen> {
        self.changed.wait_timeout(seen, within).unwrap_or_else(PoisonError::into_inner).0
    }

    fn copy(&self, mut stream: impl Read, mut file: File) {
        let mut buffer = [0; 16 * 1024];
        loop {
            let count = match stream.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => 0,
            };
            // The file is for people; a full disk must not hide the lines from the test.
            drop(file.write_all(&buffer[..count]));
            let mut seen = self.lock();
            seen.text.extend_from_slice(&buffer[..count]);
            seen.has_ended = count == 0;
            self.changed.notify_all();
            if count == 0 {
                return;
            }
        }
    }
}

impl Seen {
    /// The next complete line, or the unfinished last one of a stream that has ended.
    fn next_line(&mut self) -> Option<String> {
        let rest = &self.text[self.next..];
        let end = match rest.iter().position(|&byte| byte == b'\n') {
            Some(end) => end + 1,
            None if self.has_ended && !rest.is_empty() => rest.len(),
            None => return None,
        };
        let line = String::from_utf8_lossy(&rest[..end]).trim_end().to_owned();
        self.next += end;
        Some(line)
    }
}
