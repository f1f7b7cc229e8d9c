//! Quick questions to a cluster's API server, many a second: each is a request and no start of a program.
//!
//! `kubectl proxy` listens on a Unix socket, which is reached from every network, and shows the administrator's
//! certificate.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::{PATIENCE, client::Client};
use crate::process::{Process, Stream};

const MERGE_PATCH: &str = "application/merge-patch+json";

/// An answer that takes longer does not come.
const ANSWER: Duration = Duration::from_secs(20);

/// The API server, as the user of a [`Client`].
pub struct Api {
    // Dropped first: it listens in the directory.
    _proxy: Process,
    socket: PathBuf,
    _dir: TempDir,
}

impl Api {
    pub(super) fn start(client: &Client) -> Result<Api> {
        let dir = tempfile::tempdir()?;
        let socket = dir.path().join("api");
        let mut proxy = client.kubectl_command();
        proxy.args(["proxy", "--unix-socket"]).arg(&socket);
        let proxy = Process::spawn("proxy", &mut proxy, dir.path())?;
        proxy.wait_for_line(Stream::Stdout, PATIENCE, |line| line.contains("Starting to serve"))?;
        Ok(Api { _proxy: proxy, socket, _dir: dir })
    }

    /// What stands at `path`.
    ///
    /// # Errors
    /// When the API server says no, or says nothing within 20 s.
    pub fn get(&self, path: &str) -> Result<String> {
        self.ask("GET", path, MERGE_PATCH, "")
    }

    /// As [`Api::get`], of JSON.
    pub fn object(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.get(path)?)?)
    }

    /// Changes the object at `path` by a merge patch (RFC 7396).
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn patch(&self, path: &str, change: &Value) -> Result<()> {
        self.ask("PATCH", path, MERGE_PATCH, &change.to_string()).map(drop)
    }

    /// Sends a text of YAML to `path`, which the API server reads itself; its answer.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn post_yaml(&self, path: &str, text: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.ask("POST", path, "application/yaml", text)?)?)
    }

    /// The connection is closed behind the answer, as HTTP/1.0 has it, so that its end is the answer's.
    fn ask(&self, method: &str, path: &str, media: &str, body: &str) -> Result<String> {
        let mut stream = UnixStream::connect(&self.socket).context("kubectl proxy does not listen")?;
        stream.set_read_timeout(Some(ANSWER))?;
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\nContent-Type: {media}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).with_context(|| format!("no answer to {method} {path}"))?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer without an end of its head")?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        ensure!(status.starts_with('2'), "{method} {path}: {status}: {}", body.trim());
        Ok(body.to_owned())
    }
}
