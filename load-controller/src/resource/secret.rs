//! The Secret with the token of the workers' API; it is made once and stays.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};

use super::{
    Owner,
    names::{self, Component},
};

/// The key of the token.
pub const TOKEN_KEY: &str = "token";

/// The Secret that holds `token`.
pub fn build(owner: &Owner, token: &str) -> Secret {
    Secret {
        metadata: owner.metadata(names::token(&owner.name), Component::Worker),
        type_: Some("Opaque".into()),
        data: Some(BTreeMap::from([(TOKEN_KEY.into(), ByteString(token.as_bytes().to_vec()))])),
        ..Secret::default()
    }
}

/// The token in a Secret.
pub fn token(secret: &Secret) -> Option<String> {
    let bytes = secret.data.as_ref()?.get(TOKEN_KEY)?;
    String::from_utf8(bytes.0.clone()).ok().filter(|token| !token.is_empty())
}
