//! Who may connect: a file of names and passwords.
//!
//! One `name:password` per line, in plain text, as Mosquitto reads it before `mosquitto_passwd -U`
//! hashes it. Blank lines and lines that start with `#` are skipped. The first colon ends the
//! name; everything after it, further colons and spaces included, is the password. Passwords are
//! UTF-8, in the file and in CONNECT. A name with several lines has several passwords, so that a
//! password can change while some clients still have the old one.
//!
//! A second file may say `true` or `false`: whether clients without credentials are admitted, too.
//! Both files are looked at once a second. A change holds from the next CONNECT on.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use subtle::{Choice, ConstantTimeEq as _};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::Metrics;

/// From one look at the files to the next.
const LOOK: Duration = Duration::from_secs(1);

/// Why a file of users cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// The file cannot be read.
    #[error("cannot read the users file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A line is not `name:password`.
    #[error("{path}:{line}: expected name:password")]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
    },
    /// A line holds a hash that `mosquitto_passwd` made.
    #[error(
        "{path}:{line}: the password is hashed by mosquitto_passwd; this broker needs it in plain \
         text, in a file that only its owner can read (chmod 600)"
    )]
    Hashed {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
    },
    /// A changed file holds no user: most likely it is being written.
    #[error("{path}: expected name:password, found no user")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The second file says neither.
    #[error("{path}: expected `true` or `false`: whether clients without credentials are admitted")]
    Anonymous {
        /// The file.
        path: PathBuf,
    },
}

impl UsersError {
    const fn label(&self) -> &'static str {
        match self {
            Self::Read { .. } => "unreadable",
            Self::Empty { .. } => "empty",
            Self::Line { .. } | Self::Hashed { .. } | Self::Anonymous { .. } => "invalid",
        }
    }
}

/// The outcome of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Welcome,
    /// No credentials, which suffices now.
    Guest,
    /// No credentials, which does not suffice.
    Anonymous,
    /// An unknown name, or not its password.
    Wrong,
}

/// Names and their passwords. Never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Users {
    passwords: HashMap<String, Vec<String>>,
    /// Whether clients without credentials are admitted.
    is_open: bool,
    files: Files,
}

/// Where users are read from; a list of the embedding process has no files.
#[derive(Clone, Default, PartialEq, Eq)]
struct Files {
    users: Option<PathBuf>,
    anonymous: Option<PathBuf>,
}

impl Users {
    /// Reads a file of `name:password` lines; a running broker takes its changes over.
    pub fn read(path: &Path) -> Result<Self, UsersError> {
        let passwords = parse(&text_of(path)?, path)?;
        Ok(Self { passwords, is_open: false, files: Files { users: Some(path.to_owned()), anonymous: None } })
    }

    /// The same users, and clients without credentials while the file at `path` says `true`.
    pub fn or_anonymous(self, path: &Path) -> Result<Self, UsersError> {
        let is_open = match text_of(path)?.trim() {
            "true" => true,
            "false" => false,
            _ => return Err(UsersError::Anonymous { path: path.to_owned() }),
        };
        Ok(Self { is_open, files: Files { anonymous: Some(path.to_owned()), ..self.files }, ..self })
    }

    /// What the files hold now; `None` without files.
    fn read_again(&self) -> Result<Option<Self>, UsersError> {
        let Some(path) = &self.files.users else { return Ok(None) };
        let users = Self::read(path)?;
        if users.passwords.is_empty() {
            return Err(UsersError::Empty { path: path.clone() });
        }
        match &self.files.anonymous {
            Some(path) => users.or_anonymous(path).map(Some),
            None => Ok(Some(users)),
        }
    }

    pub(crate) fn judge(&self, login: Option<(&str, &str)>) -> Verdict {
        let Some((name, password)) = login else {
            return if self.is_open { Verdict::Guest } else { Verdict::Anonymous };
        };
        let expected = self.passwords.get(name).map(Vec::as_slice).unwrap_or_default();
        // In a time that depends on the lengths alone, so that it does not tell how much of a guess was right.
        let is_right = |right: Choice, expected: &String| right | expected.as_bytes().ct_eq(password.as_bytes());
        if bool::from(expected.iter().fold(Choice::from(0), is_right)) { Verdict::Welcome } else { Verdict::Wrong }
    }
}

fn text_of(path: &Path) -> Result<String, UsersError> {
    std::fs::read_to_string(path).map_err(|source| UsersError::Read { path: path.to_owned(), source })
}

fn parse(text: &str, path: &Path) -> Result<HashMap<String, Vec<String>>, UsersError> {
    let mut users: HashMap<String, Vec<String>> = HashMap::new();
    for (index, entry) in text.lines().enumerate() {
        let (path, line) = (path.to_owned(), index + 1);
        if entry.trim().is_empty() || entry.starts_with('#') {
            continue;
        }
        let Some((name, password)) = entry.split_once(':').filter(|(name, _)| !name.is_empty()) else {
            return Err(UsersError::Line { path, line });
        };
        if password.starts_with("$6$") || password.starts_with("$7$") {
            return Err(UsersError::Hashed { path, line });
        }
        users.entry(name.to_owned()).or_default().push(password.to_owned());
    }
    Ok(users)
}

impl<N: Into<String>, P: Into<String>> FromIterator<(N, P)> for Users {
    fn from_iter<I: IntoIterator<Item = (N, P)>>(users: I) -> Self {
        let owned = users.into_iter().map(|(name, password)| (name.into(), vec![password.into()]));
        Self { passwords: owned.collect(), ..Self::default() }
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({})", self.passwords.len())
    }
}

/// The users of a running broker.
#[derive(Debug)]
pub(crate) struct Door {
    users: RwLock<Users>,
    /// Cancelled, and replaced, when clients without credentials are no longer admitted.
    guests: Mutex<CancellationToken>,
}

impl Door {
    pub(crate) fn new(users: Users) -> Self {
        Self { users: RwLock::new(users), guests: Mutex::default() }
    }

    /// Judges a login. A guest gets a token that is cancelled when guests have to leave.
    pub(crate) fn judge(&self, login: Option<(&str, &str)>) -> (Verdict, Option<CancellationToken>) {
        // Held over both, so that no guest gets a token after the guests were told to leave.
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        let verdict = users.judge(login);
        let is_guest = verdict == Verdict::Guest;
        (verdict, is_guest.then(|| self.guests.lock().unwrap_or_else(PoisonError::into_inner).clone()))
    }

    /// Takes the changes of the files over, for ever. A file that cannot be used changes nothing, and is told once.
    pub(crate) async fn follow(&self, metrics: &Metrics) {
        let mut told = None;
        loop {
            sleep(LOOK).await;
            let current = self.users.read().unwrap_or_else(PoisonError::into_inner).clone();
            let before = current.clone();
            let Ok(read) = spawn_blocking(move || current.read_again()).await else { continue };
            match read {
                Ok(None) => return,
                Ok(Some(users)) => {
                    told = None;
                    if users != before {
                        info!(?users, anonymous = users.is_open, "the users have changed");
                        self.replace(users);
                    }
                }
                Err(error) => {
                    let text = error.to_string();
                    if told.as_ref() != Some(&text) {
                        metrics.users_unusable.with_label_values(&[error.label()]).inc();
                        warn!(error = text, "the changed users cannot be used; those before still hold");
                        told = Some(text);
                    }
                }
            }
        }
    }

    fn replace(&self, users: Users) {
        let is_open = users.is_open;
        let mut current = self.users.write().unwrap_or_else(PoisonError::into_inner);
        *current = users;
        if !is_open {
            std::mem::take(&mut *self.guests.lock().unwrap_or_else(PoisonError::into_inner)).cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Users, String> {
        let passwords = super::parse(text, Path::new("users")).map_err(|error| error.to_string())?;
        Ok(Users { passwords, ..Users::default() })
    }

    #[test]
    fn a_user_needs_its_own_password() {
        let users = parse("# people\n\nada:secret\nbob:with:colon \n").unwrap();
        assert_eq!(users.judge(Some(("ada", "secret"))), Verdict::Welcome);
        assert_eq!(users.judge(Some(("bob", "with:colon "))), Verdict::Welcome);
        assert_eq!(users.judge(Some(("ada", "secre"))), Verdict::Wrong);
        assert_eq!(users.judge(Some(("eve", ""))), Verdict::Wrong);
        assert_eq!(users.judge(None), Verdict::Anonymous);
    }

    #[test]
    fn a_line_that_cannot_be_used_is_named() {
        assert_eq!(parse("ada").unwrap_err(), "users:1: expected name:password");
        assert_eq!(parse("a:1\n:2").unwrap_err(), "users:2: expected name:password");
        assert!(parse("a:$7$101$x").unwrap_err().starts_with("users:1: the password is hashed"));
    }

    #[test]
    fn a_name_may_have_several_passwords() {
        let users = parse("ada:old\nada:new\n").unwrap();
        assert_eq!(users.judge(Some(("ada", "old"))), Verdict::Welcome);
        assert_eq!(users.judge(Some(("ada", "new"))), Verdict::Welcome);
        assert_eq!(users.judge(Some(("ada", "other"))), Verdict::Wrong);
    }

    #[test]
    fn a_file_says_whether_credentials_are_needed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
            folder.path().join(name)
        };
        let users = Users::read(&path("users", "ada:secret\n")).unwrap();
        let switch = path("anonymous", "true\n");
        let users = users.or_anonymous(&switch).unwrap();
        assert_eq!(users.judge(None), Verdict::Guest);
        assert_eq!(users.judge(Some(("ada", "wrong"))), Verdict::Wrong);
        path("anonymous", "false");
        assert_eq!(users.read_again().unwrap().unwrap().judge(None), Verdict::Anonymous);
        path("anonymous", "maybe");
        assert_eq!(users.read_again().unwrap_err().label(), "invalid");
        path("users", "");
        assert_eq!(users.read_again().unwrap_err().label(), "empty");
    }

    #[test]
    fn guests_have_to_leave_when_the_door_closes() {
        let door = Door::new(Users { is_open: true, ..Users::default() });
        let (verdict, leaves) = door.judge(None);
        assert_eq!(verdict, Verdict::Guest);
        let leaves = leaves.unwrap();
        door.replace(Users { is_open: true, ..Users::default() });
        assert!(!leaves.is_cancelled());
        door.replace(Users::default());
        assert!(leaves.is_cancelled());
        assert_eq!(door.judge(None).0, Verdict::Anonymous);
    }

    #[test]
    fn passwords_are_not_printed() {
        let users = parse("ada:secret").unwrap();
        assert_eq!(format!("{users:?}"), "Users(1)");
    }
}
