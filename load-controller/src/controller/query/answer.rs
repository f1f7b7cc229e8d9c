//! An answer as JSON within its limit: what is left out of a larger one, and how that is said. Pure.

use std::{cmp::Reverse, collections::BTreeMap};

use fleet_contract::worker::DeviceStatus;
use serde::Serialize;

use crate::{
    report::Report,
    resource::fleet_query::{ANSWER_BYTES_MAX, PodReport, PodsOfFleets, QueryError, QueryReason},
    words,
};

/// Points of a report's timeline, the newest ones: an answer is written each second while somebody watches.
const POINTS_MAX: usize = 60;

/// Clocks of workers, those that are farthest off, in an answer that is written as often.
const CLOCKS_MAX: usize = 16;

/// Bytes of a payload in an answer that would be too large with the whole ones.
const PAYLOAD_BYTES_MAX: usize = 512;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The figures.
    pub json: String,
    /// What was left out.
    pub cut: Option<String>,
}

/// A report without the oldest points of its timeline, and without the nearest clocks.
pub fn report(mut report: Report) -> Result<Answer, QueryError> {
    let (points, clocks) = (&mut report.timeline.points, &mut report.manifest.clocks);
    let (all, surplus) = (points.len(), points.len().saturating_sub(POINTS_MAX));
    points.drain(..surplus);
    let old = (surplus > 0).then(|| {
        format!("{} of {} of the timeline are left out, the oldest", words::count(surplus as u64), points_of(all))
    });
    let (all, surplus) = (clocks.len(), clocks.len().saturating_sub(CLOCKS_MAX));
    clocks.truncate(CLOCKS_MAX);
    let near = (surplus > 0)
        .then(|| format!("all but the {CLOCKS_MAX} farthest of {} clocks are left out", words::count(all as u64)));
    let cut: Vec<String> = old.into_iter().chain(near).collect();
    whole(&report, (!cut.is_empty()).then(|| cut.join("; ")))
}

/// Pods; of too many, those that lack the fewest devices are left out.
pub fn pods(pods: &PodsOfFleets) -> Result<Answer, QueryError> {
    let mut worst: Vec<(&str, &PodReport)> =
        pods.iter().flat_map(|(fleet, pods)| pods.iter().map(move |pod| (fleet.as_str(), pod))).collect();
    worst.sort_by_key(|(_, pod)| (pod.answers, Reverse(pod.desired.saturating_sub(pod.connected))));
    // The braces, and for each fleet its name, quotes, brackets, colon and comma.
    let mut bytes = 2 + pods.keys().map(|fleet| fleet.len() + 6).sum::<usize>();
    let mut kept: BTreeMap<&str, Vec<&PodReport>> = pods.keys().map(|fleet| (fleet.as_str(), Vec::new())).collect();
    let mut count = 0;
    for (fleet, pod) in &worst {
        bytes += json(pod)?.len() + 1;
        if bytes > ANSWER_BYTES_MAX {
            break;
        }
        kept.entry(*fleet).or_default().push(*pod);
        count += 1;
    }
    kept.values_mut().for_each(|pods| pods.sort_by_key(|pod| pod.ordinal));
    let left_out = worst.len() - count;
    let cut = (left_out > 0).then(|| {
        let (left_out, all) = (words::count(left_out as u64), words::count(worst.len() as u64));
        format!("{left_out} of {all} pods are left out, those that lack the fewest devices")
    });
    whole(&kept, cut)
}

/// A device; of one with too much payload, each payload is cut.
pub fn device(mut device: DeviceStatus) -> Result<Answer, QueryError> {
    if json(&device)?.len() <= ANSWER_BYTES_MAX {
        return whole(&device, None);
    }
    for stream in &mut device.streams {
        let end = stream.payload.floor_char_boundary(PAYLOAD_BYTES_MAX);
        stream.payload.truncate(end);
    }
    whole(&device, Some(format!("of each payload only the first {PAYLOAD_BYTES_MAX} bytes are shown")))
}

/// Something that cannot be cut.
pub fn whole(value: &impl Serialize, cut: Option<String>) -> Result<Answer, QueryError> {
    let json = json(value)?;
    if json.len() > ANSWER_BYTES_MAX {
        let (bytes, limit) = (words::count(json.len() as u64), words::count(ANSWER_BYTES_MAX as u64));
        return Err(QueryError::new(
            QueryReason::TooLarge,
            format!("the answer has {bytes} bytes, and a FleetQuery takes {limit}"),
        ));
    }
    Ok(Answer { json, cut })
}

fn json(value: &impl Serialize) -> Result<String, QueryError> {
    serde_json::to_string(value).map_err(|error| QueryError::new(QueryReason::Unknown, error.to_string()))
}

fn points_of(number: usize) -> String {
    words::counted(number as u64, "point", "points")
}

#[cfg(test)]
mod tests {
    use fleet_contract::{clock::Offset, model::payload::Format, time::Micros, units::Span, worker::StreamStatus};

    use super::*;
    use crate::{
        fixture::{facts, stats_of},
        run::timeline::Point,
    };

    fn pod(ordinal: u32, lacks: u32) -> PodReport {
        PodReport {
            // As long as names of pods and nodes get with most of the managed clusters.
            pod: format!("{}-{ordinal}", "f".repeat(40)),
            ordinal,
            first: ordinal * 1_000,
            desired: 1_000,
            connected: 1_000 - lacks,
            messages_per_second: 1_234.567_890_123_4,
            cpu_cores: 0.123_456_789_012_345_6,
            memory_bytes: 14_680_064,
            plan_version: Some(1_234),
            epoch: Some(Micros(1_700_000_000_000_000)),
            answers: true,
            node: Some("n".repeat(63)),
        }
    }

    fn fleets(pods: u32, lacks: impl Fn(u32) -> u32) -> PodsOfFleets {
        [("f".to_owned(), (0..pods).map(|ordinal| pod(ordinal, lacks(ordinal))).collect())].into()
    }

    #[test]
    fn five_hundred_pods_fit() {
        let answer = pods(&fleets(500, |_| 0)).unwrap();
        println!("FIGURE the answer for 500 pods has {} bytes", answer.json.len());
        assert_eq!(answer.cut, None);
        let read: PodsOfFleets = serde_json::from_str(&answer.json).unwrap();
        assert_eq!(read, fleets(500, |_| 0));
    }

    #[test]
    fn of_too_many_pods_the_worst_are_kept_in_their_order() {
        let answer = pods(&fleets(5_000, |ordinal| u32::from(ordinal % 1_000 == 7))).unwrap();
        assert!(answer.json.len() <= ANSWER_BYTES_MAX && answer.json.len() > ANSWER_BYTES_MAX - 1_000);
        let read: PodsOfFleets = serde_json::from_str(&answer.json).unwrap();
        let ordinals: Vec<u32> = read["f"].iter().map(|pod| pod.ordinal).collect();
        assert!([7, 1_007, 2_007, 3_007, 4_007].iter().all(|worst| ordinals.contains(worst)));
        assert!(ordinals.is_sorted());
        let left_out = words::count(5_000 - ordinals.len() as u64);
        assert_eq!(
            answer.cut,
            Some(format!("{left_out} of 5,000 pods are left out, those that lack the fewest devices"))
        );
    }

    #[test]
    fn a_fleet_without_pods_is_named_too() {
        let answer = pods(&[("f".to_owned(), Vec::new())].into()).unwrap();
        assert_eq!(answer.json, r#"{"f":[]}"#);
    }

    #[test]
    fn a_report_keeps_the_newest_points() {
        let mut full = Report::new(&stats_of(100), &facts());
        full.timeline.points = (0..1_024).map(|at| Point { at: f64::from(at), ..Point::default() }).collect();
        let answer = report(full.clone()).unwrap();
        assert!(answer.json.len() < 48 << 10, "{} bytes", answer.json.len());
        assert_eq!(answer.cut.as_deref(), Some("964 of 1,024 points of the timeline are left out, the oldest"));
        let read: Report = serde_json::from_str(&answer.json).unwrap();
        assert_eq!(read.timeline.points, full.timeline.points[964..]);
        full.timeline.points.truncate(3);
        assert_eq!(report(full.clone()).unwrap().cut, None);
        let clock = |number: u32| (format!("f-{number}"), Offset { ahead: i64::from(number), bound: Span(1) });
        full.manifest.clocks = {
            let mut facts = facts();
            facts.workers.clocks = (0..1_000).map(clock).collect();
            Report::new(&stats_of(100), &facts).manifest.clocks
        };
        let answer = report(full).unwrap();
        assert_eq!(answer.cut.as_deref(), Some("all but the 16 farthest of 1,000 clocks are left out"));
        let read: Report = serde_json::from_str(&answer.json).unwrap();
        assert_eq!(read.manifest.clocks.first().unwrap().worker, "f-999");
    }

    #[test]
    fn a_device_with_huge_payloads_keeps_the_beginning_of_each() {
        let stream = |payload: &str| StreamStatus {
            name: "s".into(),
            topic: "t".into(),
            qos: 1,
            next_due: None,
            sent: 1,
            settled: 1,
            in_flight: 0,
            format: Format::Json,
            payload: payload.into(),
            decoded: None,
        };
        let mut known = DeviceStatus {
            index: 1,
            client_id: "c".into(),
            group: "g".into(),
            model: "m".into(),
            state: "up".into(),
            last_error: None,
            said: None,
            connects_at: None,
            sessions: 1,
            in_flight: 0,
            streams: vec![stream("short")],
        };
        assert_eq!(device(known.clone()).unwrap().cut, None);
        known.streams.push(stream(&"€".repeat(100_000)));
        let answer = device(known).unwrap();
        assert_eq!(answer.cut.as_deref(), Some("of each payload only the first 512 bytes are shown"));
        let read: DeviceStatus = serde_json::from_str(&answer.json).unwrap();
        assert_eq!(read.streams[1].payload, "€".repeat(170));
        assert_eq!(read.streams[0].payload, "short");
    }

    #[test]
    fn what_cannot_be_cut_is_an_error() {
        let error = whole(&"x".repeat(300_000), None).unwrap_err();
        assert_eq!(error.reason, QueryReason::TooLarge);
        assert_eq!(error.message, "the answer has 300,002 bytes, and a FleetQuery takes 262,144");
    }
}
