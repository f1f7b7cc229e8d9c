//! The types of a model's signals.

use std::collections::BTreeMap;

use super::{
    Model, Signal,
    signal::{Markov, RouteValue, Scalar},
};
use crate::expression::{Expression, Type};

/// The type of each signal. Where a document contradicts itself, which [`super::check`] finds, it is a number.
pub fn types(model: &Model) -> BTreeMap<String, Type> {
    let mut known = BTreeMap::new();
    for name in model.signals.keys() {
        visit(model, name, &mut known);
    }
    known
}

/// A signal counts as a number while it is being looked at, so that a cycle ends.
fn visit(model: &Model, name: &str, known: &mut BTreeMap<String, Type>) {
    let Some(signal) = model.signals.get(name) else { return };
    if known.insert(name.into(), Type::Number).is_some_and(|before| known.insert(name.into(), before).is_some()) {
        return;
    }
    let found = match signal {
        Signal::Derived(derived) => Expression::parse(&derived.expression).map_or(Type::Number, |expression| {
            expression.for_each_name(&mut |name| visit(model, name, known));
            expression
                .type_of(&|name: &String| known.get(name).copied().unwrap_or(Type::Number))
                .unwrap_or(Type::Number)
        }),
        other => own_type(other),
    };
    known.insert(name.into(), found);
}

/// The type of what does not depend on other signals.
fn own_type(signal: &Signal) -> Type {
    match signal {
        Signal::Constant(constant) => constant.value.type_of(),
        Signal::Step(step) => step.levels.first().map_or(Type::Number, |level| level.value.type_of()),
        Signal::Markov(markov) => state_types(markov).next().unwrap_or(Type::Text),
        Signal::Replay(replay) => replay.value_type,
        Signal::Route(route) => match route.value {
            RouteValue::Mode => Type::Text,
            RouteValue::IsCharging | RouteValue::HardBrake => Type::Bool,
            _ => Type::Number,
        },
        Signal::Uniform(_)
        | Signal::Gaussian(_)
        | Signal::RandomWalk(_)
        | Signal::OrnsteinUhlenbeck(_)
        | Signal::Noise(_)
        | Signal::Sine(_)
        | Signal::Diurnal(_)
        | Signal::Counter(_)
        | Signal::Integrator(_)
        | Signal::Derived(_) => Type::Number,
    }
}

/// The types of the values of a chain's states.
pub(super) fn state_types(markov: &Markov) -> impl Iterator<Item = Type> {
    markov.states.values().map(|state| state.value.as_ref().map_or(Type::Text, Scalar::type_of))
}

impl Scalar {
    /// What it is.
    pub fn type_of(&self) -> Type {
        match self {
            Self::Bool(_) => Type::Bool,
            Self::Number(_) => Type::Number,
            Self::Text(_) => Type::Text,
        }
    }
}
