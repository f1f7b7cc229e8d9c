//! User name and password: a name for each client, and one password for all.

use std::{
    fmt::{self, Debug},
    sync::Arc,
};

use fleet_contract::template::{Bound, Template};

use super::{Client, Method, Proof, WRONG};
use crate::{credentials, reload::Reload};

/// Clients are known by user name and password.
pub(crate) struct Password {
    /// The names, with what the document says in place of a device.
    user: Template,
    /// The names of the devices, by group.
    users: Vec<Bound>,
    /// There may be a name alone.
    secret: Option<Arc<credentials::Password>>,
}

impl Password {
    /// Clients with names by a template, for the devices of each group bound as `users`.
    pub(crate) const fn new(user: Template, users: Vec<Bound>, secret: Option<Arc<credentials::Password>>) -> Self {
        Self { user, users, secret }
    }

    fn user(&self, client: &Client<'_>) -> String {
        match client.device {
            Some((group, index)) => self.users[group.place()].text(index.number()),
            // By the template of the devices, with the observer in place of a device.
            None => self.user.as_str().replace("{id}", client.client_id).replace("{index}", "observer"),
        }
    }
}

impl Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Password").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Method for Password {
    fn sign(&self, client: &Client<'_>) -> Proof {
        Proof { user: Some(self.user(client)), password: self.secret.as_deref().map(credentials::Password::get) }
    }

    fn forge(&self, client: &Client<'_>) -> Proof {
        Proof { user: Some(self.user(client)), password: Some(Arc::from(WRONG)) }
    }

    fn reload(&self) -> Option<Reload> {
        self.secret.as_ref()?.reload()
    }
}

#[cfg(test)]
mod tests {
    use fleet_contract::{fleet::Credentials, template::Names};

    use super::*;
    use crate::index::{DeviceIndex, GroupIndex};

    #[test]
    fn each_client_has_a_name_and_all_have_the_password() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "secret\n").unwrap();
        let password_file = Some(file.path().display().to_string());
        let credentials = Credentials { username: String::new(), password_file, password_env: None, secret_name: None };
        let user: Template = "{group}-{index}".parse().unwrap();
        let bind = |group| {
            let names = Names { fleet: "demo", group, stream: "", seed: 7, first: 100 };
            user.bind(&names, &Template::default_client_id())
        };
        let users = vec![bind("taxi"), bind("meter")];
        let method = Password::new(user, users, credentials::Password::of(&credentials).unwrap());
        let device = Client { client_id: "demo-105", device: Some((GroupIndex::new(1), DeviceIndex::new(5))) };
        let proof = method.sign(&device);
        assert_eq!((proof.user.as_deref(), proof.password.as_deref()), (Some("meter-105"), Some(&b"secret"[..])));
        let forged = method.forge(&device);
        assert_eq!((forged.user, forged.password.as_deref()), (proof.user, Some(WRONG)));
        let observer = method.sign(&Client { client_id: "demo-observer-0", device: None });
        assert_eq!(observer.user.as_deref(), Some("{group}-observer"));
        assert!(method.reload().is_some());
        assert!(!format!("{method:?} {observer:?}").contains("secret"), "{method:?} {observer:?}");
    }
}
