//! What an observer subscribes to: a few wildcards if the worker has the whole fleet, else each topic by name.

use std::collections::BTreeMap;

use fleet_contract::{fleet::Observe, plan::Shard};

use crate::{
    blueprint::Blueprint,
    index::{DeviceIndex, StreamIndex},
    model::{Model, Stream},
    session::codec::Qos,
};

/// A filter and the QoS to ask for.
pub(crate) type Filter = (String, Qos);

/// Filters that cover every stream of the fleet, none of them twice.
pub(crate) fn wildcards(blueprint: &Blueprint) -> Vec<Filter> {
    let mut filters: Vec<Filter> = Vec::new();
    for group in &blueprint.groups {
        for (index, stream) in followed(&group.model) {
            filters.push((group.model.filter(index), stream.qos()));
        }
        filters.extend(group.followed_will().map(|will| (will.topic.filter(), will.qos)));
    }
    without_overlap(filters)
}

/// The topics of those of the devices that are observed, each once: a broker takes a filter that comes again in place of the first.
pub(crate) fn topics(blueprint: &Blueprint, devices: impl Iterator<Item = DeviceIndex>) -> Vec<Filter> {
    let (mut filters, mut shared): (Vec<Filter>, BTreeMap<String, usize>) = Default::default();
    for index in devices.filter(|index| blueprint.is_observed(*index)) {
        let group = blueprint.group_of(index);
        let model = &group.model;
        for (number, stream) in followed(model) {
            let mut topic = Vec::new();
            model.write_topic(number, index, &mut topic);
            filters.push((String::from_utf8_lossy(&topic).into_owned(), stream.qos()));
        }
        let Some(will) = group.followed_will() else { continue };
        let topic = will.topic.text(index.number());
        // The birth message of the device may have the same topic, or the wills of all devices share one.
        let own = filters.len() - followed(model).count();
        let at = match shared.get(&topic) {
            Some(at) => Some(*at),
            None => filters[own..].iter().position(|(filter, _)| *filter == topic).map(|at| own + at),
        };
        if let Some(at) = at {
            filters[at].1 = will.qos.max(filters[at].1);
            continue;
        }
        if !will.topic.identifies_device() {
            shared.insert(topic.clone(), filters.len());
        }
        filters.push((topic, will.qos));
    }
    filters
}

fn followed(model: &Model) -> impl Iterator<Item = (StreamIndex, &Stream)> {
    model.indexed_streams().filter(|(_, stream)| stream.is_followed())
}

/// Whether wildcards do: the worker has every device of the fleet, and all of them are followed.
pub(crate) fn are_wildcards_fit(blueprint: &Blueprint, shard: Shard, devices: u32) -> bool {
    blueprint.observe == Observe::All && shard.first == 0 && shard.end() >= devices
}

/// Where one filter covers another, both would bring each message twice (MQTT-3.3.5-1): the wider one stays.
fn without_overlap(filters: Vec<Filter>) -> Vec<Filter> {
    let mut kept: Vec<Filter> = Vec::new();
    for (filter, qos) in filters {
        if let Some(wider) = kept.iter_mut().find(|(other, _)| covers(other, &filter)) {
            wider.1 = wider.1.max(qos);
            continue;
        }
        let covered: Vec<Filter> = kept.extract_if(.., |(other, _)| covers(&filter, other)).collect();
        let qos = covered.iter().map(|(_, other)| *other).fold(qos, Ord::max);
        kept.push((filter, qos));
    }
    kept
}

/// Whether every topic that `narrow` matches is matched by `wide`, too.
fn covers(wide: &str, narrow: &str) -> bool {
    let (mut wide, mut narrow) = (wide.split('/'), narrow.split('/'));
    loop {
        match (wide.next(), narrow.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(names: &[&str]) -> Vec<String> {
        let filters = names.iter().map(|name| ((*name).to_owned(), Qos::AtMostOnce)).collect();
        without_overlap(filters).into_iter().map(|(filter, _)| filter).collect()
    }

    #[test]
    fn equal_and_covered_filters_are_dropped() {
        assert_eq!(filters(&["f/+/state", "f/+/state"]), ["f/+/state"]);
        assert_eq!(filters(&["f/+/state", "f/+/event", "f/+/+"]), ["f/+/+"]);
        assert_eq!(filters(&["f/+/state", "g/+/state"]), ["f/+/state", "g/+/state"]);
    }

    #[test]
    fn the_wider_filter_keeps_the_higher_qos() {
        let kept = without_overlap(vec![("a/b".into(), Qos::ExactlyOnce), ("a/+".into(), Qos::AtMostOnce)]);
        assert_eq!(kept, [("a/+".to_owned(), Qos::ExactlyOnce)]);
    }

    #[test]
    fn a_single_level_covers_no_two() {
        assert!(!covers("a/+", "a/b/c"));
        assert!(covers("a/#", "a/b/c"));
        assert!(!covers("a/+", "a/#"));
    }
}
