//! A broker behind TLS or WebSocket, and fleets that reach it.

use std::{net::IpAddr, sync::Arc};

use device_sim::{
    clock::Clock,
    engine::{Engine, Options},
};
use fleet_contract::fleet::{BrokerSpec, Tls};

use crate::{
    authority::Authority,
    front::{Front, Speaks},
    run::{TestBroker, assignment},
};

/// Years in which a test runs.
pub(crate) const NOW: std::ops::Range<i32> = 2020..2100;

pub(crate) fn broker_at(url: &str, tls: Option<Tls>) -> BrokerSpec {
    BrokerSpec { tls, ..BrokerSpec::at(vec![url.parse().unwrap()]) }
}

pub(crate) fn trusting(authority: &Authority) -> Tls {
    Tls { ca: Some(authority.file()), ..Tls::default() }
}

/// A broker behind a front, and the way to it.
pub(crate) struct Site {
    pub(crate) broker: TestBroker,
    pub(crate) front: Front,
    pub(crate) spec: BrokerSpec,
    _authority: Authority,
}

impl Site {
    pub(crate) fn new(scheme: &str, is_slow: bool) -> Self {
        let (broker, authority) = (TestBroker::start(), Authority::new());
        let config = Arc::new(Authority::server(&authority.sign("127.0.0.1", NOW), None));
        let tls = matches!(scheme, "mqtts" | "wss").then_some(config);
        let trust = tls.as_ref().map(|_| trusting(&authority));
        let speaks = Speaks { tls, is_websocket: scheme.starts_with("ws"), is_slow };
        let front = Front::start(broker.address, speaks);
        let spec = broker_at(&format!("{scheme}://{}", front.address), trust);
        Self { broker, front, spec, _authority: authority }
    }

    pub(crate) fn start(&self, devices: u32, extra: &str, sources: &[IpAddr]) -> Engine {
        let clock = Clock::new();
        let mut assignment = assignment(self.broker.address, devices, extra, &clock);
        assignment.fleet.spec.broker = Some(self.spec.clone());
        let options = Options { threads: 1, clock, sources: sources.to_vec(), ..Options::default() };
        Engine::start(&assignment, &options).unwrap()
    }
}
