//! Sessions end, once.

use fleet_contract::fault::{Disconnect, Ending};

use super::Kind;

impl Kind for Disconnect {
    fn reason(&self) -> &'static str {
        "disconnect_fault"
    }

    fn ends_session(&self) -> Option<Ending> {
        Some(self.by)
    }
}
