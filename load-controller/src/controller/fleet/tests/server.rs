//! An API server that the test plays: it keeps objects, refuses what a real one refuses, and notes each write.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Query, State},
    http::{Method, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use kube::Client;
use serde_json::{Value, json};

/// The objects, by their paths, and all that was written.
#[derive(Default)]
struct Stored {
    objects: BTreeMap<String, Value>,
    version: u64,
    writes: Vec<String>,
    /// Paths whose writes are refused, and how.
    refused: BTreeMap<String, (StatusCode, String)>,
}

#[derive(Clone, Default)]
pub(super) struct Server(Arc<Mutex<Stored>>);

impl Server {
    pub(super) fn client(&self) -> Client {
        let router = Router::new().fallback(answer).with_state(self.clone());
        Client::new(router, "load")
    }

    fn stored(&self) -> MutexGuard<'_, Stored> {
        self.0.lock().unwrap()
    }

    /// What was written since this was asked last: verb and the last parts of the path.
    pub(super) fn writes(&self) -> Vec<String> {
        std::mem::take(&mut self.stored().writes)
    }

    /// Puts an object there, as somebody else would.
    pub(super) fn put(&self, path: &str, object: Value) {
        self.stored().keep(path, object);
    }

    pub(super) fn remove(&self, path: &str) {
        self.stored().objects.remove(path);
    }

    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.stored().objects.get(path).cloned()
    }

    /// All objects of a collection.
    pub(super) fn list(&self, collection: &str) -> Vec<Value> {
        self.stored().of(collection).map(|(_, object)| object.clone()).collect()
    }

    /// From now on writes to `path` are taken again.
    pub(super) fn allow(&self, path: &str) {
        self.stored().refused.remove(path);
    }

    /// From now on every write to `path` is refused.
    pub(super) fn refuse(&self, path: &str, status: StatusCode, message: &str) {
        self.stored().refused.insert(path.to_owned(), (status, message.to_owned()));
    }
}

impl Stored {
    fn of(&self, collection: &str) -> impl Iterator<Item = (&String, &Value)> {
        let prefix = format!("{collection}/");
        self.objects.iter().filter(move |(path, _)| path.strip_prefix(&prefix).is_some_and(|name| !name.contains('/')))
    }

    /// Keeps an object under a new version; its UID stays.
    fn keep(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        let before = self.objects.get(path);
        let kept = |key: &str| before.map(|before| before["metadata"][key].clone()).filter(|value| !value.is_null());
        let uid = kept("uid").or_else(|| Some(object["metadata"]["uid"].clone()).filter(|uid| !uid.is_null()));
        object["metadata"]["uid"] = uid.unwrap_or_else(|| format!("uid-{}", self.version).into());
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.objects.insert(path.to_owned(), object.clone());
        object
    }
}

async fn answer(
    State(server): State<Server>,
    method: Method,
    uri: Uri,
    Query(query): Query<BTreeMap<String, String>>,
    body: Bytes,
) -> Response {
    let mut stored = server.stored();
    let path = uri.path().to_owned();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let named = match (&method, body["metadata"]["name"].as_str()) {
        (&Method::POST, Some(name)) => format!("{path}/{name}"),
        _ => path.clone(),
    };
    if method != Method::GET {
        let parts: Vec<&str> = named.rsplitn(5, '/').collect();
        let end = if path.ends_with("/status") { 3 } else { 2 };
        let told: Vec<&str> = parts[..end].iter().rev().copied().collect();
        stored.writes.push(format!("{method} {}", told.join("/")));
        if let Some((status, message)) = stored.refused.get(&named).cloned() {
            return refusal(status, "Forbidden", &message);
        }
    }
    match method {
        Method::GET => match stored.objects.get(&path) {
            Some(object) => Json(object).into_response(),
            None if is_collection(&path) => {
                let name = query.get("fieldSelector").and_then(|fields| fields.strip_prefix("metadata.name="));
                let is_meant = |object: &&Value| name.is_none_or(|name| object["metadata"]["name"] == name);
                let items: Vec<Value> = stored.of(&path).map(|(_, object)| object).filter(is_meant).cloned().collect();
                Json(json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items})).into_response()
            }
            None => refusal(StatusCode::NOT_FOUND, "NotFound", &path),
        },
        Method::POST if stored.objects.contains_key(&named) => refusal(StatusCode::CONFLICT, "AlreadyExists", &named),
        Method::POST => (StatusCode::CREATED, Json(stored.keep(&named, body))).into_response(),
        Method::PUT => match stored.objects.get(&path) {
            None => refusal(StatusCode::NOT_FOUND, "NotFound", &path),
            Some(found) if found["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] => {
                refusal(StatusCode::CONFLICT, "Conflict", &path)
            }
            Some(_) => Json(stored.keep(&path, body)).into_response(),
        },
        Method::PATCH => {
            let target = path.strip_suffix("/status").unwrap_or(&path).to_owned();
            let Some(found) = stored.objects.get(&target).cloned() else {
                return refusal(StatusCode::NOT_FOUND, "NotFound", &path);
            };
            let uid = &body["metadata"]["uid"];
            if !uid.is_null() && *uid != found["metadata"]["uid"] {
                return refusal(StatusCode::CONFLICT, "Conflict", &path);
            }
            // A patch of JSON, which tests and changes nothing here, is a list.
            let merged = if body.is_array() { found } else { merged(found, body) };
            Json(stored.keep(&target, merged)).into_response()
        }
        Method::DELETE => match stored.objects.remove(&path) {
            Some(object) => Json(object).into_response(),
            None => refusal(StatusCode::NOT_FOUND, "NotFound", &path),
        },
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

/// Whether a path names no object: `/api/v1/namespaces/load/pods`, `/apis/apps/v1/namespaces/load/statefulsets`.
fn is_collection(path: &str) -> bool {
    path.split('/').count() == if path.starts_with("/apis/") { 7 } else { 6 }
}

/// An object with what a patch says; what the patch does not name stays, but for lists.
fn merged(object: Value, patch: Value) -> Value {
    match (object, patch) {
        (Value::Object(mut object), Value::Object(patch)) => {
            for (key, value) in patch {
                let before = object.remove(&key).unwrap_or_default();
                object.insert(key, merged(before, value));
            }
            Value::Object(object)
        }
        (_, patch) => patch,
    }
}

fn refusal(status: StatusCode, reason: &str, message: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status.as_u16(),
                      "reason": reason, "message": message, "metadata": {}});
    (status, Json(body)).into_response()
}
