//! What a shard had counted when its process died, in files beside the plan: a successor tells the reader.
//!
//! A reader asks for readings seconds apart; what a process has counted since is gone with it. So each shard writes its
//! counters, without times, into a file of its own, 50 ms at the latest after something has changed and before it sends
//! anything more. There are two files, written in turn, each with a number and a checksum, so that one of them is always
//! whole. Nothing is synced: what was written outlives the process, and the machine takes the volume along anyway.
//!
//! | bytes | content |
//! | --- | --- |
//! | 0–3 | CRC-32 of what follows |
//! | 4–7 | length of the record |
//! | 8–15 | its number, which grows |
//! | 16– | the [`Record`] as JSON |
//!
//! Whole numbers are little-endian.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use flate2::Crc;
use fleet_contract::{
    format::{self, Format},
    stats::Stats,
    time::Micros,
};
use serde::{Deserialize, Serialize};

use crate::engine::Slots;

/// Bytes before the record.
const HEAD: usize = 16;

/// How the names of all such files end.
const EXTENSION: &str = "record";

/// What a shard has counted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// From which format on it is understood.
    pub(crate) format: Format,
    /// Which run it was.
    pub(crate) run: u32,
    /// The start of the process.
    pub(crate) epoch: Micros,
    /// The devices of the shard.
    pub(crate) slots: Slots,
    /// When it was recorded.
    pub(crate) at: Micros,
    /// What fell due up to here is counted.
    pub(crate) offered_until: Micros,
    /// Whether everybody had left, and every message was judged.
    pub(crate) is_drained: bool,
    /// The counters, without times and names of messages.
    pub(crate) stats: Stats,
}

/// The last record of each shard, by the epoch of its process.
pub(crate) type Epochs = BTreeMap<Micros, Vec<Record>>;

/// The two files of a shard.
#[derive(Debug)]
pub(crate) struct Files {
    both: [File; 2],
    number: u64,
    buffer: Vec<u8>,
}

impl Files {
    /// Makes the files of the shard whose first device is `first`.
    pub(crate) fn create(folder: &Path, epoch: Micros, first: u32) -> io::Result<Self> {
        let create = |turn: u8| {
            let path = folder.join(format!("{}-{first}-{turn}.{EXTENSION}", epoch.0));
            OpenOptions::new().create(true).truncate(true).write(true).open(path)
        };
        Ok(Self { both: [create(0)?, create(1)?], number: 0, buffer: Vec::new() })
    }

    /// Writes a record into the file whose turn it is.
    pub(crate) fn write(&mut self, record: &Record) -> io::Result<()> {
        self.number += 1;
        self.buffer.clear();
        self.buffer.resize(HEAD, 0);
        serde_json::to_writer(&mut self.buffer, record)?;
        let length = u32::try_from(self.buffer.len() - HEAD).map_err(io::Error::other)?;
        self.buffer[4..8].copy_from_slice(&length.to_le_bytes());
        self.buffer[8..HEAD].copy_from_slice(&self.number.to_le_bytes());
        let sum = checksum(&self.buffer[4..]);
        self.buffer[..4].copy_from_slice(&sum.to_le_bytes());
        self.both[usize::from(self.number.is_multiple_of(2))].write_all_at(&self.buffer, 0)
    }

    /// Forgets what was written, as far as the system lets it.
    pub(crate) fn clear(&self) {
        for file in &self.both {
            if let Err(error) = file.set_len(0) {
                tracing::error!(%error, "an old record stays");
            }
        }
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// The number of a record and the record, where the bytes hold one that is whole.
fn parse(bytes: &[u8]) -> Option<(u64, Record)> {
    let word = |from: usize| Some(u32::from_le_bytes(bytes.get(from..from + 4)?.try_into().ok()?));
    let end = HEAD + usize::try_from(word(4)?).ok()?;
    if checksum(bytes.get(4..end)?) != word(0)? {
        return None;
    }
    let number = u64::from_le_bytes(bytes.get(8..HEAD)?.try_into().ok()?);
    Some((number, format::read(&bytes[HEAD..end]).ok()?))
}

/// The last record of each shard of each epoch before `epoch`, by epoch; files that hold none are passed over.
pub(crate) fn read(folder: &Path, epoch: Micros) -> io::Result<Epochs> {
    let mut last: BTreeMap<(Micros, u32), (u64, Record)> = BTreeMap::new();
    for path in paths(folder)? {
        let Some((number, record)) = parse(&fs::read(path)?) else { continue };
        let key = (record.epoch, record.slots.first);
        if record.epoch < epoch && last.get(&key).is_none_or(|(known, _)| *known < number) {
            last.insert(key, (number, record));
        }
    }
    let mut epochs = Epochs::new();
    for ((epoch, _), (_, record)) in last {
        epochs.entry(epoch).or_default().push(record);
    }
    Ok(epochs)
}

/// When the processes before `epoch` began that have made files here, whether or not they came to write a record.
pub(crate) fn predecessors(folder: &Path, epoch: Micros) -> io::Result<BTreeSet<Micros>> {
    Ok(paths(folder)?.iter().filter_map(|path| begun(path)).filter(|begun| *begun < epoch).collect())
}

/// Removes all records but those of `epoch`.
pub(crate) fn remove_others(folder: &Path, epoch: Micros) -> io::Result<()> {
    paths(folder)?.into_iter().filter(|path| begun(path) != Some(epoch)).try_for_each(fs::remove_file)
}

/// When the process began that has made a file, by its name.
fn begun(path: &Path) -> Option<Micros> {
    path.file_name()?.to_str()?.split('-').next()?.parse().ok().map(Micros)
}

fn paths(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let paths: Vec<PathBuf> = entries.collect::<Result<_, _>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|it| it == EXTENSION)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(epoch: u64, first: u32, sent: u64) -> Record {
        let mut stats = Stats::default();
        stats.messages[1].sent = sent;
        let (epoch, at) = (Micros(epoch), Micros(epoch + sent));
        let slots = Slots { first, step: 2, end: 100 };
        Record { format: Format::FIRST, run: 7, epoch, slots, at, offered_until: at, is_drained: false, stats }
    }

    fn sent(folder: &Path) -> Vec<(u64, u32, u64)> {
        let epochs = read(folder, Micros(100)).unwrap();
        let of = |record: &Record| (record.epoch.0, record.slots.first, record.stats.messages[1].sent);
        epochs.values().flatten().map(of).collect()
    }

    #[test]
    fn the_last_record_of_each_shard_and_epoch_is_found() {
        let folder = tempfile::tempdir().unwrap();
        for (epoch, first) in [(5, 0), (5, 1), (9, 0), (100, 0)] {
            let mut files = Files::create(folder.path(), Micros(epoch), first).unwrap();
            for sent in 1..=4 + u64::from(first) {
                files.write(&record(epoch, first, 10 * sent)).unwrap();
            }
        }
        assert_eq!(sent(folder.path()), [(5, 0, 40), (5, 1, 50), (9, 0, 40)]);
        Files::create(folder.path(), Micros(12), 0).unwrap();
        let predecessors = |epoch| predecessors(folder.path(), Micros(epoch)).unwrap();
        assert_eq!(predecessors(100), [5, 9, 12].map(Micros).into());
        assert_eq!([predecessors(5), predecessors(9)], [[].into(), [Micros(5)].into()]);
        // Whose a file is does not depend on how its name writes the number.
        fs::rename(folder.path().join("9-0-1.record"), folder.path().join("09-0-1.record")).unwrap();
        assert_eq!(predecessors(100), [5, 9, 12].map(Micros).into());
        remove_others(folder.path(), Micros(9)).unwrap();
        assert_eq!(sent(folder.path()), [(9, 0, 40)]);
    }

    #[test]
    fn a_record_that_was_cut_off_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Files::create(folder.path(), Micros(5), 0).unwrap();
        for sent in 1..=3 {
            files.write(&record(5, 0, sent)).unwrap();
        }
        // The third one went where the first was.
        let path = folder.path().join("5-0-0.record");
        let whole = fs::read(&path).unwrap();
        for length in [0, 3, HEAD, HEAD + 1, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(sent(folder.path()), [(5, 0, 2)], "{length} bytes");
        }
        let mut broken = whole.clone();
        broken[HEAD + 30] ^= 1;
        fs::write(&path, broken).unwrap();
        assert_eq!(sent(folder.path()), [(5, 0, 2)]);
        fs::write(&path, whole).unwrap();
        assert_eq!(sent(folder.path()), [(5, 0, 3)]);
    }

    #[test]
    fn a_shorter_record_is_not_confused_by_what_is_left_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Files::create(folder.path(), Micros(5), 0).unwrap();
        for sent in [1_000_000, 2_000_000, 3] {
            files.write(&record(5, 0, sent)).unwrap();
        }
        assert_eq!(sent(folder.path()), [(5, 0, 3)]);
    }
}
