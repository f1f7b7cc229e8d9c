//! What long work is at: whoever does it says so, and whoever waits for it shows it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What some work is at; clones are of the same work.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<Stage>>);

#[derive(Debug, Default)]
struct Stage {
    what: String,
    unit: &'static str,
    done: u32,
}

impl Progress {
    /// A stage begins, such as `compiles Kubernetes`, in which units such as `packages` can be counted.
    pub fn begin(&self, what: impl Into<String>, unit: &'static str) {
        *self.stage() = Stage { what: what.into(), unit, done: 0 };
    }

    /// One more unit of the stage is done.
    pub fn count(&self) {
        self.stage().done += 1;
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Progress {
    /// The stage, and how much of it is done if anything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = self.stage();
        f.write_str(if stage.what.is_empty() { "starts" } else { &stage.what })?;
        if stage.done > 0 { write!(f, ", {} {} so far", stage.done, stage.unit) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_counts_from_nothing() {
        let progress = Progress::default();
        assert_eq!(progress.to_string(), "starts");
        progress.begin("compiles Kubernetes", "packages");
        assert_eq!(progress.to_string(), "compiles Kubernetes");
        progress.count();
        progress.clone().count();
        assert_eq!(progress.to_string(), "compiles Kubernetes, 2 packages so far");
        progress.begin("compiles Helm", "packages");
        assert_eq!(progress.to_string(), "compiles Helm");
    }
}
