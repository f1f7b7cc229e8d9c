//! Where the controller's key is kept: a Secret in the controller's own namespace.
//!
//! The first controller makes it; it never changes. Without it (somebody has deleted it) there is a new one, and with it other
//! secrets: workers and brokers read them when kubelet has brought them, within two minutes.

use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, api::PostParams};

use crate::{
    key::{KEY_BYTES, Key},
    kube_error::told,
    resource::names::{CONTROLLER_KEY, FIELD_MANAGER},
};

/// The key of the key in its Secret.
const DATA_KEY: &str = "key";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The API server refuses it, or does not answer.
    #[error("failed to {action} the Secret {CONTROLLER_KEY}: {}", told(source))]
    Api {
        /// What was tried.
        action: &'static str,
        /// What it says.
        source: Box<kube::Error>,
    },
    /// The Secret holds something else.
    #[error(
        "expected {KEY_BYTES} bytes in the field `{DATA_KEY}` of the Secret {CONTROLLER_KEY}, found {found}; delete \
         the Secret for a new key"
    )]
    Content {
        /// How many bytes it holds.
        found: usize,
    },
    /// The operating system has no random numbers.
    #[error("failed to make a key: {0}")]
    Random(getrandom::Error),
}

/// The key of the controllers of this namespace. If there is none yet, it is made.
///
/// # Errors
/// When the API server does not answer, the Secret is malformed, or there are no random numbers.
pub async fn of_namespace(client: &Client, namespace: &str) -> Result<Key, KeyError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let failed = |action| move |source| KeyError::Api { action, source: Box::new(source) };
    if let Some(secret) = api.get_opt(CONTROLLER_KEY).await.map_err(failed("get"))? {
        return read(&secret);
    }
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(KeyError::Random)?;
    match api.create(&PostParams::default(), &build(&bytes)).await {
        Ok(_) => {
            tracing::info!("the Secret {CONTROLLER_KEY} was made; tokens and passwords are derived from it");
            Ok(Key::new(&bytes))
        }
        // Another controller was faster.
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            read(&api.get(CONTROLLER_KEY).await.map_err(failed("get"))?)
        }
        Err(error) => Err(failed("create")(error)),
    }
}

fn build(bytes: &[u8; KEY_BYTES]) -> Secret {
    let label = ("app.kubernetes.io/managed-by".to_owned(), FIELD_MANAGER.to_owned());
    Secret {
        metadata: ObjectMeta {
            name: Some(CONTROLLER_KEY.into()),
            labels: Some([label].into()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".into()),
        immutable: Some(true),
        data: Some([(DATA_KEY.to_owned(), ByteString(bytes.to_vec()))].into()),
        ..Secret::default()
    }
}

fn read(secret: &Secret) -> Result<Key, KeyError> {
    let bytes = secret.data.as_ref().and_then(|data| data.get(DATA_KEY)).map_or(&[][..], |bytes| &bytes.0);
    let key = bytes.try_into().map_err(|_| KeyError::Content { found: bytes.len() })?;
    Ok(Key::new(key))
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::{Arc, Mutex},
    };

    use axum::{Json, Router, extract::Request, http::StatusCode};
    use kube::Config;
    use serde_json::{Value, json};
    use tokio::{net::TcpListener, task::JoinSet};

    use super::*;
    use crate::key::Purpose;

    #[test]
    fn a_key_that_is_kept_is_the_same_and_a_malformed_one_is_told() {
        let bytes = [9; KEY_BYTES];
        let secret = build(&bytes);
        let (kept, made) = (read(&secret).unwrap(), Key::new(&bytes));
        assert_eq!(kept.derive(Purpose::Token, "uid"), made.derive(Purpose::Token, "uid"));
        assert_eq!(secret.immutable, Some(true));
        let error = read(&Secret::default()).unwrap_err().to_string();
        assert!(error.contains("found 0; delete the Secret"), "{error}");
    }

    /// An API server that answers in this order, whatever it is asked; the methods that it was asked with.
    async fn api_server(answers: Vec<(u16, Value)>) -> (Client, Arc<Mutex<Vec<String>>>, JoinSet<()>) {
        let (asked, left) = (Arc::default(), Arc::new(Mutex::new(VecDeque::from(answers))));
        let methods: Arc<Mutex<Vec<String>>> = Arc::clone(&asked);
        let answer = move |request: Request| {
            let (methods, left) = (Arc::clone(&methods), Arc::clone(&left));
            async move {
                methods.lock().unwrap().push(request.method().to_string());
                let (code, body) = left.lock().unwrap().pop_front().unwrap();
                (StatusCode::from_u16(code).unwrap(), Json(body))
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() });
        (Client::try_from(Config::new(url)).unwrap(), asked, tasks)
    }

    fn refusal(code: u16, reason: &str) -> (u16, Value) {
        (code, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}))
    }

    #[tokio::test]
    async fn of_two_controllers_that_make_a_key_the_slower_takes_the_others() {
        let kept = build(&[7; KEY_BYTES]);
        let answers = vec![refusal(404, "NotFound"), refusal(409, "AlreadyExists"), (200, json!(kept))];
        let (client, asked, _tasks) = api_server(answers).await;
        let key = of_namespace(&client, "simctl-system").await.unwrap();
        assert_eq!(key.derive(Purpose::Token, "uid"), Key::new(&[7; KEY_BYTES]).derive(Purpose::Token, "uid"));
        assert_eq!(*asked.lock().unwrap(), ["GET", "POST", "GET"]);
    }
}
