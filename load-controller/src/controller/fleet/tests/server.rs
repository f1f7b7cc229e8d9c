//! An API server that the test plays: it keeps objects, refuses what a real one refuses, notes each write, and tells those who
//! watch.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Query, State},
    http::{Method, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::UnboundedReceiverStream};

/// The objects, by their paths, and all that was written.
#[derive(Default)]
struct Stored {
    objects: BTreeMap<String, Value>,
    version: u64,
    writes: Vec<String>,
    /// Paths whose writes are refused, and how.
    refused: BTreeMap<String, (StatusCode, String)>,
    /// Who watches which collection. They hold up nobody who writes; a test writes little.
    watchers: Vec<(String, mpsc::UnboundedSender<String>)>,
}

#[derive(Clone, Default)]
pub(in crate::controller) struct Server(Arc<Mutex<Stored>>);

impl Server {
    pub(in crate::controller) fn client(&self) -> Client {
        let router = Router::new().fallback(answer).with_state(self.clone());
        Client::new(router, "load")
    }

    fn stored(&self) -> MutexGuard<'_, Stored> {
        self.0.lock().unwrap()
    }

    /// What was written since this was asked last: verb and the last parts of the path.
    pub(in crate::controller) fn writes(&self) -> Vec<String> {
        std::mem::take(&mut self.stored().writes)
    }

    /// Puts an object there, as somebody else would.
    pub(in crate::controller) fn put(&self, path: &str, object: Value) {
        self.stored().keep(path, object);
    }

    pub(in crate::controller) fn remove(&self, path: &str) {
        self.stored().remove(path);
    }

    pub(in crate::controller) fn get(&self, path: &str) -> Option<Value> {
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
        self.tell("MODIFIED", path, &object);
        object
    }

    fn remove(&mut self, path: &str) -> Option<Value> {
        let object = self.objects.remove(path)?;
        self.tell("DELETED", path, &object);
        Some(object)
    }

    /// Tells those who watch its collection what has become of an object; who has gone is forgotten.
    fn tell(&mut self, what: &str, path: &str, object: &Value) {
        let collection = path.rsplit_once('/').map(|(collection, _)| collection);
        let is_there = |events: &mpsc::UnboundedSender<String>| events.send(event(what, object)).is_ok();
        self.watchers.retain(|(watched, events)| Some(&**watched) != collection || is_there(events));
    }

    /// What happens in a collection from a version on, for as long as somebody listens.
    fn watch(&mut self, collection: &str, from: u64) -> Response {
        let (events, told) = mpsc::unbounded_channel();
        let version = |object: &Value| object["metadata"]["resourceVersion"].as_str()?.parse::<u64>().ok();
        for (_, object) in self.of(collection).filter(|(_, object)| version(object) > Some(from)) {
            events.send(event("MODIFIED", object)).unwrap();
        }
        self.watchers.push((collection.to_owned(), events));
        let lines = UnboundedReceiverStream::new(told).map(|line| Ok::<_, Infallible>(Bytes::from(line)));
        Response::new(Body::from_stream(lines))
    }
}

/// A line of a watch.
fn event(what: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": what, "object": object}))
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
        Method::GET if query.get("watch").is_some_and(|watch| watch == "true") => {
            let from = query.get("resourceVersion").and_then(|version| version.parse().ok());
            stored.watch(&path, from.unwrap_or_default())
        }
        Method::GET => match stored.objects.get(&path) {
            Some(object) => Json(object).into_response(),
            None if is_collection(&path) => {
                let name = query.get("fieldSelector").and_then(|fields| fields.strip_prefix("metadata.name="));
                let is_meant = |object: &&Value| name.is_none_or(|name| object["metadata"]["name"] == name);
                let items: Vec<Value> = stored.of(&path).map(|(_, object)| object).filter(is_meant).cloned().collect();
                let metadata = json!({"resourceVersion": stored.version.to_string()});
                Json(json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items})).into_response()
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
        Method::DELETE => match stored.remove(&path) {
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
