//! Where passwords come from: files and the environment of the process that needs them, never a document.

use std::{env, fs, io};

use fleet_contract::fleet::Credentials;

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

/// The password that credentials name, if they name one; white space at the end of a file does not count.
pub fn password(credentials: &Credentials) -> Result<Option<Vec<u8>>, PasswordError> {
    let Credentials { username: _, password_file, password_env, secret_name: _ } = credentials;
    match (password_file, password_env) {
        (Some(file), _) => {
            let text = fs::read_to_string(file).map_err(|source| PasswordError::File { file: file.clone(), source })?;
            Ok(Some(text.trim_end().as_bytes().to_vec()))
        }
        (None, Some(name)) => match env::var(name) {
            Ok(value) => Ok(Some(value.into_bytes())),
            Err(_) => Err(PasswordError::Variable(name.clone())),
        },
        (None, None) => Ok(None),
    }
}
