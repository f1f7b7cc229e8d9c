//! A change of the plan while a run goes on.

use fleet_contract::{
    fleet::Fleet,
    plan::{Plan, Setting},
    time::Micros,
    units::{Factor, Share, Span},
};
use serde::{Deserialize, Serialize};

use super::timeline::EventKind;
use crate::words;

/// What is to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Change {
    /// How many devices there are, at once or over some time.
    Devices {
        /// So many.
        devices: u32,
        /// How long they take to come or to leave.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        over: Option<Span>,
    },
    /// Whether they hold their messages back.
    Paused {
        /// Whether they do.
        paused: bool,
    },
    /// The interval of a stream, or of each periodic one.
    Interval {
        /// From a message to the next.
        interval: Span,
        /// The stream.
        stream: Option<String>,
    },
    /// How much faster a stream goes than its interval says, or each periodic one; at once or over some time.
    Rate {
        /// So many times as fast.
        factor: Factor,
        /// The stream.
        stream: Option<String>,
        /// How long it takes to get there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        over: Option<Span>,
    },
    /// Which share of the devices loses its connections now.
    Disconnect {
        /// That share.
        disconnect: Share,
    },
}

impl Change {
    /// `plan` with this change from `at` on; `Err` says what is wrong with it.
    pub fn of(&self, plan: &Plan, fleet: &Fleet, at: Micros) -> Result<Plan, String> {
        let mut plan = plan.clone();
        match self {
            Self::Devices { devices, over: None } => plan.set(at, Setting::Devices(*devices)),
            Self::Devices { devices, over: Some(over) } => plan.set(at, Setting::Ramp { to: *devices, over: *over }),
            Self::Paused { paused } => plan.set(at, Setting::Paused(*paused)),
            Self::Interval { interval: Span::ZERO, .. } => {
                return Err("expected an interval of more than no time, found `0s`".into());
            }
            Self::Interval { stream, interval } => {
                check_periodic(fleet, stream.as_deref())?;
                plan.set(at, Setting::Interval { stream: stream.clone(), interval: Some(*interval) });
            }
            Self::Rate { factor, stream, over } => {
                check_periodic(fleet, stream.as_deref())?;
                let over = over.unwrap_or_default();
                plan.set(at, Setting::Rate { group: None, stream: stream.clone(), factor: Some(*factor), over });
            }
            Self::Disconnect { disconnect } => plan.disconnect(at, *disconnect),
        }
        plan.forget(at, fleet.spec.connect.rate);
        Ok(plan)
    }

    /// What a report says of it; nothing of a pause, which shows by itself.
    pub fn event(&self) -> Option<(EventKind, String)> {
        let over = |over: &Option<Span>| over.map(|over| format!(" over {over}")).unwrap_or_default();
        let of = |stream: &Option<String>| stream.as_ref().map(|stream| format!(" of {stream}")).unwrap_or_default();
        Some(match self {
            Self::Devices { devices, over: time } => {
                let devices = words::counted((*devices).into(), "device", "devices");
                (EventKind::Scale, format!("to {devices}{}", over(time)))
            }
            Self::Paused { .. } => return None,
            Self::Interval { interval, stream } => (EventKind::Interval, format!("{interval}{}", of(stream))),
            Self::Rate { factor, stream, over: time } => {
                (EventKind::Rate, format!("{} times as fast{}{}", factor.get(), of(stream), over(time)))
            }
            Self::Disconnect { disconnect } => (EventKind::Fault, format!("disconnect of {disconnect} of the devices")),
        })
    }

    /// Whether it does something to devices that only the native engine can do.
    pub const fn is_fault(&self) -> bool {
        matches!(self, Self::Disconnect { .. })
    }
}

fn check_periodic(fleet: &Fleet, stream: Option<&str>) -> Result<(), String> {
    let Some(wanted) = stream else { return Ok(()) };
    let periodic = periodic_streams(fleet);
    if periodic.contains(&wanted) {
        return Ok(());
    }
    Err(format!("expected a periodic stream of the fleet: {}; found `{wanted}`", periodic.join(", ")))
}

/// The names of the streams with an interval, each once.
fn periodic_streams(fleet: &Fleet) -> Vec<&str> {
    let models = fleet.spec.groups.iter().filter_map(|group| fleet.spec.models.get(&group.model));
    let streams = models.flat_map(|model| &model.streams).filter(|(_, stream)| stream.interval.is_some());
    let mut names: Vec<_> = streams.map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::facts;

    #[track_caller]
    fn check(text: &str, expected: Option<&Change>) {
        assert_eq!(serde_json::from_str(text).ok().as_ref(), expected);
    }

    #[test]
    fn changes_read_as_documented() {
        check(r#"{"devices": 500}"#, Some(&Change::Devices { devices: 500, over: None }));
        let over = Some(Span::from_secs(60));
        check(r#"{"devices": 500, "over": "1m"}"#, Some(&Change::Devices { devices: 500, over }));
        check(
            r#"{"factor": "2", "over": "1m"}"#,
            Some(&Change::Rate { factor: Factor(2_000_000), stream: None, over }),
        );
        let share = Share::from_basis_points(3_000).unwrap();
        check(r#"{"disconnect": "30%"}"#, Some(&Change::Disconnect { disconnect: share }));
        check(r#"{"paused": true}"#, Some(&Change::Paused { paused: true }));
        let interval = Span::from_millis(200);
        check(r#"{"interval": "200ms", "stream": null}"#, Some(&Change::Interval { interval, stream: None }));
        check(r#"{"interval": "200ms"}"#, Some(&Change::Interval { interval, stream: None }));
        check(r#"{"device": 500}"#, None);
    }

    #[test]
    fn streams_that_follow_a_rule_have_no_interval_to_set() {
        let text = r"{signals: {}, streams: {
            state: {topic: a, interval: 1s, payload: {text: x}},
            alarm: {topic: b, trigger: {change: {signal: x}}, payload: {text: x}}}}";
        let mut fleet = facts().fleet;
        fleet.spec.models.insert("thermometer".into(), serde_saphyr::from_str(text).unwrap());
        assert_eq!(periodic_streams(&fleet), ["state"]);
        let plan = Plan::of(1, Micros(0), &fleet.spec);
        let interval = |stream: &str| Change::Interval { interval: Span::from_secs(1), stream: Some(stream.into()) };
        assert!(interval("state").of(&plan, &fleet, Micros(9)).is_ok());
        let refused = interval("alarm").of(&plan, &fleet, Micros(9)).unwrap_err();
        assert_eq!(refused, "expected a periodic stream of the fleet: state; found `alarm`");
    }
}
