//! How a client proves to the broker who it is: one method a file.
//!
//! A method says what stands in a CONNECT; it does not write it, and opens no connection. It is asked once a CONNECT and never
//! for a message, so it is behind a pointer, and a new one is a file here and a choice in the blueprint.

mod certificate;
mod password;

use std::{
    fmt::{self, Debug},
    sync::Arc,
};

use crate::{
    index::{DeviceIndex, GroupIndex},
    reload::Reload,
};

pub(crate) use certificate::Certificate;
pub(crate) use password::Password;

/// A password that nobody has.
const WRONG: &[u8] = b"a wrong password, on purpose";

/// Who signs in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client<'a> {
    pub(crate) client_id: &'a str,
    /// Its group and its index; an observer has none.
    pub(crate) device: Option<(GroupIndex, DeviceIndex)>,
}

/// What a CONNECT shows as proof. The password is never printed.
#[derive(Default, Clone, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Arc<[u8]>>,
}

impl Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A way to prove who one is.
pub(crate) trait Method: Debug + Send + Sync {
    /// What a CONNECT of now shows.
    fn sign(&self, client: &Client<'_>) -> Proof;

    /// What it shows in place of that so that the broker turns the client away.
    fn forge(&self, client: &Client<'_>) -> Proof;

    /// How a change of its files is taken over; `None` where nothing is to be read again.
    fn reload(&self) -> Option<Reload>;
}
