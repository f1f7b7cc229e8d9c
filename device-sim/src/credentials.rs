//! Where passwords come from: files and the environment of the process that needs them, never a document.

use std::{
    env, fs, io,
    sync::{Arc, PoisonError, RwLock},
};

use fleet_contract::fleet::Credentials;

use crate::reload::{Files, Reload, Unusable};

/// Why there is no password though credentials name one.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Its file cannot be read.
    #[error("expected a password in the file {file}: {source}")]
    File {
        /// The file.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// Its environment variable is not set.
    #[error("expected a password in the environment variable {0}, which is not set")]
    Variable(String),
}

/// The password that credentials name, if they name one. It is binary data (MQTT-3.1.3.5): all bytes of a file but for a
/// byte order mark in front and one line end behind, which editors and shells put there.
pub fn password(credentials: &Credentials) -> Result<Option<Vec<u8>>, PasswordError> {
    let Credentials { username: _, password_file, password_env, secret_name: _ } = credentials;
    match (password_file, password_env) {
        (Some(file), _) => read(file).map(Some),
        (None, Some(name)) => match env::var(name) {
            Ok(value) => Ok(Some(value.into_bytes())),
            Err(_) => Err(PasswordError::Variable(name.clone())),
        },
        (None, None) => Ok(None),
    }
}

fn read(file: &str) -> Result<Vec<u8>, PasswordError> {
    let bytes = fs::read(file).map_err(|source| PasswordError::File { file: file.into(), source })?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let bytes = bytes.strip_suffix(b"\n").map_or(bytes, |line| line.strip_suffix(b"\r").unwrap_or(line));
    Ok(bytes.to_vec())
}

/// A password that a change of its file replaces. Never shown.
pub(crate) struct Password {
    current: RwLock<Arc<[u8]>>,
    /// Its file, as it was before it was read.
    file: Option<(String, Files)>,
}

impl Password {
    /// The password that credentials name, if they name one.
    pub(crate) fn of(credentials: &Credentials) -> Result<Option<Arc<Self>>, PasswordError> {
        let file = credentials.password_file.as_ref().map(|file| (file.clone(), Files::new([file])));
        let current = password(credentials)?;
        Ok(current.map(|current| Arc::new(Self { current: RwLock::new(current.into()), file })))
    }

    /// The password that a CONNECT of now has.
    pub(crate) fn get(&self) -> Arc<[u8]> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How a change of its file is taken over; `None` where the password is from no file.
    pub(crate) fn reload(self: &Arc<Self>) -> Option<Reload> {
        let (file, files) = self.file.clone()?;
        let password = Arc::clone(self);
        let read = move || {
            let changed = read(&file).map_err(|error| match &error {
                PasswordError::File { source, .. } => Unusable::io(source.kind(), &error),
                PasswordError::Variable(_) => Unusable::invalid(&error),
            })?;
            // An empty file is most likely one that is being written.
            if changed.is_empty() {
                return Err(Unusable::empty(format_args!("expected a password in the file {file}, found nothing")));
            }
            *password.current.write().unwrap_or_else(PoisonError::into_inner) = changed.into();
            Ok(())
        };
        Some(Reload { what: "password", files, read: Box::new(read) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_file(content: &str) -> (tempfile::NamedTempFile, Arc<Password>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        let password_file = Some(file.path().display().to_string());
        let credentials = Credentials { username: "a".into(), password_file, password_env: None, secret_name: None };
        let password = Password::of(&credentials).unwrap().unwrap();
        (file, password)
    }

    #[test]
    fn a_changed_file_replaces_the_password() {
        let (file, password) = of_file("old\n");
        let mut reload = password.reload().unwrap();
        assert!(!reload.files.have_changed());
        fs::write(file.path(), "new\n").unwrap();
        assert!(reload.files.have_changed());
        assert_eq!((reload.read)(), Ok(()));
        assert_eq!(&*password.get(), b"new");
    }

    #[test]
    fn a_password_is_the_bytes_of_its_file_but_for_one_line_end() {
        for (content, expected) in [
            (&b"secret "[..], &b"secret "[..]),
            (b"secret \n", b"secret "),
            (b"secret\r\n", b"secret"),
            (b"secret\n\n", b"secret\n"),
            (b"\xef\xbb\xbfsecret", b"secret"),
            (b"\xff\x00", b"\xff\x00"),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), content).unwrap();
            assert_eq!(read(&file.path().display().to_string()).unwrap(), expected);
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_keeps_the_old_password() {
        let (file, password) = of_file("old");
        let mut reload = password.reload().unwrap();
        fs::write(file.path(), "\n").unwrap();
        assert_eq!((reload.read)().unwrap_err().reason, "empty");
        file.close().unwrap();
        assert_eq!((reload.read)().unwrap_err().reason, "not_found");
        assert_eq!(&*password.get(), b"old");
    }
}
