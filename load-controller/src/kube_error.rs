//! Errors of the API server for people; for whoever speaks to it.

/// What the API server says, without the rest of its answer.
pub(crate) fn told(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
