//! Files that are read again when they change: passwords, certificates, the token of the API.
//!
//! Kubelet brings a changed Secret by swapping a symbolic link above its files, so contents are compared, not times.
//! The files are looked at once a second by a thread of their own: no CONNECT waits for a disk.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError, SyncSender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// From one look at the files to the next.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// Files, and what they held at the last look. The contents are never shown.
#[derive(Clone, Default)]
pub(crate) struct Files {
    paths: Vec<PathBuf>,
    last: Vec<Result<Vec<u8>, io::ErrorKind>>,
}

impl Files {
    /// Takes the first look at `paths`. Call it before the files are read, so that no change is missed.
    pub(crate) fn new(paths: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        let mut files = Self { paths: paths.into_iter().map(Into::into).collect(), last: Vec::new() };
        files.have_changed();
        files
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Whether a file holds something else than at the last look, or cannot be read for another reason.
    pub(crate) fn have_changed(&mut self) -> bool {
        let now: Vec<_> = self.paths.iter().map(|path| fs::read(path).map_err(|error| error.kind())).collect();
        let have_changed = now != self.last;
        self.last = now;
        have_changed
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Files").field(&self.paths).finish()
    }
}

/// Why changed files are not taken over; what was read before stays in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unusable {
    /// The name of the reason, as metrics have it.
    pub(crate) reason: &'static str,
    /// The reason for people.
    pub(crate) error: String,
}

impl Unusable {
    /// The system does not let the file be read.
    pub(crate) fn io(kind: io::ErrorKind, error: impl fmt::Display) -> Self {
        let reason = match kind {
            io::ErrorKind::NotFound => "not_found",
            io::ErrorKind::PermissionDenied => "permission_denied",
            _ => "unreadable",
        };
        Self { reason, error: error.to_string() }
    }

    /// The file holds nothing.
    pub(crate) fn empty(error: impl fmt::Display) -> Self {
        Self { reason: "empty", error: error.to_string() }
    }

    /// The file holds something else.
    pub(crate) fn invalid(error: impl fmt::Display) -> Self {
        Self { reason: "invalid", error: error.to_string() }
    }
}

/// Files, and how their content is taken over when it has changed.
pub(crate) struct Reload {
    /// What the files hold, for the log.
    pub(crate) what: &'static str,
    pub(crate) files: Files,
    pub(crate) read: Box<dyn FnMut() -> Result<(), Unusable> + Send>,
}

impl Reload {
    /// Takes over what has changed since the last look; an error is told once for each change.
    fn look(&mut self) -> Result<bool, Unusable> {
        if !self.files.have_changed() {
            return Ok(false);
        }
        (self.read)().map(|()| true)
    }
}

/// How often changed files could not be taken over, by reason.
pub(crate) type Failures = BTreeMap<String, u64>;

/// Looks at the files of an engine until it is dropped. Without files there is no thread.
#[derive(Debug, Default)]
pub(crate) struct Reloader {
    failures: Arc<Mutex<Failures>>,
    running: Option<(SyncSender<()>, JoinHandle<()>)>,
}

impl Reloader {
    /// Starts to look.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn start(reloads: Vec<Reload>) -> io::Result<Self> {
        if reloads.is_empty() {
            return Ok(Self::default());
        }
        let failures: Arc<Mutex<Failures>> = Arc::default();
        let (stop, stopped) = mpsc::sync_channel(0);
        let counted = Arc::clone(&failures);
        let run = move || look_until(&stopped, reloads, &counted);
        let thread = thread::Builder::new().name("reload".into()).spawn(run)?;
        Ok(Self { failures, running: Some((stop, thread)) })
    }

    /// How often changed files could not be taken over, by reason.
    pub(crate) fn failures(&self) -> Failures {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Reloader {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            if thread.join().is_err() {
                tracing::error!("the thread that reads changed files has panicked");
            }
        }
    }
}

fn look_until(stopped: &mpsc::Receiver<()>, mut reloads: Vec<Reload>, failures: &Mutex<Failures>) {
    while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        for reload in &mut reloads {
            let what = reload.what;
            match reload.look() {
                Ok(false) => {}
                Ok(true) => tracing::info!("the next CONNECT uses the changed {what}"),
                Err(Unusable { reason, error }) => {
                    tracing::warn!(reason, error, "the changed {what} cannot be used; the old one stays in use");
                    let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
                    *failures.entry(reason.into()).or_default() += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::symlink,
        path::Path,
        sync::atomic::{AtomicU32, Ordering::Relaxed},
    };

    use super::*;

    /// Makes `content` the file `password` of a volume as kubelet does: a new folder, and a link that is renamed.
    fn swap(volume: &Path, name: &str, content: &str) {
        let folder = volume.join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("password"), content).unwrap();
        symlink(name, volume.join("..data_tmp")).unwrap();
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    }

    #[test]
    fn a_change_of_the_volume_is_seen_once() {
        let volume = tempfile::tempdir().unwrap();
        swap(volume.path(), "..one", "old");
        symlink("..data/password", volume.path().join("password")).unwrap();
        let mut files = Files::new([volume.path().join("password")]);
        assert!(!files.have_changed());
        swap(volume.path(), "..two", "new");
        assert!(files.have_changed());
        assert!(!files.have_changed());
    }

    #[test]
    fn a_file_that_is_gone_is_told_once_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        fs::write(&path, "old").unwrap();
        let reads = Arc::new(AtomicU32::new(0));
        let (file, count) = (path.clone(), Arc::clone(&reads));
        let read = move || {
            count.fetch_add(1, Relaxed);
            fs::read(&file).map(drop).map_err(|error| Unusable::io(error.kind(), &error))
        };
        let mut reload = Reload { what: "password", files: Files::new([path.clone()]), read: Box::new(read) };
        assert_eq!(reload.look(), Ok(false));
        fs::remove_file(&path).unwrap();
        assert_eq!(reload.look().unwrap_err().reason, "not_found");
        assert_eq!(reload.look(), Ok(false));
        fs::write(&path, "new").unwrap();
        assert_eq!(reload.look(), Ok(true));
        assert_eq!(reads.load(Relaxed), 2);
    }

    #[test]
    fn contents_are_not_printed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "secret").unwrap();
        let shown = format!("{:?}", Files::new([path]));
        assert!(shown.contains("/file") && !shown.contains("115"), "{shown}");
    }
}
