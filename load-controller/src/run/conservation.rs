//! The laws that the counters of messages obey at every moment; an instrument that breaks one cannot count.

use std::fmt;

use fleet_contract::stats::{Messages, Stats};

/// A law that the counters broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The law, as a formula.
    pub law: &'static str,
    /// Of which messages.
    pub of: Of,
    /// The left side.
    pub left: u64,
    /// The right side.
    pub right: u64,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { law, of, left, right } = self;
        write!(f, "{law} {of}: {left} against {right}")
    }
}

/// The messages whose counters broke a law.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Of {
    /// Those of a quality of service, 0 to 2.
    Qos(u8),
    /// Those of a stream of a group.
    Stream {
        /// The group.
        group: String,
        /// The stream.
        stream: String,
    },
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Qos(qos) => write!(f, "at QoS {qos}"),
            Self::Stream { group, stream } => write!(f, "in stream {stream} of group {group}"),
        }
    }
}

/// All laws that the counters break, for each quality of service and each stream; empty for an instrument that can count.
pub fn conservation(stats: &Stats) -> Vec<Violation> {
    let by_qos = (0..).zip(&stats.messages).flat_map(|(qos, messages)| broken(&Of::Qos(qos), qos, messages));
    let by_stream = stats.groups.streams().flat_map(|(group, stream, counted)| {
        let of = Of::Stream { group: group.into(), stream: stream.into() };
        broken(&of, counted.qos.into(), &counted.messages)
    });
    by_qos.chain(by_stream).collect()
}

fn broken(of: &Of, qos: u8, messages: &Messages) -> Vec<Violation> {
    let m = messages;
    // Only QoS 1 and 2 are acknowledged.
    let acknowledgeable = if qos == 0 { 0 } else { m.sent };
    let equal = [
        ("offered = sent + withheld", m.offered, m.sent.saturating_add(m.withheld)),
        ("sent = observed + unobserved", m.sent, m.observed.saturating_add(m.unobserved)),
    ];
    let at_most = [
        ("delivered + lost + unknown <= observed", m.delivered.saturating_add(m.lost + m.unknown), m.observed),
        ("acknowledged + abandoned <= sent", m.acknowledged.saturating_add(m.abandoned), acknowledgeable),
        ("withheld offline <= withheld", m.withheld_offline, m.withheld),
        ("lost acknowledged <= lost", m.lost_acknowledged, m.lost),
        ("late <= lost", m.late, m.lost),
    ];
    let broken_equal = equal.into_iter().filter(|(_, left, right)| left != right);
    let broken_at_most = at_most.into_iter().filter(|(_, left, right)| left > right);
    broken_equal
        .chain(broken_at_most)
        .map(|(law, left, right)| Violation { law, of: of.clone(), left, right })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture::{any_stats, stats_of};

    proptest! {
        #[test]
        fn sums_of_lawful_counters_are_lawful(parts in prop::collection::vec(any_stats(), 0..5)) {
            let mut sum = Stats::default();
            for part in &parts {
                sum.merge(part);
            }
            prop_assert_eq!(conservation(&sum), vec![]);
        }

        #[test]
        fn each_law_notices_one_message_too_many(part in any_stats(), field in 0_usize..8) {
            let mut stats = part;
            let m = &mut stats.messages[1];
            match field {
                0 => m.offered += 1,
                1 => m.withheld += 1,
                2 => m.sent += 1,
                3 => m.observed += 1,
                4 => m.delivered = m.observed + 1,
                5 => m.acknowledged = m.sent + 1,
                6 => m.lost_acknowledged = m.lost + 1,
                _ => m.late = m.lost + 1,
            }
            prop_assert!(!conservation(&stats).is_empty());
        }
    }

    #[test]
    fn a_violation_names_law_and_figures() {
        let mut stats = stats_of(10);
        stats.messages[1].offered += 2;
        assert_eq!(conservation(&stats)[0].to_string(), "offered = sent + withheld at QoS 1: 12 against 10");
    }

    #[test]
    fn qos_0_is_never_acknowledged() {
        let mut stats = stats_of(10);
        stats.messages[0] = stats.messages[1];
        assert_eq!(conservation(&stats)[0].law, "acknowledged + abandoned <= sent");
    }
}
