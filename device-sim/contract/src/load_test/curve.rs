//! A number that changes while a phase lasts, as straight lines.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Span;

/// The straight lines that stand for an exponential curve, and for a period of a wave: each is off by less than a per cent of
/// the whole.
const PIECES: u32 = 32;

/// A number that holds, or a course that it takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Curve<T> {
    /// It holds from the beginning of the phase on.
    Hold(T),
    /// It takes a course.
    Course(Course<T>),
}

/// The course of a number: exactly one of `to`, `spike`, `wave` and `points`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, bound(deserialize = "T: Deserialize<'de>"))]
pub struct Course<T> {
    /// What it begins with; without it with what it was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<T>,
    /// What it is at the end of the phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<T>,
    /// How it gets there.
    #[serde(default, skip_serializing_if = "Shape::is_default")]
    pub shape: Shape,
    /// In how many steps of equal length and height it gets there; the first is at the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4_096))]
    pub steps: Option<u32>,
    /// What it is as long as the phase lasts; at its end it is what it was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spike: Option<T>,
    /// It goes up and down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<Wave<T>>,
    /// What it is at some instants, with straight lines between them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<Point<T>>,
}

/// How a number gets from one value to another.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Shape {
    /// In a straight line.
    #[default]
    Linear,
    /// By the same factor in equal times.
    Exponential,
}

impl Shape {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A sine: it begins at the mean and goes up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Wave<T> {
    /// What it is in the middle.
    pub mean: T,
    /// How far it goes up and down from there.
    pub amplitude: T,
    /// How long it takes to come back to where it was: `24h` for a day's curve.
    pub period: Span,
}

/// A value at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Point<T> {
    /// When, from the beginning of the phase on.
    pub at: Span,
    /// What it is then.
    pub value: T,
}

/// A straight line of a curve: from what it is `after` the beginning of the phase, in `over`, to `to`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Segment {
    /// When it begins, from the beginning of the phase on.
    pub after: Span,
    /// The value at its end.
    pub to: f64,
    /// How long it takes; no time is a jump.
    pub over: Span,
}

impl<T: Copy + Into<f64>> Curve<T> {
    /// The curve of a phase that lasts so long, from the value `before` it; no segment reaches beyond the phase.
    pub fn segments(&self, before: f64, lasts: Span) -> Vec<Segment> {
        let mut segments = Vec::new();
        let jump = |after, to| Segment { after, to, over: Span::ZERO };
        let course = match self {
            Self::Hold(value) => return vec![jump(Span::ZERO, (*value).into())],
            Self::Course(course) => course,
        };
        let from = course.from.map_or(before, Into::into);
        if course.from.is_some() {
            segments.push(jump(Span::ZERO, from));
        }
        if let Some(to) = course.to.map(Into::into) {
            match (course.steps, course.shape) {
                (Some(steps), _) => segments.extend((0..steps).map(|step| {
                    let share = f64::from(step + 1) / f64::from(steps);
                    jump(part(lasts, step, steps), (to - from).mul_add(share, from))
                })),
                (None, Shape::Linear) => segments.push(Segment { after: Span::ZERO, to, over: lasts }),
                (None, Shape::Exponential) => segments.extend(exponential(from, to, lasts)),
            }
        }
        if let Some(spike) = course.spike {
            segments.extend([jump(Span::ZERO, spike.into()), jump(lasts, from)]);
        }
        if let Some(wave) = &course.wave {
            segments.extend(wave.segments(lasts));
        }
        let mut last = Span::ZERO;
        for point in &course.points {
            let over = Span(point.at.0.saturating_sub(last.0));
            segments.push(Segment { after: last, to: point.value.into(), over });
            last = point.at;
        }
        segments
    }

    /// The largest value that it takes.
    pub fn most(&self, before: f64, lasts: Span) -> f64 {
        self.segments(before, lasts).iter().map(|segment| segment.to).fold(f64::MIN, f64::max)
    }
}

/// The instant of a part of a span: `number` of `of` equal ones.
fn part(span: Span, number: u32, of: u32) -> Span {
    let micros = u128::from(span.0) * u128::from(number) / u128::from(of.max(1));
    Span(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// By the same factor in equal times; nothing grows from 0, so that it begins there with 1, or ends.
fn exponential(from: f64, to: f64, lasts: Span) -> impl Iterator<Item = Segment> {
    let (low, high) = (from.max(1.0), to.max(1.0));
    (0..PIECES).map(move |piece| {
        let after = part(lasts, piece, PIECES);
        let end = part(lasts, piece + 1, PIECES);
        let share = f64::from(piece + 1) / f64::from(PIECES);
        let value = if piece + 1 == PIECES { to } else { low * (high / low).powf(share) };
        Segment { after, to: value, over: Span(end.0 - after.0) }
    })
}

impl<T: Copy + Into<f64>> Wave<T> {
    fn segments(&self, lasts: Span) -> Vec<Segment> {
        if self.period == Span::ZERO {
            return Vec::new();
        }
        let (mean, amplitude): (f64, f64) = (self.mean.into(), self.amplitude.into());
        let mut segments = vec![Segment { after: Span::ZERO, to: mean, over: Span::ZERO }];
        let pieces = u64::from(PIECES);
        let instant = |piece: u64| {
            let micros = u128::from(self.period.0) * u128::from(piece) / u128::from(pieces);
            Span(u64::try_from(micros).unwrap_or(u64::MAX).min(lasts.0))
        };
        for piece in 0.. {
            let (after, end) = (instant(piece), instant(piece + 1));
            if after >= lasts || segments.len() > super::SEGMENTS_MAX {
                break;
            }
            let turn = end.0 as f64 / self.period.0 as f64;
            let to = amplitude.mul_add((turn * std::f64::consts::TAU).sin(), mean);
            segments.push(Segment { after, to, over: Span(end.0 - after.0) });
        }
        segments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a curve is after so many milliseconds.
    fn at(curve: &str, before: f64, millis: &[u64]) -> Vec<f64> {
        let curve: Curve<f64> = serde_saphyr::from_str(curve).unwrap();
        let lasts = Span::from_secs(10);
        let segments = curve.segments(before, lasts);
        assert!(segments.iter().all(|segment| segment.after.0 + segment.over.0 <= lasts.0), "{segments:?}");
        assert!(segments.is_sorted_by_key(|segment| segment.after), "{segments:?}");
        let value = |now: Span| {
            let (mut value, mut line) = (before, None::<(Segment, f64)>);
            for segment in segments.iter().filter(|segment| segment.after <= now) {
                if let Some((last, from)) = line {
                    value = along(last, from, segment.after);
                }
                line = Some((*segment, value));
            }
            line.map_or(value, |(last, from)| along(last, from, now))
        };
        millis.iter().map(|millis| (value(Span::from_millis(*millis)) * 10.0).round() / 10.0).collect()
    }

    fn along(line: Segment, from: f64, now: Span) -> f64 {
        let since = now.0 - line.after.0;
        if since >= line.over.0 { line.to } else { from + (line.to - from) * since as f64 / line.over.0 as f64 }
    }

    #[test]
    fn curves_go_as_documented() {
        let instants = [0, 2_500, 5_000, 7_500, 9_999, 10_000];
        for (curve, expected) in [
            ("7", [7.0, 7.0, 7.0, 7.0, 7.0, 7.0]),
            ("{from: 0, to: 100}", [0.0, 25.0, 50.0, 75.0, 100.0, 100.0]),
            ("{to: 20}", [40.0, 35.0, 30.0, 25.0, 20.0, 20.0]),
            ("{from: 0, to: 100, steps: 4}", [25.0, 50.0, 75.0, 100.0, 100.0, 100.0]),
            ("{from: 1, to: 10000, shape: exponential}", [1.0, 10.0, 100.0, 1_000.0, 9_992.0, 10_000.0]),
            ("{spike: 300}", [300.0, 300.0, 300.0, 300.0, 300.0, 40.0]),
            ("{wave: {mean: 50, amplitude: 20, period: 10s}}", [50.0, 70.0, 50.0, 30.0, 50.0, 50.0]),
            ("{points: [{at: 0s, value: 5}, {at: 5s, value: 10}, {at: 5s, value: 0}]}", [5.0, 7.5, 0.0, 0.0, 0.0, 0.0]),
        ] {
            assert_eq!(at(curve, 40.0, &instants), expected, "{curve}");
        }
        assert_eq!(at("{from: 0, to: 8, shape: exponential}", 40.0, &[0, 10_000]), [0.0, 8.0]);
    }
}
