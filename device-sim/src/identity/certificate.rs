//! The certificate of the connection's TLS, or nothing at all: a CONNECT has no word to say.

use std::sync::Arc;

use super::{Client, Method, Proof, WRONG};
use crate::reload::Reload;

/// Clients are known by the certificate that all of them show before the CONNECT, if the broker asks for one.
#[derive(Debug)]
pub(crate) struct Certificate;

impl Method for Certificate {
    fn sign(&self, _: &Client<'_>) -> Proof {
        Proof::default()
    }

    fn forge(&self, client: &Client<'_>) -> Proof {
        // MQTT 3.1.1 has no password without a user name.
        Proof { user: Some(client.client_id.to_owned()), password: Some(Arc::from(WRONG)) }
    }

    fn reload(&self) -> Option<Reload> {
        // The way to each broker reads it again, with the authorities that it trusts.
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connect_says_nothing_unless_it_is_to_be_refused() {
        let client = Client { client_id: "demo-7", device: None };
        assert_eq!(Certificate.sign(&client), Proof::default());
        let forged = Certificate.forge(&client);
        assert_eq!(forged, Proof { user: Some("demo-7".into()), password: Some(Arc::from(WRONG)) });
    }
}
