//! What the workers of a fleet want to be shown, and so how a pod is reached.

use std::{fmt, net::SocketAddr, sync::Arc};

use fleet_contract::time::Micros;

use super::observe::WorkerPod;
use crate::{api::Address, resource::names::WORKER_PORT, run::workers::Worker};

/// The tokens of a fleet's workers. Never printed.
#[derive(Clone)]
pub struct Tokens {
    /// That of workers that mount the fleet's Secret.
    pub current: Arc<str>,
    /// That of workers of an earlier release, once it is known.
    pub former: Option<Arc<str>>,
}

impl Tokens {
    /// The token of workers of this release.
    pub fn of(current: &str) -> Self {
        Self { current: current.into(), former: None }
    }

    /// A pod as the worker that it is.
    pub fn worker(&self, pod: &WorkerPod) -> Worker {
        Worker {
            ordinal: pod.ordinal,
            id: pod.uid.clone(),
            name: pod.name.clone(),
            address: self.address(pod),
            // What it runs, its first reading tells.
            plan_version: None,
            is_ready: pod.is_ready,
            has_run: pod.has_run,
            created: pod.created.and_then(|created| u64::try_from(created.as_microsecond()).ok()).map(Micros),
            is_ending: pod.is_terminating,
            node: pod.node.clone(),
        }
    }

    /// Where a pod listens, once it has an address and the fleet a token for it.
    fn address(&self, pod: &WorkerPod) -> Option<Address> {
        let ip = pod.ip.as_ref()?.parse().ok()?;
        let token = if pod.secret.is_some() { &self.current } else { self.former.as_ref()? };
        Some(Address::Tcp { socket: SocketAddr::new(ip, WORKER_PORT), token: Arc::clone(token) })
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_of_an_earlier_release_is_shown_its_own_token() {
        let pod = |secret: Option<&str>| WorkerPod {
            ip: Some("127.0.0.1".into()),
            secret: secret.map(Into::into),
            ..WorkerPod::default()
        };
        let token = |pod: &WorkerPod, tokens: &Tokens| match tokens.worker(pod).address {
            Some(Address::Tcp { token, .. }) => Some(token.to_string()),
            _ => None,
        };
        let tokens = Tokens::of("now");
        assert_eq!(token(&pod(None), &tokens), None, "it is not known yet");
        let tokens = Tokens { former: Some("then".into()), ..tokens };
        assert_eq!(token(&pod(None), &tokens).as_deref(), Some("then"));
        assert_eq!(token(&pod(Some("demo-secrets")), &tokens).as_deref(), Some("now"));
        assert_eq!(format!("{tokens:?}"), "Tokens(…)");
    }
}
