//! Sessions end, once.

use fleet_contract::fault::Disconnect;

use super::{End, Kind};

impl Kind for Disconnect {
    fn ends_session(&self) -> Option<End> {
        Some(End { by: self.by, reason: "disconnect_fault", is_effect: true })
    }
}
