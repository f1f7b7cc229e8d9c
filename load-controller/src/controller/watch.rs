//! What happens to the objects of one kind, as a stream of events that never ends by itself.
//!
//! The watch runs over untyped objects, and each object is read into its type here. kube's watch and the reading of
//! JSON text are then compiled once and not once a kind, and an object that cannot be read costs nobody else.

use std::{fmt::Debug, pin::Pin};

use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::{ApiResource, DynamicObject},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio_stream::{Stream, StreamExt as _};

use super::metrics::Metrics;

type Untyped = Pin<Box<dyn Stream<Item = Event<DynamicObject>> + Send>>;

/// Watches the objects of a kind in one namespace, or in all of them.
///
/// A watch that breaks off is logged, counted and begun anew; an object that cannot be read is logged, counted and left
/// out.
pub(super) fn watch<K>(
    client: &Client,
    namespace: Option<&str>,
    config: watcher::Config,
    metrics: &Metrics,
) -> impl Stream<Item = Event<K>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Debug,
{
    let resource = ApiResource::erase::<K>(&());
    let api = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let metrics = metrics.clone();
    untyped(api, config, resource.kind, metrics.clone()).filter_map(move |event| typed(event, &metrics))
}

fn untyped(api: Api<DynamicObject>, config: watcher::Config, kind: String, metrics: Metrics) -> Untyped {
    // What goes on to fail in the same way is told once.
    let mut told = String::new();
    let events = watcher(api, config).default_backoff().filter_map(move |event| {
        let error = match event {
            Ok(event) => return Some(event),
            Err(error) => error.to_string(),
        };
        metrics.watch_errors.with_label_values(&[&kind]).inc();
        if error != told {
            tracing::warn!(kind, error, "a watch broke off; it begins anew");
            told = error;
        }
        None
    });
    Box::pin(events)
}

fn typed<K>(event: Event<DynamicObject>, metrics: &Metrics) -> Option<Event<K>>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Debug,
{
    let read = |object: DynamicObject| {
        let (name, namespace) = (object.name_any(), object.namespace());
        object
            .try_parse()
            .inspect_err(|error| {
                let kind = K::kind(&());
                metrics.watch_errors.with_label_values(&[&*kind]).inc();
                tracing::warn!(%kind, name, namespace, %error, "an object cannot be read, and is left out");
            })
            .ok()
    };
    Some(match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(object) => Event::InitApply(read(object)?),
        Event::Apply(object) => Event::Apply(read(object)?),
        Event::Delete(object) => Event::Delete(read(object)?),
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: &Value) -> DynamicObject {
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "uid": "1"}, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn an_object_is_read_whole_and_one_that_cannot_be_is_left_out() {
        let metrics = Metrics::default();
        let event = typed::<Pod>(Event::Apply(pod(&json!({"nodeName": "n", "containers": []}))), &metrics).unwrap();
        let Event::Apply(read) = event else { panic!("{event:?}") };
        assert_eq!((read.name_any(), read.uid()), ("p".into(), Some("1".into())));
        assert_eq!(read.spec.unwrap().node_name.as_deref(), Some("n"));
        assert!(typed::<Pod>(Event::InitApply(pod(&json!({"nodeName": 5}))), &metrics).is_none());
        assert_eq!(metrics.watch_errors.with_label_values(&["Pod"]).get(), 1);
        assert!(typed::<Pod>(Event::InitDone, &metrics).is_some());
    }
}
