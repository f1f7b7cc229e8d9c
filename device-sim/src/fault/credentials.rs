//! Devices sign in with a wrong password.

use fleet_contract::fault::{Credentials, Ending};

use super::{Conditions, Kind, Victim};

impl Kind for Credentials {
    fn reason(&self) -> &'static str {
        "credentials_fault"
    }

    fn ends_session(&self) -> Option<Ending> {
        Some(Ending::Close)
    }

    fn impose(&self, on: &Victim<'_>, conditions: &mut Conditions) {
        conditions.wrong_password = Some(on.number);
    }
}
