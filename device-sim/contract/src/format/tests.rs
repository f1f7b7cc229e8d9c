//! What other releases wrote: recorded from the programs of release 0.1, and texts of a format that nobody knows yet.
//!
//! The recorded worker ran 20 devices and then 15, of two groups, and was read after 22 seconds. The totals are its
//! reading as the sum of one ended epoch.

use super::*;
use crate::{
    plan::{Plan, Setting},
    stats::{Ended, Totals, WorkerStats},
    time::Micros,
    units::{Rate, Share, Span},
    worker::Document,
};

const PLAN: &str = include_str!("release-0.1/plan.json");
const DOCUMENT: &str = include_str!("release-0.1/document.json");
const READING: &str = include_str!("release-0.1/reading.json");
const TOTALS: &str = include_str!("release-0.1/totals.json");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(default)]
    format: Format,
    number: u32,
}

fn recorded<T: DeserializeOwned>(text: &str) -> T {
    read(text.as_bytes()).unwrap()
}

#[test]
fn a_text_is_read_when_its_format_is_known() {
    for (text, format) in [(r#"{"number": 7}"#, Format::FIRST), (r#"{"number": 7, "format": 2}"#, Format::SECOND)] {
        let read: Text = recorded(text);
        assert_eq!((read.number, read.format), (7, format));
    }
}

#[test]
fn a_newer_text_is_named_as_such_whatever_else_it_holds() {
    let error = read::<Text>(br#"{"numbers": [7], "format": 9}"#).unwrap_err().to_string();
    assert_eq!(error, "expected format 4 or an older one, found format 9, which a newer release wrote");
    let error = read::<Text>(br#"{"number": "#).unwrap_err().to_string();
    assert!(error.starts_with("EOF while parsing"), "{error}");
}

#[test]
fn a_plan_of_release_0_1_means_what_it_meant_and_is_written_as_it_was() {
    let plan: Plan = recorded(PLAN);
    let population = plan.population(Rate::per_second(100.0).unwrap());
    let (start, settled) = (plan.start, population.settles());
    assert_eq!((plan.version, plan.run, plan.devices_wanted()), (5, 3_445_934_276, 15));
    assert_eq!((population.at(start.after(Span::from_secs(10))), population.at(settled)), (20, 15));
    assert!(!plan.is_paused(start) && plan.is_paused(Micros::NEVER));
    let written: serde_json::Value = serde_json::to_value(&plan).unwrap();
    assert_eq!(written, serde_json::from_str::<serde_json::Value>(PLAN).unwrap());
}

#[test]
fn a_plan_tells_from_which_release_on_it_is_understood() {
    let format = |plan: &Plan| serde_json::to_value(plan).unwrap().get("format").and_then(serde_json::Value::as_u64);
    let mut plan: Plan = recorded(PLAN);
    plan.set(plan.start.after(Span::from_secs(100)), Setting::Devices(40));
    assert_eq!(format(&plan), None, "release 0.1 knows no such field");
    plan.disconnect(plan.start.after(Span::from_secs(110)), Share::from_basis_points(3_000).unwrap());
    assert_eq!(format(&plan), Some(2));
    assert_eq!(recorded::<Plan>(&serde_json::to_string(&plan).unwrap()), plan);
}

#[test]
fn a_document_of_release_0_1_is_read() {
    let document: Document = recorded(DOCUMENT);
    let groups: Vec<_> = document.fleet.spec.groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!((groups, document.fleet.spec.devices_per_pod), (vec!["taxis", "rooms"], 20));
    assert_eq!(document.fleet.spec.models.keys().map(String::as_str).collect::<Vec<_>>(), ["robotaxi", "thermometer"]);
}

#[test]
fn a_worker_of_release_0_1_is_counted_to_the_message() {
    let reading: WorkerStats = recorded(READING);
    assert_eq!((reading.format, reading.plan_version, reading.stats.devices.connected), (Format::FIRST, 2, 15));
    let mut totals = Totals::resume(recorded::<Ended>(TOTALS));
    assert_eq!((totals.ended().workers_lost, totals.sum().all_messages().sent), (1, 673));
    totals.take(0, reading.clone());
    assert_eq!(totals.sum().all_messages().sent, 673, "it is the epoch that has ended");
    totals.take(1, reading);
    let sum = totals.sum();
    assert_eq!((sum.messages[0].delivered, sum.messages[1].acknowledged), (1_324, 22));
    assert_eq!((sum.latency.publish_ack.count(), sum.latency.end_to_end.count()), (22, 1_346));
    assert!(sum.groups.is_empty(), "release 0.1 does not tell streams apart");
}
