//! What became of the wills of devices, and of the retained state that they leave.
//!
//! A session that ends without a DISCONNECT owes its will (MQTT 3.1.1 and 5, section 3.1.2.5); the observer of the device's worker
//! waits for it. The law: expected = seen + missing + unknown + those that may still come.

use serde::{Deserialize, Serialize};

/// A counter of wills, in [`Wills`].
#[derive(Debug, Clone, Copy)]
pub struct WillCounter {
    /// Its key in JSON and its column in CSV and thresholds.
    pub key: &'static str,
    /// What is counted.
    pub help: &'static str,
    /// Its value.
    pub get: fn(&Wills) -> u64,
    get_mut: fn(&mut Wills) -> &mut u64,
}

impl PartialEq for WillCounter {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

macro_rules! wills {
    ($($(#[doc = $doc:literal])+ $constant:ident $field:ident, $key:literal;)*) => {
        /// What became of wills, of devices that the observer follows.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct Wills {
            $($(#[doc = $doc])+ #[serde(skip_serializing_if = "is_zero")] pub $field: u64,)*
            /// Devices now with an accepted session whose will would be seen: what a worker owes that is killed.
            #[serde(skip_serializing_if = "is_none")]
            pub armed: u32,
        }

        $($(#[doc = $doc])+ pub const $constant: WillCounter = WillCounter {
            key: $key,
            help: concat!($($doc),+),
            get: |wills| wills.$field,
            get_mut: |wills| &mut wills.$field,
        };)*

        /// The counters of wills, in the order in which they are shown.
        pub const WILLS: &[WillCounter] = &[$($constant),*];
    };
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_none(devices: &u32) -> bool {
    *devices == 0
}

wills! {
    /// Sessions that ended without a DISCONNECT, whose will the broker is to publish.
    WILLS_EXPECTED expected, "wills_expected";
    /// Of the expected: wills that arrived in time.
    WILLS_SEEN seen, "wills_seen";
    /// Of the expected: wills that did not arrive in time.
    WILLS_MISSING missing, "wills_missing";
    /// Of the expected: wills of which nobody can know, because the observer was away or its worker was killed.
    WILLS_UNKNOWN unknown, "wills_unknown";
    /// Of the missing: wills that arrived after all.
    WILLS_LATE late, "wills_late";
    /// Wills of devices whose session ended with a DISCONNECT, or has not ended.
    WILLS_UNEXPECTED unexpected, "wills_unexpected";
    /// Wills of sessions that the broker ended, or an earlier process left: nobody here knows when these ended, so they are not timed.
    WILLS_BY_BROKER by_broker, "wills_by_broker";
    /// Sessions that ended with a DISCONNECT, upon which the broker deletes the will.
    WILLS_DELETED deleted, "wills_deleted";
    /// Looks at a topic that held the retained message that it should: the will after it came, the birth message after the device was back.
    RETAINED_RIGHT retained_right, "retained_right";
    /// Looks at a topic that held another retained message, or none.
    RETAINED_WRONG retained_wrong, "retained_wrong";
}

impl Wills {
    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The expected ones that may still come.
    pub const fn pending(&self) -> u64 {
        self.expected.saturating_sub(self.seen + self.missing + self.unknown)
    }

    /// Looks at retained messages.
    pub const fn looks(&self) -> u64 {
        self.retained_right + self.retained_wrong
    }

    /// Adds what another counted.
    pub fn merge(&mut self, other: &Self) {
        for counter in WILLS {
            *(counter.get_mut)(self) += (counter.get)(other);
        }
        self.armed += other.armed;
    }

    /// What has come since `before`.
    #[must_use]
    pub fn without(&self, before: &Self) -> Self {
        let mut come = *self;
        for counter in WILLS {
            let count = (counter.get_mut)(&mut come);
            *count = count.saturating_sub((counter.get)(before));
        }
        come
    }

    /// Closes the books of a worker. Its observer has ended with it, so nobody sees what the broker publishes for the devices that it
    /// still ran.
    pub fn end_epoch(&mut self) {
        self.expected += u64::from(self.armed);
        self.unknown += self.pending();
        self.armed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_is_its_own_and_is_added_and_taken_away() {
        for counter in WILLS {
            let mut wills = Wills::default();
            *(counter.get_mut)(&mut wills) = 7;
            assert_eq!(WILLS.iter().map(|other| (other.get)(&wills)).sum::<u64>(), 7, "{}", counter.key);
            let mut sum = wills;
            sum.merge(&wills);
            assert_eq!(((counter.get)(&sum), sum.without(&wills)), (14, wills), "{}", counter.key);
        }
    }

    #[test]
    fn a_killed_worker_leaves_wills_that_nobody_sees() {
        let mut wills = Wills { expected: 9, seen: 5, missing: 1, armed: 20, ..Wills::default() };
        wills.end_epoch();
        let expected = Wills { expected: 29, seen: 5, missing: 1, unknown: 23, ..Wills::default() };
        assert_eq!((wills, wills.pending()), (expected, 0));
    }

    #[test]
    fn nothing_is_written_where_nothing_was_counted() {
        assert_eq!(serde_json::to_string(&Wills::default()).unwrap(), "{}");
        let wills: Wills = serde_json::from_str(r#"{"expected":3,"newer":1}"#).unwrap();
        assert_eq!(wills, Wills { expected: 3, ..Wills::default() });
    }
}
