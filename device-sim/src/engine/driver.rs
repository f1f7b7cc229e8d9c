//! What runs the devices of a worker: the shards of this crate, or clients of rumqttc to compare with.

use std::{fmt, sync::Arc};

use fleet_contract::{stats::Stats, worker::DeviceStatus};

use super::{course::Course, phases::Phases};
use crate::index::DeviceIndex;

/// What runs the devices of a worker. It is asked some times a second at most.
pub(super) trait Driver: fmt::Debug + Send + Sync {
    /// Follows a newer plan, under which there are at most so many devices.
    fn set_course(&self, course: &Arc<Course>, devices: u32);

    /// What was measured since the start, and whether every device has left and every message is judged.
    fn reading(&self, phases: &Phases) -> (Stats, bool);

    /// How many devices have not tried to connect yet; `None` where somebody does not answer.
    fn untried(&self) -> Option<u32>;

    /// What is known of device `index`, if it runs here.
    fn device(&self, index: DeviceIndex) -> Option<DeviceStatus>;

    /// Whether a thread has ended before it was told to.
    fn is_broken(&self) -> bool;

    /// Has every device settle its messages and say DISCONNECT.
    fn drain(&self);

    /// Ends all threads, whatever the devices are doing, and waits for them.
    fn end(&mut self);
}
