//! Who may connect: a file of names and passwords.
//!
//! One `name:password` per line, in plain text, as Mosquitto reads it before `mosquitto_passwd -U`
//! hashes it. Blank lines and lines that start with `#` are skipped. The first colon ends the
//! name; everything after it, further colons and spaces included, is the password. Passwords are
//! UTF-8, in the file and in CONNECT.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

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
    /// A name occurs twice.
    #[error("{path}:{line}: the name occurs a second time")]
    Twice {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
    },
}

/// The outcome of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Welcome,
    /// No credentials at all.
    Anonymous,
    /// An unknown name, or not its password.
    Wrong,
}

/// Names and their passwords. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Users(HashMap<String, String>);

impl Users {
    /// Reads a file of `name:password` lines.
    pub fn read(path: &Path) -> Result<Self, UsersError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| UsersError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, UsersError> {
        let mut users = HashMap::new();
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
            let before = users.insert(name.to_owned(), password.to_owned());
            if before.is_some() {
                return Err(UsersError::Twice { path, line });
            }
        }
        Ok(Self(users))
    }

    pub(crate) fn judge(&self, login: Option<(&str, &str)>) -> Verdict {
        let Some((name, password)) = login else {
            return Verdict::Anonymous;
        };
        match self.0.get(name) {
            Some(expected) if is_same(expected.as_bytes(), password.as_bytes()) => Verdict::Welcome,
            _ => Verdict::Wrong,
        }
    }
}

impl<N: Into<String>, P: Into<String>> FromIterator<(N, P)> for Users {
    fn from_iter<I: IntoIterator<Item = (N, P)>>(users: I) -> Self {
        let owned = users.into_iter().map(|(n, p)| (n.into(), p.into()));
        Self(owned.collect())
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({})", self.0.len())
    }
}

/// Compares in a time that depends on the lengths alone, so that it does not tell how much of a
/// guess was right.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b));
    a.len() == b.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Users, String> {
        Users::parse(text, Path::new("users")).map_err(|error| error.to_string())
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
        assert!(parse("a:1\na:2").unwrap_err().starts_with("users:2: the name occurs"));
    }

    #[test]
    fn passwords_are_not_printed() {
        let users = parse("ada:secret").unwrap();
        assert_eq!(format!("{users:?}"), "Users(1)");
    }
}
