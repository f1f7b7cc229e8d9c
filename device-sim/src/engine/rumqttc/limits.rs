//! What the devices on rumqttc's clients cannot do, found before any of them starts.

use fleet_contract::{
    broker_url::BrokerUrl,
    fleet::{FleetSpec, Observe, Protocol},
};

use crate::{blueprint::Blueprint, engine::StartError, transport::Route};

/// Whether they can be the devices of a fleet, as far as its document says.
pub(in crate::engine) fn check(spec: &FleetSpec) -> Result<(), StartError> {
    match spec.observe {
        Observe::None => {}
        Observe::All => return Err(StartError::CannotObserve("all")),
        Observe::Sample => return Err(StartError::CannotObserve("sample")),
    }
    if spec.protocol() == Protocol::V5 {
        return Err(StartError::CannotSpeak5);
    }
    match spec.groups.iter().find(|group| !group.subscriptions.is_empty()) {
        Some(group) => Err(StartError::CannotSubscribe(group.name.clone())),
        None => Ok(()),
    }
}

/// Whether they can say what its models want.
pub(in crate::engine) fn check_models(blueprint: &Blueprint) -> Result<(), StartError> {
    match blueprint.groups.iter().find(|group| group.model.has_faults()) {
        Some(group) => Err(StartError::CannotMisbehave(group.name.clone())),
        None => Ok(()),
    }
}

/// Whether they can go this way to a broker.
pub(in crate::engine) fn check_route(url: &BrokerUrl, route: &Route) -> Result<(), StartError> {
    if route.is_layered() {
        return Err(StartError::PlainOnly(url.to_string()));
    }
    if route.has_sources() {
        return Err(StartError::PlainOnly("source addresses".into()));
    }
    Ok(())
}
