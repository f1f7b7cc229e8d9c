//! A command of the author's runs, by whoever drives the run: nothing is done to devices.

use fleet_contract::fault::Hook;

use super::Kind;

impl Kind for Hook {}
