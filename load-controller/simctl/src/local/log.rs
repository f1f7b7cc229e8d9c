//! The last lines that a process writes to its standard error, for the error message when it fails.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::ChildStderr,
    task::JoinSet,
};

/// So many lines are kept.
const LINES: usize = 12;

/// The last lines of a process.
#[derive(Debug)]
pub(super) struct Log {
    lines: Arc<Mutex<VecDeque<String>>>,
    /// Ends with the process, whose end of the pipe closes.
    _reader: JoinSet<()>,
}

impl Log {
    /// Follows what it writes.
    pub(super) fn follow(stderr: Option<ChildStderr>) -> Self {
        let lines = Arc::<Mutex<VecDeque<String>>>::default();
        let mut reader = JoinSet::new();
        if let Some(stderr) = stderr {
            let kept = Arc::clone(&lines);
            reader.spawn(async move {
                let mut stderr = BufReader::new(stderr).lines();
                while let Ok(Some(line)) = stderr.next_line().await {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    if kept.len() == LINES {
                        kept.pop_front();
                    }
                    kept.push_back(line);
                }
            });
        }
        Self { lines, _reader: reader }
    }

    /// The lines as the end of an error message; nothing when there are none.
    pub(super) fn tail(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.is_empty() {
            return String::new();
        }
        let lines: Vec<_> = lines.iter().map(|line| format!("\n  {line}")).collect();
        format!("; it said:{}", lines.concat())
    }
}
