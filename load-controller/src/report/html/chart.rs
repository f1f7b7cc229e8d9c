//! Lines over an axis, drawn as SVG.

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

impl Chart {
    /// The chart as a figure with its legend; one without values says so.
    pub(super) fn render(&self) -> String {
        let mut figure = format!("<figure>\n<figcaption>{}", self.title);
        let drawn: Vec<&Series> = self.series.iter().filter(|series| !series.is_empty()).collect();
        for series in &drawn {
            figure.push_str(&format!(" <span class=\"key {}\">{}</span>", series.class, series.name));
        }
        if !self.marks.bands.is_empty() {
            figure.push_str(" <span class=\"key band\">outage</span>");
        }
        if !self.marks.faults.is_empty() {
            figure.push_str(" <span class=\"key fault\">fault</span>");
        }
        if !self.marks.events.is_empty() {
            figure.push_str(" <span class=\"key event\">event</span>");
        }
        figure.push_str("</figcaption>\n");
        match self.axes(&drawn) {
            Some((x, y)) => figure.push_str(&self.draw(&drawn, &x, &y)),
            None => figure.push_str("<p class=\"quiet\">Nothing was measured.</p>\n"),
        }
        figure.push_str("</figure>\n");
        figure
    }

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

    fn draw(&self, drawn: &[&Series], x: &Axis, y: &Axis) -> String {
        let mut svg = format!(
            "<svg class=\"{}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
            self.class, self.title
        );
        for phase in &self.marks.phases {
            svg.push_str(&phase.draw(x, y));
        }
        for (from, until) in &self.marks.bands {
            let (from, until) = (x.place(*from), x.place(until.min(x.high)));
            let (top, height, width) = (y.to, y.from - y.to, (until - from).max(1.0));
            svg.push_str(&format!(
                "<rect class=\"band\" x=\"{from:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{height}\"/>\n"
            ));
        }
        for fault in &self.marks.faults {
            svg.push_str(&fault.mark(x, y));
        }
        for tick in y.ticks() {
            let (at, label) = (y.place(tick), self.y.label(tick));
            let (right, text) = (x.to, LEFT - 8.0);
            svg.push_str(&format!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\n"
            ));
            svg.push_str(&format!("<text x=\"{text}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>\n", at + 4.0));
        }
        for tick in self.x_ticks(x) {
            let (at, label) = (x.place(tick), self.x.label(tick));
            svg.push_str(&format!(
                "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>\n",
                HEIGHT - 6.0
            ));
        }
        for series in drawn {
            svg.push_str(&series.draw(x, y));
        }
        svg.push_str(&self.columns(drawn, x, y));
        for (at, what) in &self.marks.events {
            let (at, what) = (x.place(at.min(x.high)), super::escape(what));
            // The line itself is too thin to be pointed at.
            let lines = ["event", "event near"].map(|class| {
                format!("<line class=\"{class}\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{}\" y2=\"{}\"/>", y.to, y.from)
            });
            svg.push_str(&format!("<g>{}<title>{what}</title></g>\n", lines.concat()));
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// What browsers show when the pointer is over a place of the x axis: its values. The points of all series have the same places,
    /// as far as they go.
    fn columns(&self, drawn: &[&Series], x: &Axis, y: &Axis) -> String {
        let longest = drawn.iter().map(|series| series.points.len()).max().unwrap_or_default();
        if longest == 0 {
            return String::new();
        }
        let step = longest.div_ceil(COLUMNS_MAX);
        let column = |first: usize| {
            let at = |index: usize| drawn.iter().find_map(|series| series.points.get(index)).map(|(at, _)| *at);
            let place = at(first)?;
            let left = x.place(place);
            let right = at(first + step).map_or(x.to, |next| x.place(next)).max(left + 1.0);
            let value = |series: &&Series| Some((series.name, series.points.get(first)?.1?));
            let lines = drawn.iter().filter_map(value).map(|(name, value)| format!("\n{name} {}", self.y.value(value)));
            Some(format!(
                "<rect class=\"column\" x=\"{left:.1}\" y=\"{}\" width=\"{:.1}\" height=\"{}\"><title>{}{}</title></rect>\n",
                y.to,
                right - left,
                y.from - y.to,
                self.x.value(place),
                lines.collect::<String>()
            ))
        };
        (0..longest).step_by(step).filter_map(column).collect()
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
    fn mark(&self, x: &Axis, y: &Axis) -> String {
        const HIGH: f64 = 6.0;
        if self.from > x.high {
            return String::new();
        }
        let (from, until) = (x.place(self.from), x.place(self.until.min(x.high)));
        let (top, width, name) = (y.from - HIGH, (until - from).max(3.0), super::escape(&self.name));
        format!(
            "<rect class=\"fault\" x=\"{from:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{HIGH}\"><title>{name}</title></rect>\n"
        )
    }

    fn draw(&self, x: &Axis, y: &Axis) -> String {
        let (from, until) = (x.place(self.from.min(x.high)), x.place(self.until.min(x.high)));
        let width = until - from;
        if width < 1.0 {
            return String::new();
        }
        let class = if self.is_measured { "phase measured" } else { "phase" };
        let (top, height) = (y.to, y.from - y.to);
        let mut svg =
            format!("<rect class=\"{class}\" x=\"{from:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{height}\"/>\n");
        svg.push_str(&format!(
            "<line class=\"edge\" x1=\"{from:.1}\" x2=\"{from:.1}\" y1=\"{top}\" y2=\"{}\"/>\n",
            y.from
        ));
        if width >= self.name.chars().count() as f64 * LETTER + 6.0 {
            let (left, line) = (from + 4.0, top + 11.0);
            svg.push_str(&format!(
                "<text class=\"name\" x=\"{left:.1}\" y=\"{line}\">{}</text>\n",
                super::escape(&self.name)
            ));
        }
        svg
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

    fn draw(&self, x: &Axis, y: &Axis) -> String {
        self.points
            .split(|(_, y)| y.is_none())
            .filter(|stretch| !stretch.is_empty())
            .map(|stretch| self.stretch(stretch, x, y))
            .collect()
    }

    fn stretch(&self, points: &[(f64, Option<f64>)], x: &Axis, y: &Axis) -> String {
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
        format!("<path class=\"{}\" d=\"{path}\"/>\n", self.class)
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
        let page = chart.render();
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
        let drawn = Series { name: "x", class: "one", points }.draw(&axis(), &axis());
        assert_eq!(drawn, "<path class=\"one\" d=\"M0.0,1.0L1.0,1.0\"/>\n<path class=\"one\" d=\"M3.0,1.0h0.1\"/>\n");
    }
}
