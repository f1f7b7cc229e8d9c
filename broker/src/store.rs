//! What outlives the process: one file with the retained messages and the sessions that clients want kept.
//!
//! It is written at an orderly end and taken away when it is read. So a broker that is killed begins with nothing, and
//! never with a state from before: with identifiers that clients have used anew since, a `QoS` 2 message would be taken
//! for a repetition and lost.
//!
//! JSON, so that a person can look: payloads are in base64.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rumqttc::QoS;
use serde::{Deserialize, Serialize};

/// The file in the folder.
const STATE: &str = "sessions.json";

/// Held while a broker runs: two in one folder would write over each other.
const LOCK: &str = "lock";

/// Written and removed at the start, so that a full volume is known before there are sessions to lose.
const PROBE: &str = "probe";

/// How much room there has to be at the start, in bytes: the sessions and queues of some hundred clients.
const ROOM_BYTES: usize = 1 << 20;

/// The layout below. A broker reads no other.
const FORMAT: u32 = 1;

/// Why the state of a broker cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the folder.
    #[error("another broker keeps its sessions in {0}; give each broker a folder of its own (--data)")]
    InUse(PathBuf),
    /// The system refused.
    #[error("cannot {verb} {path}")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not one of this broker.
    #[error(
        "{path}: expected the sessions of a broker, format {FORMAT}, found {found}; move it away to begin with none"
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        found: String,
    },
}

/// The folder of a broker.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    /// Unlocked when it is dropped, also by the end of the process.
    _lock: File,
}

/// All that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    format: u32,
    /// Oldest first.
    pub(crate) retained: Vec<KeptMessage>,
    pub(crate) sessions: Vec<KeptSession>,
}

/// A message and how it is to be delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptMessage {
    pub(crate) topic: String,
    #[serde(with = "base64_text")]
    pub(crate) payload: Bytes,
    #[serde(with = "number")]
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
}

/// A subscription as it was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptSubscription {
    pub(crate) filter: String,
    #[serde(with = "number")]
    pub(crate) qos: QoS,
}

/// What a message in flight waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeptWaiting {
    Puback(KeptMessage),
    Pubrec(KeptMessage),
    Pubcomp,
}

/// A session without the client (MQTT 3.1.1, 4.1).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptSession {
    pub(crate) client_id: String,
    /// By filter.
    pub(crate) subscriptions: Vec<KeptSubscription>,
    pub(crate) queue: Vec<KeptMessage>,
    pub(crate) in_flight: Vec<(u16, KeptWaiting)>,
    pub(crate) last_id: u16,
    pub(crate) unreleased: Vec<u16>,
}

impl Kept {
    pub(crate) fn new(retained: Vec<KeptMessage>, sessions: Vec<KeptSession>) -> Kept {
        Kept { format: FORMAT, retained, sessions }
    }
}

impl Store {
    /// Takes the folder, which is made if it is missing.
    pub(crate) fn open(folder: &Path) -> Result<Store, StoreError> {
        let failed = |verb, source| StoreError::Io { verb, path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(|source| failed("make the folder", source))?;
        let lock = File::create(folder.join(LOCK)).map_err(|source| failed("write to the folder", source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(StoreError::InUse(folder.to_owned())),
            Err(fs::TryLockError::Error(source)) => return Err(failed("lock the folder", source)),
        }
        probe(&folder.join(PROBE)).map_err(|source| failed("write 1 MiB to the folder", source))?;
        Ok(Store { folder: folder.to_owned(), _lock: lock })
    }

    /// What the last broker left behind, if it left anything. It is still there until it is [forgotten](Self::forget).
    pub(crate) fn read(&self) -> Result<Option<Kept>, StoreError> {
        let path = self.folder.join(STATE);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Io { verb: "read", path, source }),
        };
        match serde_json::from_reader::<_, Kept>(BufReader::new(file)) {
            Ok(kept) if kept.format == FORMAT => Ok(Some(kept)),
            Ok(kept) => Err(StoreError::Content { path, found: format!("format {}", kept.format) }),
            Err(error) => Err(StoreError::Content { path, found: error.to_string() }),
        }
    }

    /// Removes what was read.
    pub(crate) fn forget(&self) -> Result<(), StoreError> {
        let path = self.folder.join(STATE);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::Io { verb: "remove", path, source })
            }
            _ => Ok(()),
        }
    }

    /// Writes everything, or leaves nothing.
    pub(crate) fn write(&self, kept: &Kept) -> Result<(), StoreError> {
        let (path, fresh) = (self.folder.join(STATE), self.folder.join(format!("{STATE}.new")));
        let written = write(&fresh, kept).and_then(|()| fs::rename(&fresh, &path));
        written.map_err(|source| {
            drop(fs::remove_file(&fresh));
            StoreError::Io { verb: "write", path, source }
        })
    }
}

/// Writes as much as a start needs, and removes it.
fn probe(path: &Path) -> io::Result<()> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(&vec![0; ROOM_BYTES])?;
        file.sync_all()
    });
    fs::remove_file(path)?;
    written
}

fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    serde_json::to_writer(&mut file, kept)?;
    file.flush()?;
    file.into_inner()?.sync_all()
}

/// Payloads are any bytes.
mod base64_text {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(payload: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(payload))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD.decode(text).map(Bytes::from).map_err(D::Error::custom)
    }
}

/// A quality of service as 0, 1 or 2.
mod number {
    use rumqttc::{QoS, mqttbytes};
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(qos: &QoS, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u8(*qos as u8)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<QoS, D::Error> {
        let found = u8::deserialize(from)?;
        mqttbytes::qos(found).map_err(|_| D::Error::custom(format!("expected a qos of 0, 1 or 2, found {found}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        let message = |payload: &'static [u8], qos| KeptMessage {
            topic: "rooms/é".into(),
            payload: Bytes::from_static(payload),
            qos,
            retain: qos == QoS::AtMostOnce,
        };
        let session = KeptSession {
            client_id: "client".into(),
            subscriptions: vec![KeptSubscription { filter: "rooms/#".into(), qos: QoS::ExactlyOnce }],
            queue: vec![message(&[0, 255], QoS::ExactlyOnce)],
            in_flight: vec![
                (7, KeptWaiting::Puback(message(b"a", QoS::AtLeastOnce))),
                (8, KeptWaiting::Pubrec(message(b"b", QoS::ExactlyOnce))),
                (9, KeptWaiting::Pubcomp),
            ],
            last_id: 9,
            unreleased: vec![1, 65_535],
        };
        Kept::new(vec![message(b"retained", QoS::AtMostOnce)], vec![session])
    }

    #[test]
    fn what_is_written_is_read_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("deep/er")).unwrap();
        assert_eq!(store.read().unwrap(), None);
        store.write(&kept()).unwrap();
        assert_eq!(store.read().unwrap(), Some(kept()));
        store.forget().unwrap();
        store.forget().unwrap();
        assert_eq!(store.read().unwrap(), None);
    }

    #[test]
    fn a_folder_belongs_to_one_broker() {
        let folder = tempfile::tempdir().unwrap();
        let first = Store::open(folder.path()).unwrap();
        assert!(matches!(Store::open(folder.path()), Err(StoreError::InUse(_))));
        drop(first);
        Store::open(folder.path()).unwrap();
    }

    #[test]
    fn a_file_of_something_else_is_refused_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let message = r#"{"topic": "a", "payload": "", "qos": 3, "retain": true}"#;
        for (text, found) in [
            (r#"{"format": 2, "retained": [], "sessions": []}"#.to_owned(), "format 2"),
            (format!(r#"{{"format": 1, "retained": [{message}], "sessions": []}}"#), "found 3"),
            ("{".to_owned(), "EOF"),
        ] {
            fs::write(folder.path().join(STATE), text).unwrap();
            let error = store.read().unwrap_err().to_string();
            assert!(error.contains(found) && error.contains("move it away"), "{error}");
            assert!(folder.path().join(STATE).exists());
        }
    }

    #[test]
    fn what_cannot_be_written_leaves_no_half() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        // Something is in the way that no file replaces.
        fs::create_dir_all(folder.path().join(STATE).join("full")).unwrap();
        let error = store.write(&kept()).unwrap_err().to_string();
        assert!(error.contains(STATE), "{error}");
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [LOCK, STATE]);
    }
}
