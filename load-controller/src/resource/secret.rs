//! The Secret of a fleet: the token of its workers' API, and the passwords at a broker of its own.
//!
//! All of it follows from the controller's key and the fleet's UID, so it is written and never read.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use serde_json::{Value, json};

use super::{
    Owner,
    names::{self, Component},
};
use crate::key::{Key, Purpose};

/// The key of the token.
pub const TOKEN_KEY: &str = "token";
/// The key of the devices' password at a broker of the fleet's own.
pub const DEVICES_KEY: &str = "devices";
/// The key of the observer's password there.
pub const OBSERVER_KEY: &str = "observer";
/// The key of the file of users that such a broker reads.
pub const USERS_KEY: &str = "users";

/// The user name of the devices at a broker of the fleet's own.
pub const DEVICES_USER: &str = "devices";
/// The user name of the observer there.
pub const OBSERVER_USER: &str = "observer";

/// The Secret of a fleet.
pub fn build(owner: &Owner, key: &Key) -> Secret {
    let [token, devices, observer] =
        [Purpose::Token, Purpose::Devices, Purpose::Observer].map(|purpose| key.derive(purpose, &owner.uid));
    let users = format!("{DEVICES_USER}:{devices}\n{OBSERVER_USER}:{observer}\n");
    let data = [(TOKEN_KEY, token), (DEVICES_KEY, devices), (OBSERVER_KEY, observer), (USERS_KEY, users)];
    Secret {
        metadata: owner.metadata(names::secrets(&owner.name), Component::Worker),
        type_: Some("Opaque".into()),
        data: Some(data.map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes()))).into()),
        ..Secret::default()
    }
}

/// A JSON patch that makes an existing Secret of the fleet what it should be, and fails for anybody else's.
pub fn patch(owner: &Owner, wanted: &Secret) -> Value {
    json!([
        is_of(owner),
        {"op": "add", "path": "/metadata/labels", "value": wanted.metadata.labels},
        {"op": "add", "path": "/data", "value": wanted.data},
    ])
}

/// A JSON patch that changes nothing, and fails for a Secret that is not the fleet's.
pub fn test(owner: &Owner) -> Value {
    json!([is_of(owner)])
}

/// The controller's own objects have one owner.
fn is_of(owner: &Owner) -> Value {
    json!({"op": "test", "path": "/metadata/ownerReferences/0/uid", "value": owner.uid})
}

/// The token in a Secret.
pub fn token(secret: &Secret) -> Option<String> {
    text(secret.data.as_ref()?, TOKEN_KEY)
}

fn text(data: &BTreeMap<String, ByteString>, key: &str) -> Option<String> {
    String::from_utf8(data.get(key)?.0.clone()).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::fixture;

    #[test]
    fn users_and_passwords_agree_and_differ_from_the_token() {
        let secret = build(&fixture::owner(), &Key::new(&[7; 32]));
        let data = secret.data.as_ref().unwrap();
        let of = |key| text(data, key).unwrap();
        let users = format!("devices:{}\nobserver:{}\n", of(DEVICES_KEY), of(OBSERVER_KEY));
        assert_eq!(of(USERS_KEY), users);
        assert!(token(&secret).is_some_and(|token| !users.contains(&token)));
    }

    #[test]
    fn what_is_not_the_fleets_is_never_written() {
        let owner = fixture::owner();
        let wanted = build(&owner, &Key::new(&[7; 32]));
        for patch in [patch(&owner, &wanted), test(&owner)] {
            let first = json!({"op": "test", "path": "/metadata/ownerReferences/0/uid", "value": owner.uid});
            assert_eq!(patch[0], first, "the first operation decides about the others");
        }
        assert_eq!(wanted.metadata.owner_references.unwrap()[0].uid, owner.uid);
    }
}
