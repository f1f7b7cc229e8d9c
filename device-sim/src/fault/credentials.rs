//! Devices sign in with a wrong password.

use fleet_contract::fault::{Credentials, Ending};

use super::{Conditions, End, Kind, Victim};

impl Kind for Credentials {
    fn ends_session(&self) -> Option<End> {
        // What counts is that the broker turns them away.
        Some(End { by: Ending::Close, reason: "credentials_fault", is_effect: false })
    }

    fn impose(&self, on: &Victim<'_>, conditions: &mut Conditions) {
        conditions.wrong_password = Some(on.number);
    }
}
