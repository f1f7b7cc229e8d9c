//! Lines over an axis, drawn as SVG.

use std::fmt;

use maud::{Markup, Render, html};

use crate::words;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;

/// A drawing with one pair of axes.
pub(super) struct Chart {
    pub(super) title: &'static str,
    /// Its class in the style sheet.
    pub(super) class: &'static str,
    pub(super) x: Ticks,
    pub(super) y: Ticks,
    pub(super) scale: Scale,
    pub(super) series: Vec<Series>,
    pub(super) marks: Marks,
}

/// What a chart shows beside its lines.
#[derive(Default)]
pub(super) struct Marks {
    /// Up to where the x axis goes at least.
    pub(super) until: f64,
    /// Stretches of the x axis that are shaded: the outages.
    pub(super) bands: Vec<(f64, f64)>,
    /// The phases of the run, one after the other.
    pub(super) phases: Vec<Stretch>,
    /// What went wrong on purpose.
    pub(super) faults: Vec<Stretch>,
    /// What else happened: where on the x axis, and in words.
    pub(super) events: Vec<(f64, String)>,
}

/// A named stretch of the x axis.
#[derive(Clone)]
pub(super) struct Stretch {
    pub(super) name: String,
    pub(super) from: f64,
    pub(super) until: f64,
    /// Whether its figures are those that count.
    pub(super) is_measured: bool,
}

/// The most columns that show their values when the pointer is over them.
const COLUMNS_MAX: usize = 240;

/// The width of a letter of a phase's name, about.
const LETTER: f64 = 6.5;

/// A line; it is interrupted where nothing was measured.
pub(super) struct Series {
    pub(super) name: &'static str,
    /// What browsers show when the pointer is over its name: what is drawn.
    pub(super) help: Option<&'static str>,
    /// Its class in the style sheet; `area` is filled.
    pub(super) class: &'static str,
    pub(super) points: Vec<(f64, Option<f64>)>,
}

/// How the y axis grows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    Logarithmic,
}

/// How the numbers at an axis read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ticks {
    Number,
    Time,
    /// 0, 1, 2, 3 stand for 0 %, 90 %, 99 %, 99.9 %.
    Nines,
}

/// From values to the drawing's coordinates.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    scale: Scale,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        let (low, high, value) = match self.scale {
            Scale::Linear => (self.low, self.high, value),
            Scale::Logarithmic => (self.low.log10(), self.high.log10(), value.max(self.low).log10()),
        };
        self.from + (value - low) / (high - low) * (self.to - self.from)
    }

    /// About half a dozen round values.
    #[expect(clippy::cast_possible_truncation, reason = "decades of times from microseconds to hours")]
    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = round_up((self.high - self.low) / 6.0);
                let mut ticks = Vec::new();
                let mut tick = self.low;
                while tick <= self.high + step * 1e-6 {
                    ticks.push(tick);
                    tick += step;
                }
                ticks
            }
            Scale::Logarithmic => {
                let decades = self.low.log10().round() as i32..=self.high.log10().round() as i32;
                decades.map(|decade| 10_f64.powi(decade)).collect()
            }
        }
    }
}

/// The next of 1, 2, 5, 10, 20, 50 … that is not smaller.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let step = [1.0, 2.0, 5.0].into_iter().find(|step| step * power >= value * 0.999_999).unwrap_or(10.0);
    step * power
}

/// A coordinate, to a tenth of a unit of the drawing.
struct Tenths(f64);

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1}", self.0)
    }
}

impl Render for Chart {
    /// The chart as a figure with its legend; one without values says so.
    fn render(&self) -> Markup {
        let drawn: Vec<&Series> = self.series.iter().filter(|series| !series.is_empty()).collect();
        html! {
            figure {
                figcaption {
                    (self.title)
                    @for series in &drawn { " " span.key.(series.class) title=[series.help] { (series.name) } }
                    @if !self.marks.bands.is_empty() { " " span.key.band { "outage" } }
                    @if !self.marks.faults.is_empty() { " " span.key.fault { "fault" } }
                    @if !self.marks.events.is_empty() { " " span.key.event { "event" } }
                }
                @match self.axes(&drawn) {
                    Some((x, y)) => { (self.draw(&drawn, &x, &y)) }
                    None => { p.quiet { "Nothing was measured." } }
                }
            }
        }
    }
}

impl Chart {
    /// Axes that hold all values; `None` where there are none.
    fn axes(&self, drawn: &[&Series]) -> Option<(Axis, Axis)> {
        let known = || drawn.iter().flat_map(|series| series.known());
        let right = known().map(|(x, _)| x).reduce(f64::max)?;
        let top = known().map(|(_, y)| y).reduce(f64::max)?;
        let bottom = known().map(|(_, y)| y).filter(|y| *y > 0.0).reduce(f64::min).unwrap_or(1e-6);
        let (low, high) = match self.scale {
            Scale::Linear => (0.0, round_up(top.max(1.0) / 6.0) * (top.max(1.0) / round_up(top.max(1.0) / 6.0)).ceil()),
            Scale::Logarithmic => {
                let low = 10_f64.powf(bottom.max(1e-6).log10().floor());
                (low, 10_f64.powf(top.max(low).log10().ceil()).max(low * 10.0))
            }
        };
        let x = Axis {
            low: 0.0,
            high: right.max(self.marks.until).max(1.0),
            from: LEFT,
            to: WIDTH - RIGHT,
            scale: Scale::Linear,
        };
        let y = Axis { low, high, from: HEIGHT - BOTTOM, to: TOP, scale: self.scale };
        Some((x, y))
    }

    /// An element of SVG is only closed by its end: each has a body, if an empty one.
    fn draw(&self, drawn: &[&Series], x: &Axis, y: &Axis) -> Markup {
        html! {
            svg class=(self.class) viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(self.title) {
                @for phase in &self.marks.phases { (phase.draw(x, y)) }
                @for (from, until) in &self.marks.bands {
                    @let (from, until) = (x.place(*from), x.place(until.min(x.high)));
                    rect.band x=(Tenths(from)) y=(y.to) width=(Tenths((until - from).max(1.0))) height=(y.from - y.to) {}
                }
                @for fault in &self.marks.faults { (fault.mark(x, y)) }
                @for tick in y.ticks() {
                    @let at = y.place(tick);
                    line.grid x1=(LEFT) x2=(x.to) y1=(Tenths(at)) y2=(Tenths(at)) {}
                    text x=(LEFT - 8.0) y=(Tenths(at + 4.0)) text-anchor="end" { (self.y.label(tick)) }
                }
                @for tick in self.x_ticks(x) {
                    text x=(Tenths(x.place(tick))) y=(HEIGHT - 6.0) text-anchor="middle" { (self.x.label(tick)) }
                }
                @for series in drawn { (series.draw(x, y)) }
                (self.columns(drawn, x, y))
                @for (at, what) in &self.marks.events {
                    @let at = x.place(at.min(x.high));
                    g {
                        // The line itself is too thin to be pointed at.
                        @for class in ["event", "event near"] {
                            line class=(class) x1=(Tenths(at)) x2=(Tenths(at)) y1=(y.to) y2=(y.from) {}
                        }
                        title { (what) }
                    }
                }
            }
        }
    }

    /// What browsers show when the pointer is over a place of the x axis: its values. The points of all series have the same places,
    /// as far as they go.
    fn columns(&self, drawn: &[&Series], x: &Axis, y: &Axis) -> Markup {
        let longest = drawn.iter().map(|series| series.points.len()).max().unwrap_or_default();
        let step = longest.div_ceil(COLUMNS_MAX).max(1);
        let at = |index: usize| drawn.iter().find_map(|series| series.points.get(index)).map(|(at, _)| *at);
        let values =
            |index: usize| drawn.iter().filter_map(move |series| Some((series.name, series.points.get(index)?.1?)));
        html! {
            @for first in (0..longest).step_by(step) {
                @if let Some(place) = at(first) {
                    @let left = x.place(place);
                    @let right = at(first + step).map_or(x.to, |next| x.place(next)).max(left + 1.0);
                    rect.column x=(Tenths(left)) y=(y.to) width=(Tenths(right - left)) height=(y.from - y.to) {
                        title {
                            (self.x.value(place))
                            @for (name, value) in values(first) { "\n" (name) " " (self.y.value(value)) }
                        }
                    }
                }
            }
        }
    }

    fn x_ticks(&self, x: &Axis) -> Vec<f64> {
        match self.x {
            Ticks::Nines => [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0].into_iter().filter(|nines| *nines <= x.high).collect(),
            Ticks::Number | Ticks::Time => x.ticks(),
        }
    }
}

impl Stretch {
    /// A bar on the x axis that tells its name when the pointer is over it.
    fn mark(&self, x: &Axis, y: &Axis) -> Markup {
        const HIGH: f64 = 6.0;
        if self.from > x.high {
            return Markup::default();
        }
        let (from, until) = (x.place(self.from), x.place(self.until.min(x.high)));
        html! {
            rect.fault x=(Tenths(from)) y=(y.from - HIGH) width=(Tenths((until - from).max(3.0))) height=(HIGH) {
                title { (self.name) }
            }
        }
    }

    fn draw(&self, x: &Axis, y: &Axis) -> Markup {
        let (from, until) = (x.place(self.from.min(x.high)), x.place(self.until.min(x.high)));
        let width = until - from;
        if width < 1.0 {
            return Markup::default();
        }
        let has_room = width >= self.name.chars().count() as f64 * LETTER + 6.0;
        html! {
            rect.phase.measured[self.is_measured] x=(Tenths(from)) y=(y.to) width=(Tenths(width)) height=(y.from - y.to) {}
            line.edge x1=(Tenths(from)) x2=(Tenths(from)) y1=(y.to) y2=(y.from) {}
            @if has_room {
                text.name x=(Tenths(from + 4.0)) y=(y.to + 11.0) { (self.name) }
            }
        }
    }
}

impl Ticks {
    /// A value in words.
    fn value(self, value: f64) -> String {
        match self {
            Self::Time => words::time(value),
            Self::Number => words::number(value),
            Self::Nines => format!("{:.*} %", precision(value.floor() + 3.0), 100.0 - 10_f64.powf(2.0 - value)),
        }
    }

    fn label(self, value: f64) -> String {
        match self {
            Self::Number if value == 0.0 => "0".into(),
            Self::Number if value < 1.0 => format!("{value:.1}"),
            Self::Number => short(value),
            Self::Time => short_time(value),
            Self::Nines if value < 0.5 => "0 %".into(),
            Self::Nines if value < 1.5 => "90 %".into(),
            Self::Nines if value < 2.5 => "99 %".into(),
            Self::Nines => format!("{:.*} %", precision(value), 100.0 - 10_f64.powf(2.0 - value)),
        }
    }
}

/// Decimals that 99.9, 99.99 … per cent need.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a handful of nines")]
fn precision(nines: f64) -> usize {
    (nines.round() - 2.0).max(0.0) as usize
}

fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{} M", v / 1e6),
        v if v >= 1e4 => format!("{} k", v / 1e3),
        v => words::number(v).trim_end_matches(".00").trim_end_matches(".0").into(),
    }
}

/// A round time without needless digits: `0 s`, `100 µs`, `10 ms`, `30 s`, `5m 00s`.
fn short_time(seconds: f64) -> String {
    match seconds {
        s if s <= 0.0 => "0 s".into(),
        s if s < 0.000_999 => format!("{:.0} µs", s * 1e6),
        s if s < 0.999 => format!("{:.0} ms", s * 1e3),
        s if s < 119.5 && s.fract() < 0.01 => format!("{s:.0} s"),
        s => words::time(s),
    }
}

impl Series {
    fn known(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.points.iter().filter_map(|(x, y)| y.map(|y| (*x, y)))
    }

    fn is_empty(&self) -> bool {
        self.known().next().is_none()
    }

    fn draw(&self, x: &Axis, y: &Axis) -> Markup {
        let stretches = self.points.split(|(_, y)| y.is_none()).filter(|stretch| !stretch.is_empty());
        html! {
            @for stretch in stretches { path class=(self.class) d=(self.path(stretch, x, y)) {} }
        }
    }

    fn path(&self, points: &[(f64, Option<f64>)], x: &Axis, y: &Axis) -> String {
        let mut path = String::new();
        for (number, (at, value)) in points.iter().enumerate() {
            let step = if number == 0 { 'M' } else { 'L' };
            path.push_str(&format!("{step}{:.1},{:.1}", x.place(*at), y.place(value.unwrap_or_default())));
        }
        if self.class == "area" {
            let ends = [points[points.len() - 1].0, points[0].0].map(|at| x.place(at));
            path.push_str(&format!("L{:.1},{:.1}L{:.1},{:.1}Z", ends[0], y.from, ends[1], y.from));
        }
        // A single point has no length, and only a round cap makes it visible.
        if points.len() == 1 && self.class != "area" {
            path.push_str("h0.1");
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::LOG10_2;

    use super::*;

    #[test]
    fn ticks_are_round() {
        let rounded = [0.7, 1.0, 13.0, 170.0, 5_000.0].map(|value| round_up(value).to_string());
        assert_eq!(rounded, ["1", "1", "20", "200", "5000"]);
        let axis = Axis { low: 0.0, high: 1_200.0, from: 0.0, to: 1.0, scale: Scale::Linear };
        assert_eq!(axis.ticks(), [0.0, 200.0, 400.0, 600.0, 800.0, 1_000.0, 1_200.0]);
    }

    #[test]
    fn labels_are_short() {
        assert_eq!(
            [0.0, 0.000_1, 0.01, 30.0, 300.0].map(|s| Ticks::Time.label(s)),
            ["0 s", "100 µs", "10 ms", "30 s", "5m 00s"]
        );
        assert_eq!(
            [0.0, 1.0, 2.0, 3.0, 4.0].map(|n| Ticks::Nines.label(n)),
            ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]
        );
        assert_eq!(
            [0.5, 50.0, 2_000.0, 50_000.0, 2e6].map(|n| Ticks::Number.label(n)),
            ["0.5", "50", "2,000", "50 k", "2 M"]
        );
    }

    #[test]
    fn a_percentile_tells_its_times_where_the_pointer_is() {
        let series = |name, time: f64, points: &[f64]| Series {
            name,
            help: None,
            class: "one",
            points: points.iter().map(|nines| (*nines, Some(time * (1.0 + nines)))).collect(),
        };
        let chart = Chart {
            title: "Latency by percentile",
            class: "",
            x: Ticks::Nines,
            y: Ticks::Time,
            scale: Scale::Logarithmic,
            series: vec![series("connect", 0.01, &[0.0, LOG10_2]), series("end to end", 0.001, &[0.0, LOG10_2, 2.0])],
            marks: Marks::default(),
        };
        let page = chart.render().into_string();
        let titles: Vec<&str> =
            page.split("<title>").skip(1).filter_map(|rest| rest.split("</title>").next()).collect();
        assert_eq!(
            titles,
            [
                "0.0 %\nconnect 10.0 ms\nend to end 1.00 ms",
                "50.0 %\nconnect 13.0 ms\nend to end 1.30 ms",
                "99.000 %\nend to end 3.00 ms"
            ]
        );
    }

    #[test]
    fn a_line_is_interrupted_where_nothing_was_measured() {
        let points = vec![(0.0, Some(1.0)), (1.0, Some(1.0)), (2.0, None), (3.0, Some(1.0))];
        let axis = || Axis { low: 0.0, high: 4.0, from: 0.0, to: 4.0, scale: Scale::Linear };
        let drawn = Series { name: "x", help: None, class: "one", points }.draw(&axis(), &axis());
        assert_eq!(
            drawn.into_string(),
            r#"<path class="one" d="M0.0,1.0L1.0,1.0"></path><path class="one" d="M3.0,1.0h0.1"></path>"#
        );
    }
}
