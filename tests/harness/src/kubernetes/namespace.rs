//! A namespace of one test.

use std::{
    ffi::{OsStr, OsString},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::client::Client;

/// A namespace with a random name; it and all in it is deleted on drop, and nobody waits for that.
pub struct Namespace {
    client: Client,
    name: String,
}

impl Namespace {
    pub(super) fn create(client: &Client, purpose: &str) -> Result<Namespace> {
        // The standard library's hashers are seeded by the operating system.
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), ());
        let name = format!("{purpose}-{:08x}", random >> 32);
        client.kubectl(["create", "namespace", &name])?;
        Ok(Namespace { client: client.clone(), name })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The client with which it was made.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// As [`Client::kubectl`], in this namespace.
    pub fn kubectl<I: IntoIterator<Item: AsRef<OsStr>>>(&self, args: I) -> Result<String> {
        self.client.kubectl(self.with_namespace(args))
    }

    /// As [`Client::get`], in this namespace.
    pub fn get<I: IntoIterator<Item: AsRef<OsStr>>>(&self, args: I) -> Result<Value> {
        self.client.get(self.with_namespace(args))
    }

    /// As [`Client::apply`], in this namespace.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        self.client.apply_in(Some(&self.name), yaml)
    }

    /// As [`Client::wait_for`], of an object such as `statefulset/fleet` in this namespace; a failure also tells the
    /// pods that are not ready and the warnings.
    pub fn wait_for(
        &self,
        object: &str,
        field: &str,
        within: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let found = self.client.wait_for(&["-n", &self.name, object], field, within, wanted);
        found.with_context(|| self.trouble().unwrap_or_else(|error| format!("{error:#}")))
    }

    /// Awaits that so many replicas of a `StatefulSet` or a Deployment are Ready, no more and no fewer.
    pub fn wait_for_ready(&self, object: &str, replicas: u32, within: Duration) -> Result<()> {
        // Both counts must agree with what was asked: of a shrinking set, too few are Ready before too many are gone.
        let (wanted, field) = (format!("{replicas}/{replicas}"), "{.status.readyReplicas}/{.status.replicas}");
        let is_wanted = |seen: &str| seen == wanted || (replicas == 0 && seen == "/0");
        self.wait_for(object, field, within, is_wanted).map(drop)
    }

    /// What a person would look at first.
    fn trouble(&self) -> Result<String> {
        let pods = self.kubectl(["get", "pods", "-o", "wide", "--no-headers"])?;
        let pods: Vec<&str> = pods.lines().filter(|line| !line.contains(" Running ")).take(10).collect();
        let events = self.kubectl(["get", "events", "--field-selector", "type=Warning", "--no-headers"])?;
        let events: Vec<&str> = events.lines().take(10).collect();
        Ok(format!("in namespace {}\n{}\n{}", self.name, pods.join("\n"), events.join("\n")))
    }

    fn with_namespace<I: IntoIterator<Item: AsRef<OsStr>>>(&self, args: I) -> Vec<OsString> {
        // First, because what follows a `--` is another program's.
        let namespace = ["-n".into(), self.name.clone().into()];
        namespace.into_iter().chain(args.into_iter().map(|arg| arg.as_ref().to_owned())).collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Fails only when the cluster is gone, and the namespace with it.
        drop(self.client.kubectl(["delete", "namespace", &self.name, "--wait=false"]));
    }
}
