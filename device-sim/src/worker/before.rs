//! What earlier workers in this place had counted, until a reader tells that their books are closed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use fleet_contract::{
    stats::{Epoch, Stats},
    time::Micros,
};

use crate::{engine::Engine, record, state};

/// The file beside the plan that keeps them, in case that this worker is killed, too.
const NAME: &str = "before.json";

/// So many are told; the oldest are left out when a worker dies again and again and nobody reads it.
const EPOCHS_MAX: usize = 64;

/// The epochs before this one that were not read to their end.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// `None` where nothing is kept.
    path: Option<PathBuf>,
    epochs: Vec<Epoch>,
}

impl Before {
    /// Those that are kept in `folder`, and those whose records were found there, for the process that began at `epoch`, whose
    /// devices are those of `engine`.
    pub(super) fn find(folder: &Path, found: record::Epochs, engine: &Engine, epoch: Micros) -> io::Result<Self> {
        let path = folder.join(NAME);
        let mut epochs: Vec<Epoch> = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let run = engine.plan().run;
        for (began, records) in found {
            let is_known = epochs.iter().any(|known| known.epoch >= began);
            if is_known || records.iter().any(|record| record.run != run) {
                continue;
            }
            let mut sum = Stats::default();
            for record in &records {
                sum.merge(&record.stats);
                if !record.is_drained {
                    sum.add_unrecorded(&engine.unrecorded_after(record, epoch));
                }
            }
            let at = records.iter().map(|record| record.at).min().unwrap_or(began);
            let is_drained = records.iter().all(|record| record.is_drained);
            epochs.push(Epoch { epoch: began, at, is_drained, stats: sum });
        }
        epochs.drain(..epochs.len().saturating_sub(EPOCHS_MAX));
        let before = Self { path: Some(path), epochs };
        // Kept before the records go: whoever comes next finds one or the other.
        before.save()?;
        record::remove_others(folder, epoch)?;
        Ok(before)
    }

    /// The epochs, the oldest first.
    pub(super) fn epochs(&self) -> &[Epoch] {
        &self.epochs
    }

    /// Forgets those up to `ended`, whose books are closed.
    pub(super) fn forget(&mut self, ended: Micros) {
        let known = self.epochs.len();
        self.epochs.retain(|epoch| epoch.epoch > ended);
        if self.epochs.len() < known
            && let Err(error) = self.save()
        {
            // They are told once more than needed.
            tracing::warn!(%error, "closed books stay in {NAME}");
        }
    }

    fn save(&self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        state::replace(path, &self.epochs)
    }
}
