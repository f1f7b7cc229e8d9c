//! What was removed from a broker and what was not, for people and for programs.

use device_sim::leftovers::{Found, Stays};
use fleet_contract::fleet::{BrokerSpec, Fleet};
use load_controller::words;
use schemars::JsonSchema;
use serde::Serialize;

/// The names that people are told of those that stay for one reason; programs are told all.
const NAMES_MAX: usize = 5;

/// The broker has acknowledged the empty message, and still has the retained one.
const KEPT: &str = "still there after the broker took an empty message for the topic: does it let the device publish there, and \
                    does nobody else?";

/// The observer may not read a topic.
const UNREAD: &str = "removed perhaps, but the broker does not let the observer read there: name who may in \
                      `observer.credentials`";

/// What became of all that a fleet may have left.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct Cleaned {
    /// The fleet.
    fleet: String,
    /// The addresses of its broker; none where that was simctl's own.
    brokers: Vec<String>,
    /// Devices whose sessions have ended, whether the broker had kept one or not: brokers do not tell.
    pub(super) sessions: u64,
    /// Observers whose sessions have ended, at each address of the broker.
    pub(super) observers: u64,
    /// Topics that have no retained message any more, whether there was one or not.
    pub(super) topics: u64,
    /// What stays.
    left: Vec<Remainder>,
}

/// What stays for one reason.
#[derive(Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub(crate) struct Remainder {
    what: What,
    /// Why.
    why: String,
    /// How many.
    count: u64,
    /// Their client ids or topics.
    names: Vec<String>,
}

/// A kind of what a run leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    /// Sessions, by their client ids.
    Sessions,
    /// Retained messages, by their topics.
    RetainedMessages,
}

impl Cleaned {
    /// Nothing was to be removed so far.
    pub(super) fn nothing(fleet: &Fleet) -> Self {
        let addresses = fleet.spec.broker.as_ref().map_or(&[][..], BrokerSpec::addresses);
        Self {
            fleet: fleet.metadata.name.clone(),
            brokers: addresses.iter().map(ToString::to_string).collect(),
            sessions: 0,
            observers: 0,
            topics: 0,
            left: Vec::new(),
        }
    }

    /// Whether nothing stays.
    pub(crate) const fn is_complete(&self) -> bool {
        self.left.is_empty()
    }

    /// Something stays.
    pub(super) fn leave(&mut self, what: What, why: &Stays, name: String) {
        self.remain(what, &why.to_string(), name);
    }

    /// Somebody has looked at so many topics that were cleared.
    pub(super) fn looked(&mut self, topics: usize, Found { kept, unread }: Found) {
        self.topics += (topics - kept.len() - unread.len()) as u64;
        kept.into_iter().for_each(|topic| self.remain(What::RetainedMessages, KEPT, topic));
        unread.into_iter().for_each(|topic| self.remain(What::RetainedMessages, UNREAD, topic));
    }

    /// Nobody could look at topics that were cleared.
    pub(super) fn not_looked(&mut self, topics: Vec<String>, why: &Stays) {
        let why = format!("removed perhaps, but the observer could not look: {why}");
        topics.into_iter().for_each(|topic| self.remain(What::RetainedMessages, &why, topic));
    }

    fn remain(&mut self, what: What, why: &str, name: String) {
        let known = self.left.iter_mut().find(|known| known.what == what && known.why == why);
        let Some(known) = known else {
            self.left.push(Remainder { what, why: why.into(), count: 1, names: vec![name] });
            return;
        };
        known.count += 1;
        known.names.push(name);
    }

    /// What was removed, a line for each kind; one line where there was nothing to remove.
    pub(crate) fn removed(&self) -> Vec<String> {
        let Self { fleet, brokers, sessions, observers, topics, left } = self;
        let place = format!("of fleet {fleet} at {}", brokers.join(", "));
        let kinds = [
            (*sessions, format!("ended the sessions of {}", words::counted(*sessions, "device", "devices"))),
            (*observers, format!("ended the sessions of {}", words::counted(*observers, "observer", "observers"))),
            (*topics, format!("removed the retained messages of {}", words::counted(*topics, "topic", "topics"))),
        ];
        let lines: Vec<_> =
            kinds.into_iter().filter(|(count, _)| *count > 0).map(|(_, what)| format!("{what} {place}")).collect();
        match (lines.is_empty() && left.is_empty(), brokers.is_empty()) {
            (true, true) => vec![format!(
                "nothing to remove: the broker of fleet {fleet} is simctl's own, which ends with the run; name another one \
                 with --broker"
            )],
            (true, false) => {
                vec![format!("nothing to remove: a run {place} leaves no sessions and no retained messages")]
            }
            (false, _) => lines,
        }
    }

    /// What stays, a line for each reason.
    pub(crate) fn left(&self) -> Vec<String> {
        self.left.iter().map(Remainder::line).collect()
    }
}

impl Remainder {
    fn line(&self) -> String {
        let Self { what, why, count, names } = self;
        let what = match what {
            What::Sessions => words::counted(*count, "session", "sessions"),
            What::RetainedMessages => words::counted(*count, "retained message", "retained messages"),
        };
        let more = names.len().saturating_sub(NAMES_MAX) as u64;
        let more = if more > 0 { format!(" and {} more", words::count(more)) } else { String::new() };
        let first: Vec<&str> = names.iter().take(NAMES_MAX).map(String::as_str).collect();
        format!("left {what} ({}{more}): {why}", first.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{flags::FleetFlags, settings::Settings};

    fn cleaned(broker: &str) -> Cleaned {
        let broker = vec![broker.parse().unwrap()];
        Cleaned::nothing(Settings::new(&FleetFlags { broker, ..FleetFlags::default() }).unwrap().fleet())
    }

    #[test]
    fn each_kind_that_was_removed_has_a_line_and_each_reason_why_something_stays() {
        let mut cleaned = cleaned("mqtt://lab");
        cleaned.sessions = 499;
        cleaned.leave(What::Sessions, &Stays::Refused("not_authorized".into()), "demo-7".into());
        let topic = |index: u32| format!("demo/{index}");
        cleaned.looked(1_007, Found { kept: (0..7).map(topic).collect(), unread: Vec::new() });
        cleaned.not_looked(vec!["demo/8".into()], &Stays::Silent);
        insta::assert_snapshot!([cleaned.removed(), cleaned.left()].concat().join("\n"), @r"
        ended the sessions of 499 devices of fleet demo at mqtt://lab:1883
        removed the retained messages of 1,000 topics of fleet demo at mqtt://lab:1883
        left 1 session (demo-7): the broker refuses the client: not_authorized
        left 7 retained messages (demo/0, demo/1, demo/2, demo/3, demo/4 and 2 more): still there after the broker took an empty message for the topic: does it let the device publish there, and does nobody else?
        left 1 retained message (demo/8): removed perhaps, but the observer could not look: the broker did not answer in time
        ");
        assert!(!cleaned.is_complete());
    }

    #[test]
    fn where_all_stays_nothing_is_said_to_be_removed() {
        let mut cleaned = cleaned("mqtt://lab");
        cleaned.leave(What::Sessions, &Stays::Silent, "demo-7".into());
        assert_eq!(cleaned.removed(), [""; 0]);
    }
}
