//! Whether an integrator can follow a signal: it must go through levels that repeat.

use std::collections::{BTreeSet, VecDeque};

use super::{Model, Signal};
use crate::expression::Expression;

/// The step whose levels a signal follows: the signal itself, or the one that it is computed from.
/// `None` is for what never changes; an error says which signal has no levels, or that there are two steps.
///
/// References to nothing, cycles and mistakes in expressions are found elsewhere and are no errors here.
pub fn step_of<'a>(model: &'a Model, name: &str) -> Result<Option<&'a str>, String> {
    let mut open = VecDeque::from([name.to_owned()]);
    let mut seen = BTreeSet::new();
    let mut found: Option<&str> = None;
    while let Some(next) = open.pop_front() {
        let Some((name, signal)) = model.signals.get_key_value(&next) else { continue };
        if !seen.insert(name) {
            continue;
        }
        match signal {
            signal if signal.never_changes() => {}
            Signal::Step(_) => {
                if let Some(other) = found.replace(name) {
                    return Err(format!(
                        "it depends on two steps, `{other}` and `{name}`, whose levels need not repeat together; expected one step"
                    ));
                }
            }
            Signal::Derived(derived) => {
                if let Ok(expression) = Expression::parse(&derived.expression) {
                    expression.for_each_name(&mut |name| open.push_back(name.clone()));
                }
            }
            Signal::Constant(_)
            | Signal::Uniform(_)
            | Signal::Gaussian(_)
            | Signal::RandomWalk(_)
            | Signal::OrnsteinUhlenbeck(_)
            | Signal::Noise(_)
            | Signal::Sine(_)
            | Signal::Diurnal(_)
            | Signal::Markov(_)
            | Signal::Counter(_)
            | Signal::Integrator(_)
            | Signal::Replay(_)
            | Signal::Route(_) => {
                return Err(format!(
                    "`{name}` has no levels that repeat; expected a step, a constant, uniform or gaussian drawn once, or an expression of these with one step at most"
                ));
            }
        }
    }
    Ok(found)
}
