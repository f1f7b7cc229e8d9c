//! The report's page in a real browser: on a wide screen and on a phone, light and dark, and on paper.

use std::{fs, path::Path};

use serde_json::Value;
use tests::{
    chromium::{Chromium, Screen},
    run::Run,
};

use super::PATIENCE;

const DESK: Screen = Screen { width: 1_280, height: 900, is_dark: false };
const PHONE: Screen = Screen { width: 400, height: 800, is_dark: false };
/// A4 between margins, at 96 dots an inch.
const SHEET: Screen = Screen { width: 718, height: 1_000, is_dark: false };

/// What a browser measures: how wide the page is, what is cut off, how small letters are and how well they are to be told from what is
/// behind them (WCAG 2, 1.4.3), where the phases begin in each chart, and what is said where the pointer is.
const MEASURE: &str = "
const channels = text => (text.match(/[0-9.]+/g) || []).map(Number);
const linear = value => { const v = value / 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const behind = element => {
  for (let at = element; at; at = at.parentElement) {
    const found = channels(getComputedStyle(at).backgroundColor);
    if (found.length === 3 || found[3] === 1) return found;
  }
  return [255, 255, 255];
};
const said = element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
const shown = [...document.body.querySelectorAll('*')].filter(it => said(it) && !it.closest('script, style, title'));
const contrast = shown.map(it => {
  const style = getComputedStyle(it);
  const front = luminance(channels(it instanceof SVGElement ? style.fill : style.color)), back = luminance(behind(it));
  return [(Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05), it.textContent.trim().slice(0, 40)];
}).sort((a, b) => a[0] - b[0]);
const letters = [...document.querySelectorAll('svg text')].map(it => {
  const svg = it.ownerSVGElement, scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  return parseFloat(getComputedStyle(it).fontSize) * scale;
});
const cut = [...document.querySelectorAll('section, figure, header, ul, .tiles div')].filter(it =>
  it.scrollWidth > it.clientWidth + 1 && getComputedStyle(it).overflowX !== 'auto').map(it => it.textContent.slice(0, 60));
const edges = [...document.querySelectorAll('svg')].map(svg =>
  [...svg.querySelectorAll('line.edge')].map(line => line.getAttribute('x1'))).filter(edges => edges.length > 0);
const titles = chart => [...chart.querySelectorAll('title')].map(it => it.textContent);
const charts = [...document.querySelectorAll('svg')];
return {
  width: document.documentElement.scrollWidth, letters: Math.min(...letters), contrast: contrast[0], cut, edges,
  charts: charts.length, hovers: charts.map(chart => chart.querySelectorAll('.column title').length),
  events: titles(charts[0]).filter(it => /^(scale|pause|resume|rate|fault|worker lost): /.test(it)),
  foreign: document.querySelectorAll('script[src], link, img, iframe, object').length,
};";

/// A run with all that a page shows: phases, a fault, an outage, a pause, a change by hand.
fn page(folder: &Path) -> String {
    let document = "
apiVersion: simctl.io/v1alpha1
kind: Fleet
metadata: {name: robotaxis}
spec:
  devices: 60
  lossAfter: 2s
  connect: {rate: 200/s, backoff: {base: 200ms, cap: 400ms}, will: {topic: 'states/{id}', payload: offline, qos: 1}}
  groups:
    - {name: taxis-of-the-north, share: 60%, model: robotaxi}
    - {name: rooms, share: 40%, model: thermometer, streams: {reading: {interval: 500ms}}}
---
apiVersion: simctl.io/v1alpha1
kind: LoadTest
metadata: {name: rush-hour}
spec:
  fleet: robotaxis
  phases:
    - {name: ramp, duration: 3s, devices: {from: 0, to: 60}}
    - {name: steady, duration: 8s, measure: true}
    - {name: outage, duration: 4s, faults: [{kind: disconnect, share: 30%}]}
  thresholds:
    - {expect: 'end_to_end.p99 < 1s', phase: steady}
    - lost == 0
";
    let simctl = tests::simctl::Simctl::new().unwrap();
    fs::write(simctl.dir().join("rush.yaml"), document).unwrap();
    let report = folder.join("out");
    let run = Run::start_at(simctl, &["-f", "rush.yaml", "--report", report.to_str().unwrap()]).unwrap();
    run.wait_for_messages(100).unwrap();
    run.must(&["set", "rate=2"]).unwrap();
    run.must(&["pause"]).unwrap();
    run.wait_until("it has been paused", |report| report.seconds("paused_seconds") > 0.0).unwrap();
    run.must(&["resume"]).unwrap();
    let ended = run.end(PATIENCE).unwrap();
    let kinds: Vec<&str> = ended.report.list("events").iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["rate", "pause", "resume"], "{}", ended.report);
    fs::read_to_string(report.join("report.html")).unwrap()
}

#[track_caller]
fn check(found: &Value, screen: Screen) {
    assert_eq!(found["width"], screen.width, "nothing is wider than the screen: {found}");
    assert_eq!(found["cut"], serde_json::json!([]), "nothing is cut off: {found}");
    assert!(found["letters"].as_f64().unwrap() >= 9.0, "letters of charts are legible: {found}");
    assert!(found["contrast"][0].as_f64().unwrap() >= 4.5, "text is to be told from what is behind it: {found}");
}

#[test]
fn a_report_is_legible_on_a_desk_a_phone_and_paper() {
    let chromium = Chromium::find_or_unpack().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let page = page(folder.path());
    let ask = |page: &str, screen: Screen| chromium.ask(page, screen, MEASURE, folder.path()).unwrap();
    for screen in [DESK, Screen { is_dark: true, ..DESK }, PHONE, Screen { is_dark: true, ..PHONE }] {
        let found = ask(&page, screen);
        println!(
            "FIGURE {} px, dark {}: letters of {} px, contrast {}",
            screen.width, screen.is_dark, found["letters"], found["contrast"]
        );
        check(&found, screen);
        // Three charts over time and one of percentiles.
        assert_eq!(found["charts"], 4);
        let edges = found["edges"].as_array().unwrap();
        assert!(edges.len() == 3 && edges.iter().all(|of_chart| *of_chart == edges[0]), "one time axis: {found}");
        assert_eq!(edges[0].as_array().unwrap().len(), 3, "three phases");
        let hovers = found["hovers"].as_array().unwrap();
        assert!(hovers.iter().all(|values| values.as_u64().unwrap() > 10), "{found}");
        assert_eq!(found["events"].as_array().unwrap().len(), 3, "{found}");
        assert_eq!(found["foreign"], 0);
        let picture = folder.path().join("page.png");
        fs::write(folder.path().join("page.html"), &page).unwrap();
        chromium
            .draw(&folder.path().join("page.html"), Screen { height: 3_000, ..screen }, &picture, folder.path())
            .unwrap();
        let size = fs::metadata(&picture).unwrap().len();
        assert!(size > 30_000, "a picture of {size} bytes shows next to nothing");
    }
    // What is meant for paper, on a screen of its width.
    let printed = page.replace("@media print", "@media all");
    let found = ask(&printed, SHEET);
    check(&found, SHEET);
    let is_cut = "return [...document.querySelectorAll('section, figure')].filter(it => it.scrollWidth > it.clientWidth + 1).length;";
    assert_eq!(
        chromium.ask(&printed, SHEET, is_cut, folder.path()).unwrap(),
        0,
        "nothing can be moved sideways on paper"
    );
}
