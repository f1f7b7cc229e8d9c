//! The connection to a cluster: which one, as kubeconfig and flags say, and errors that tell what to do.
//!
//! Every call has a deadline, so that a cluster that is gone is an error in seconds.

use std::{future::Future, time::Duration};

use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Config, Resource,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
    core::Status,
};
use load_controller::{api::error::innermost, resource::Fleet};
use tokio::time::timeout;

use crate::{exit::Failure, flags::ClusterFlags, local::socket, printer::Printer};

/// How long the API server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A cluster, and the namespace that is meant in it.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    context: String,
    server: String,
    namespace: String,
}

/// Why a cluster gave no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    /// Nothing says where a cluster is.
    #[error("there is no kubeconfig; expected --kubeconfig FILE, KUBECONFIG or ~/.kube/config")]
    NoConfig,
    /// The same, while a fleet runs on this machine.
    #[error(
        "there is no kubeconfig, and this verb asks a cluster: expected --kubeconfig FILE, KUBECONFIG or ~/.kube/config; \
         of the fleet that runs on this machine `simctl status` tells, and `simctl --help` says which verbs steer it"
    )]
    OnlyRuns,
    /// The kubeconfig does not say where the cluster is.
    #[error("no cluster can be read from the kubeconfig: {0}")]
    Config(String),
    /// The API server cannot be reached.
    #[error(
        "the API server {server} of context {context} cannot be reached: {why}; is the cluster up? \
         `kubectl --context {context} version` asks it too, `kubectl config get-contexts` lists others for --context"
    )]
    Unreachable { context: String, server: String, why: String },
    /// The cluster does not know what was asked for.
    #[error("the cluster of context {context} knows no {what}{remedy}")]
    Unknown { context: String, what: String, remedy: &'static str },
    /// The API server says no.
    #[error("{}", refusal(.0))]
    Refused(Box<Status>),
    /// An answer that nobody understands.
    #[error("an answer of the API server makes no sense here: {0}")]
    Answer(String),
}

impl ClusterError {
    /// Whether what was asked for does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        // Of a path that it does not know at all, the API server says so without a reason.
        self.status().is_some_and(|status| status.code == 404)
    }

    /// Whether somebody else changed or owns what was to be changed.
    pub(crate) fn is_conflict(&self) -> bool {
        self.status().is_some_and(Status::is_conflict)
    }

    /// Whether the person may not do what was asked for.
    pub(crate) fn is_forbidden(&self) -> bool {
        self.status().is_some_and(Status::is_forbidden)
    }

    /// What the API server said.
    pub(crate) fn status(&self) -> Option<&Status> {
        if let Self::Refused(status) = self { Some(status) } else { None }
    }

    /// The failure of a verb that sent a document: one that is not valid ends with that exit code.
    pub(crate) fn of_document(self) -> anyhow::Error {
        match self.status() {
            Some(status) if status.is_invalid() => Failure::document(self.to_string()).into(),
            _ => self.into(),
        }
    }
}

fn refusal(status: &Status) -> String {
    match status.message.as_str() {
        "" => format!("the API server answered {} {}", status.code, status.reason),
        message if status.code == 401 => {
            format!("the API server does not know you: {message}; sign in again, or check the user of the context")
        }
        message if status.is_invalid() => faults(status).unwrap_or_else(|| message.to_owned()),
        message => message.to_owned(),
    }
}

/// All that is wrong with an object, a line each: `spec.seed: seed cannot change while there are devices, …`.
///
/// The API server shows the value beside each, which of an object is but the word.
fn faults(status: &Status) -> Option<String> {
    let details = status.details.as_ref().filter(|details| !details.causes.is_empty())?;
    let line = |cause: &kube::core::response::StatusCause| {
        let message = cause.message.strip_prefix("Invalid value: \"object\": ").unwrap_or(&cause.message);
        format!("\n  {}: {message}", cause.field)
    };
    let lines: String = details.causes.iter().map(line).collect();
    Some(format!("the cluster does not take {} {}:{lines}", details.kind, details.name))
}

impl Cluster {
    /// The cluster that flags and kubeconfig mean; nothing is asked of it yet.
    pub(crate) async fn new(flags: &ClusterFlags) -> Result<Self, ClusterError> {
        let (mut config, context) = config(flags).await?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // A person waits: what is worth another attempt is attempted by the loop that shows it.
        config.default_retry = false;
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let namespace = flags.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| ClusterError::Config(innermost(&error)))?;
        Ok(Self { client, context, server, namespace })
    }

    /// The same for a verb that means nothing else.
    async fn only(flags: &ClusterFlags) -> Result<Self, ClusterError> {
        match Self::new(flags).await {
            Err(ClusterError::NoConfig) if !socket::list().await.is_empty() => Err(ClusterError::OnlyRuns),
            found => found,
        }
    }

    /// The same, and says which one it is.
    pub(crate) async fn find(flags: &ClusterFlags, printer: Printer) -> Result<Self, ClusterError> {
        let cluster = Self::only(flags).await?;
        printer.say(cluster.title());
        Ok(cluster)
    }

    /// The same for a verb that may look into all namespaces.
    pub(crate) async fn find_all(
        flags: &ClusterFlags,
        is_everywhere: bool,
        printer: Printer,
    ) -> Result<Self, ClusterError> {
        let cluster = Self::only(flags).await?;
        let everywhere = format!("cluster {}, all namespaces", cluster.context);
        printer.say(if is_everywhere { everywhere } else { cluster.title() });
        Ok(cluster)
    }

    /// `cluster kind-dev, namespace load`.
    pub(crate) fn title(&self) -> String {
        format!("cluster {}, namespace {}", self.context, self.namespace)
    }

    /// The client.
    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// The namespace that is meant.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The context's name.
    pub(crate) fn context(&self) -> &str {
        &self.context
    }

    /// The same cluster, and another namespace of it.
    pub(crate) fn within(&self, namespace: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), ..self.clone() }
    }

    /// The objects of a kind in the namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The objects of a kind in the whole cluster.
    pub(crate) fn everywhere<K: Resource>(&self) -> Api<K>
    where
        K::DynamicType: Default,
    {
        Api::all(self.client.clone())
    }

    /// The fleets of the namespace.
    pub(crate) fn fleets(&self) -> Api<Fleet> {
        self.api()
    }

    /// Whether the cluster knows what a Fleet is.
    pub(crate) async fn knows_fleets(&self) -> Result<bool, ClusterError> {
        Ok(self.kinds(fleet_contract::fleet::API_VERSION).await?.iter().any(|kind| kind == "Fleet"))
    }

    /// The kinds of a group and version; none where the cluster does not know it.
    pub(crate) async fn kinds(&self, api_version: &str) -> Result<Vec<String>, ClusterError> {
        let known = self.ask_for(self.client.list_api_group_resources(api_version)).await?;
        Ok(known.into_iter().flat_map(|known| known.resources).map(|resource| resource.kind).collect())
    }

    /// The answer to one call, in time.
    pub(crate) async fn ask<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<T, ClusterError> {
        match timeout(ANSWER_TIMEOUT, call).await {
            Ok(answer) => answer.map_err(|error| self.explain(error)),
            Err(_) => Err(self.unreachable(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))),
        }
    }

    /// The same, where that something does not exist is an answer too.
    pub(crate) async fn ask_for<T>(
        &self,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<Option<T>, ClusterError> {
        match self.ask(call).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What an error of the client means to a person.
    pub(super) fn explain(&self, error: kube::Error) -> ClusterError {
        match error {
            kube::Error::Api(status) => ClusterError::Refused(status),
            error @ (kube::Error::Service(_)
            | kube::Error::HyperError(_)
            | kube::Error::ReadEvents(_)
            | kube::Error::Auth(_)) => self.unreachable(why(&innermost(&error))),
            error => ClusterError::Answer(innermost(&error)),
        }
    }

    fn unreachable(&self, why: String) -> ClusterError {
        ClusterError::Unreachable { context: self.context.clone(), server: self.server.clone(), why }
    }
}

/// The contexts among which `--context` chooses; none where no kubeconfig can be read.
pub(crate) fn contexts(flags: &ClusterFlags) -> Vec<String> {
    read(flags).map(|kubeconfig| names(&kubeconfig)).unwrap_or_default()
}

fn read(flags: &ClusterFlags) -> Result<Kubeconfig, KubeconfigError> {
    match &flags.kubeconfig {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    }
}

fn names(kubeconfig: &Kubeconfig) -> Vec<String> {
    kubeconfig.contexts.iter().map(|context| context.name.clone()).collect()
}

/// The configuration that is meant, and the name of its context.
async fn config(flags: &ClusterFlags) -> Result<(Config, String), ClusterError> {
    let kubeconfig = match read(flags) {
        Ok(kubeconfig) => kubeconfig,
        Err(error) if flags.kubeconfig.is_none() && is_absent(&error) => return in_cluster(flags),
        Err(error) => return Err(ClusterError::Config(plain(&error))),
    };
    let contexts = names(&kubeconfig);
    let Some(context) =
        flags.context.clone().or_else(|| kubeconfig.current_context.clone()).filter(|it| !it.is_empty())
    else {
        return Err(match contexts.as_slice() {
            [] => ClusterError::NoConfig,
            contexts => ClusterError::Config(format!(
                "no context is current; choose one of {} with --context or `kubectl config use-context`",
                contexts.join(", ")
            )),
        });
    };
    if !contexts.contains(&context) {
        return Err(ClusterError::Config(format!(
            "expected a context of the kubeconfig, found `{context}`; there are {}",
            contexts.join(", ")
        )));
    }
    let options = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| ClusterError::Config(error.to_string()))?;
    Ok((config, context))
}

/// Inside a pod the service account stands for a kubeconfig.
fn in_cluster(flags: &ClusterFlags) -> Result<(Config, String), ClusterError> {
    if flags.context.is_some() {
        return Err(ClusterError::NoConfig);
    }
    Config::incluster().map(|config| (config, "in-cluster".into())).map_err(|_| ClusterError::NoConfig)
}

/// A message without the quotes of a debugger around its path.
fn plain(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(source, path) => format!("failed to read {}: {source}", path.display()),
        error => error.to_string(),
    }
}

fn is_absent(error: &KubeconfigError) -> bool {
    match error {
        KubeconfigError::FindPath => true,
        KubeconfigError::ReadConfig(source, _) => source.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// A cause in words that help, where its own do not.
fn why(cause: &str) -> String {
    match cause {
        "deadline has elapsed" => format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()),
        cause if cause.contains("invalid peer certificate") => {
            format!("{cause}; `certificate-authority` of the kubeconfig does not fit this server")
        }
        cause => cause.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_cluster_does_not_take_is_listed_by_field() {
        let status = json!({
            "code": 422, "reason": "Invalid", "message": "Fleet.simctl.io \"a\" is invalid: [...]", "details": {
                "name": "a", "group": "simctl.io", "kind": "Fleet", "causes": [
                    {"reason": "FieldValueInvalid", "field": "spec.seed",
                     "message": "Invalid value: \"object\": seed cannot change while there are devices"},
                    {"reason": "FieldValueRequired", "field": "spec.groups", "message": "Required value"},
                ],
            },
        });
        let error = ClusterError::Refused(serde_json::from_value(status).unwrap());
        insta::assert_snapshot!(error, @r"
        the cluster does not take Fleet a:
          spec.seed: seed cannot change while there are devices
          spec.groups: Required value
        ");
        let failure = error.of_document();
        assert_eq!(crate::exit::code_of(&failure), load_controller::run::verdict::ExitCode::Document);
    }

    #[test]
    fn a_cause_says_what_happened() {
        assert_eq!(why("deadline has elapsed"), "no connection within 5 s");
        assert_eq!(why("Connection refused"), "Connection refused");
        assert!(why("invalid peer certificate: UnknownIssuer").contains("certificate-authority"));
    }
}
