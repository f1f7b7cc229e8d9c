//! What the words of reports, tables and documents mean, in a sentence each.
//!
//! A counter or a time brings its own sentence, which metrics and reports show, too. The words here are those that no table has.

use crate::{
    series::{COUNTERS, DISTRIBUTIONS},
    stats::WILLS,
};

/// A word and what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// As reports write it in JSON: in small letters, with underscores.
    pub name: &'static str,
    /// A sentence or two.
    pub meaning: &'static str,
}

/// Words that are no counter and no time.
const OTHERS: &[Word] = &[
    Word { name: "device", meaning: "One simulated sensor, meter or vehicle. It has one MQTT session of its own." },
    Word { name: "worker", meaning: "A process, in a cluster a pod, that runs a shard of the devices." },
    Word { name: "shard", meaning: "The devices of one worker, which are neighbours by their index." },
    Word {
        name: "observer",
        meaning: "An MQTT client beside the devices that subscribes to what they publish. It knows what was delivered.",
    },
    Word {
        name: "sample",
        meaning: "The devices that the observer follows where it cannot follow all. What they come to stands for the fleet.",
    },
    Word {
        name: "due",
        meaning: "The instant at which a message is meant to be sent, by the timetable of its stream. Times count from there.",
    },
    Word { name: "phase", meaning: "A part of a load test. A message belongs to the phase in which it was due." },
    Word {
        name: "plan",
        meaning: "How many devices there are to be, how fast they send and which faults hit them, at each instant.",
    },
    Word {
        name: "fault",
        meaning: "A trouble that a load test causes on purpose. The report counts which devices it hit and what it did.",
    },
    Word {
        name: "threshold",
        meaning: "A bound that a figure must keep, such as `end_to_end.p99 < 250ms`. One that is not met fails the run.",
    },
    Word {
        name: "epoch",
        meaning: "The instant at which the process of a worker began. It tells a pod's process from the one before.",
    },
    Word {
        name: "stamp",
        meaning: "What each message carries so that the observer can tell it: device, stream, sequence number and due instant.",
    },
    Word { name: "takeover", meaning: "A broker ended a session because another client came with the same client id." },
    Word { name: "desired", meaning: "Devices that the plan wants at this instant." },
    Word { name: "connected", meaning: "Devices whose session the broker has accepted and that still have it." },
    Word { name: "missing", meaning: "Devices that are desired and not connected." },
    Word {
        name: "passed",
        meaning: "The verdict of a run in which nothing was broken that was promised, and all thresholds were met.",
    },
    Word {
        name: "failed",
        meaning: "The verdict of a run in which the backend lost, doubled or refused something, or missed a threshold.",
    },
    Word {
        name: "invalid",
        meaning: "The verdict of a run whose figures nobody can trust: the generator was late, or nothing was measured.",
    },
];

/// What always holds between counters, to the last message.
const LAWS: &[&str] =
    &["offered = sent + withheld", "sent = observed + unobserved", "observed = delivered + lost + unknown + in_flight"];

/// All words: those of messages in the order of reports, times, wills, and others.
pub fn words() -> impl Iterator<Item = Word> {
    let counters = COUNTERS.iter().map(|counter| Word { name: counter.key, meaning: counter.metric.help });
    let times = DISTRIBUTIONS.iter().map(|times| Word { name: times.key, meaning: times.metric.help });
    let wills = WILLS.iter().map(|counter| Word { name: counter.key, meaning: counter.help.trim_ascii_start() });
    counters.chain(times).chain(wills).chain(OTHERS.iter().copied())
}

/// The word as somebody may type it: `In Flight`, `in-flight` and `in_flight` are one.
pub fn find(typed: &str) -> Option<Word> {
    let name = name_of(typed);
    words().find(|word| word.name == name)
}

/// What was typed as a name.
pub fn name_of(typed: &str) -> String {
    typed.trim().to_lowercase().replace(['-', ' '], "_")
}

/// The laws in which a counter stands.
pub fn laws_of(name: &str) -> impl Iterator<Item = &'static str> {
    LAWS.iter().copied().filter(move |law| law.split(' ').any(|word| word == name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_word_has_one_meaning_in_whole_sentences() {
        let mut names = BTreeSet::new();
        for Word { name, meaning } in words() {
            assert!(names.insert(name), "{name} stands twice");
            assert_eq!(name, name_of(name), "{name}");
            assert!(meaning.ends_with('.') && meaning.len() > 10, "{name}: {meaning}");
        }
        assert!(names.len() > 40, "{names:?}");
    }

    #[test]
    fn a_word_is_found_however_it_is_typed() {
        for typed in ["in_flight", "in-flight", " In Flight "] {
            assert_eq!(find(typed).unwrap().meaning, "Observed messages that are not judged yet.");
        }
        assert_eq!(find("publish-ack").unwrap().name, "publish_ack");
        assert_eq!(find("offer"), None);
    }

    #[test]
    fn laws_are_of_counters_and_told_with_each() {
        for name in LAWS.iter().flat_map(|law| law.split(' ')).filter(|name| !["=", "+"].contains(name)) {
            assert!(COUNTERS.iter().any(|counter| counter.key == name), "{name}");
        }
        assert_eq!(laws_of("sent").collect::<Vec<_>>(), ["offered = sent + withheld", "sent = observed + unobserved"]);
        assert_eq!(laws_of("late").count(), 0);
    }
}
