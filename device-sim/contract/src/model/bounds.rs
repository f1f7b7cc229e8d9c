//! Whether a counter can integrate a signal: it must have a closed integral and never be negative.

use super::{
    Model, Signal,
    signal::{Draw, Range, Scalar},
};
use crate::expression::{Binary, Expression, Function, Unary};

/// How deep signals may refer to each other here; cycles are reported elsewhere.
const DEPTH_MAX: usize = 32;

/// The least and greatest value of a signal that a counter can integrate, or why it cannot.
pub(super) fn integrable(model: &Model, name: &str) -> Result<Range, String> {
    let bounds = bounds(model, name, 0)?;
    match bounds {
        [low, _] if low < 0.0 => Err(format!("`{name}` may become {low}, and a counter never decreases")),
        _ => Ok(bounds),
    }
}

fn bounds(model: &Model, name: &str, depth: usize) -> Result<Range, String> {
    let signal = model.signals.get(name).ok_or_else(|| format!("there is no signal `{name}`"))?;
    if depth > DEPTH_MAX {
        return Err(format!("`{name}` refers to itself"));
    }
    let swing = |mean: f64, amplitude: f64| [mean - amplitude.abs(), mean + amplitude.abs()];
    let natural = match signal {
        Signal::Constant(constant) => match constant.value {
            Scalar::Number(number) => [number, number],
            _ => return Err(format!("`{name}` is not a number")),
        },
        Signal::Noise(noise) => swing(noise.mean, noise.amplitude),
        Signal::Sine(sine) => swing(sine.mean, sine.amplitude),
        Signal::Diurnal(diurnal) => swing(diurnal.mean, diurnal.amplitude),
        Signal::Step(step) => step.levels.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |range, level| {
            let value = match level.value {
                Scalar::Number(number) => number,
                _ => f64::NAN,
            };
            [range[0].min(value), range[1].max(value)]
        }),
        Signal::Uniform(uniform) if uniform.draw == Draw::Once => uniform.range,
        Signal::Gaussian(gaussian) if gaussian.draw == Draw::Once => {
            return gaussian.range.ok_or_else(|| format!("`{name}` needs a range to be integrated"));
        }
        Signal::Replay(replay) => {
            return replay.range.ok_or_else(|| format!("`{name}` needs a range to be integrated"));
        }
        Signal::Derived(derived) => {
            let expression = Expression::parse(&derived.expression).map_err(|error| error.to_string())?;
            linear(model, &expression, depth + 1)?
        }
        Signal::Uniform(_)
        | Signal::Gaussian(_)
        | Signal::RandomWalk(_)
        | Signal::OrnsteinUhlenbeck(_)
        | Signal::Markov(_)
        | Signal::Counter(_)
        | Signal::Integrator(_)
        | Signal::Route(_) => {
            return Err(format!(
                "`{name}` has no closed integral; constant, noise, sine, diurnal, step, replay, uniform and gaussian drawn once, and sums and multiples of them have one"
            ));
        }
    };
    match signal.common().range {
        Some([low, high]) if natural[0] < low || natural[1] > high => Err(format!(
            "`{name}` goes from {} to {} and is cut at its range [{low}, {high}]; what is cut has no closed integral",
            natural[0], natural[1]
        )),
        _ => Ok(natural),
    }
}

/// The bounds of a sum or multiple of signals.
fn linear(model: &Model, expression: &Expression, depth: usize) -> Result<Range, String> {
    let bounds_of = |expression: &Expression| linear(model, expression, depth);
    match expression {
        Expression::Number(number) => Ok([*number, *number]),
        Expression::Name(name) => bounds(model, name, depth),
        Expression::Unary(Unary::Minus, operand) => bounds_of(operand).map(|[low, high]| [-high, -low]),
        Expression::Binary(operator, left, right) => {
            let (a, b) = (bounds_of(left)?, bounds_of(right)?);
            let needs = |is_met: bool, what: &str| {
                if is_met {
                    Ok(())
                } else {
                    Err(format!("{operator} of two changing signals has no closed integral{what}"))
                }
            };
            match operator {
                Binary::Plus => Ok([a[0] + b[0], a[1] + b[1]]),
                Binary::Minus => Ok([a[0] - b[1], a[1] - b[0]]),
                Binary::Times => {
                    needs(is_constant(model, left, depth) || is_constant(model, right, depth), "")?;
                    Ok(hull([a[0] * b[0], a[0] * b[1], a[1] * b[0], a[1] * b[1]]))
                }
                Binary::Over => {
                    needs(is_constant(model, right, depth), "; divide by a constant")?;
                    if b[0] <= 0.0 && b[1] >= 0.0 {
                        return Err("the divisor may become 0".into());
                    }
                    Ok(hull([a[0] / b[0], a[0] / b[1], a[1] / b[0], a[1] / b[1]]))
                }
                _ => Err(format!("{operator} has no closed integral")),
            }
        }
        Expression::Call(function, arguments)
            if arguments.iter().all(|argument| is_constant(model, argument, depth)) =>
        {
            let arguments = arguments.iter().map(bounds_of).collect::<Result<Vec<_>, _>>()?;
            constant_call(*function, &arguments)
        }
        _ => Err("only sums and multiples of signals have a closed integral".into()),
    }
}

/// The bounds of a function of what does not change.
fn constant_call(function: Function, arguments: &[Range]) -> Result<Range, String> {
    let fold = |choose: fn(f64, f64) -> f64| {
        arguments.iter().copied().reduce(|a, b| [choose(a[0], b[0]), choose(a[1], b[1])]).unwrap_or_default()
    };
    match (function, arguments) {
        (Function::Min, _) => Ok(fold(f64::min)),
        (Function::Max, _) => Ok(fold(f64::max)),
        (Function::Floor, [a]) => Ok([a[0].floor(), a[1].floor()]),
        (Function::Ceil, [a]) => Ok([a[0].ceil(), a[1].ceil()]),
        (Function::Round, [a]) => Ok([a[0].round(), a[1].round()]),
        (Function::Sqrt, [a]) => Ok([a[0].max(0.0).sqrt(), a[1].max(0.0).sqrt()]),
        (Function::Clamp, [x, low, high]) => Ok([x[0].max(low[0]).min(high[0]), x[1].max(low[1]).min(high[1])]),
        (Function::Abs, [a]) => {
            Ok([if a[0] <= 0.0 && a[1] >= 0.0 { 0.0 } else { a[0].abs().min(a[1].abs()) }, a[0].abs().max(a[1].abs())])
        }
        (Function::Sin | Function::Cos, _) => Ok([-1.0, 1.0]),
        _ => Err("wrong number of arguments".into()),
    }
}

/// Whether an expression is the same at any time for a device.
fn is_constant(model: &Model, expression: &Expression, depth: usize) -> bool {
    let mut is_all = depth <= DEPTH_MAX;
    expression.for_each_name(&mut |name| {
        is_all = is_all
            && match model.signals.get(name) {
                Some(Signal::Derived(derived)) => Expression::parse(&derived.expression)
                    .is_ok_and(|expression| is_constant(model, &expression, depth + 1)),
                Some(signal) => signal.never_changes(),
                None => false,
            };
    });
    is_all
}

fn hull(corners: [f64; 4]) -> Range {
    [corners.into_iter().fold(f64::INFINITY, f64::min), corners.into_iter().fold(f64::NEG_INFINITY, f64::max)]
}
