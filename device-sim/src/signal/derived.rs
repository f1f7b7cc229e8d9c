//! A value computed from other signals.

use fleet_contract::{
    expression::{Binary, Expression, Function, Unary},
    model::signal as document,
};

use super::{Compiler, Generate, Reader, Signals, Symbol, Value};
use crate::random::Source;

#[derive(Debug)]
pub(super) struct Derived {
    expression: Compiled,
}

/// Names are indices of signals, and texts are symbols: what a name cannot be is told apart at compile time.
type Compiled = Expression<Operand>;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operand {
    Signal(usize),
    Text(Symbol),
}

impl Generate for Derived {
    type Document = document::Derived;

    fn compile(document: &Self::Document, _: Source, compiler: &mut Compiler<'_>) -> Result<Self, String> {
        let parsed = Expression::parse(&document.expression).map_err(|error| error.to_string())?;
        let named = parsed.resolve(&mut |name| compiler.index(name).map(Operand::Signal))?;
        Ok(Self { expression: intern(named, &mut |text| compiler.symbols.intern(text))? })
    }

    fn value(&self, reader: &mut Reader<'_>) -> Value {
        evaluate(&self.expression, reader)
    }

    fn integral(&self, reader: &mut Reader<'_>) -> Option<f64> {
        integrate(&self.expression, reader)
    }

    fn is_constant(&self, signals: &Signals) -> bool {
        is_constant(&self.expression, |signal| signals.is_constant(signal))
    }
}

/// A condition on signals that are compiled already.
#[derive(Debug)]
pub struct Condition(Compiled);

impl Condition {
    /// Reads a condition; `None` where there is no such signal, or a type does not fit.
    pub fn compile(text: &str, signals: &Signals) -> Option<Self> {
        let parsed = Expression::parse(text).ok()?;
        let named = parsed.resolve(&mut |name| signals.index(name).ok_or(())).ok()?;
        named.type_of(&|signal| signals.type_of(*signal)).ok()?;
        let named = named.resolve(&mut |signal| Ok::<_, ()>(Operand::Signal(*signal))).ok()?;
        // A text that no signal can have is like none of theirs, and has a number from the end.
        let mut others: Vec<String> = Vec::new();
        let symbol = &mut |text: &str| {
            let known = (0..).zip(signals.symbols().iter()).find(|(_, known)| *known == text);
            let other = others.iter().position(|other| other == text).unwrap_or_else(|| {
                others.push(text.into());
                others.len() - 1
            });
            let number =
                known.map_or_else(|| u16::MAX.saturating_sub(u16::try_from(other).unwrap_or(u16::MAX)), |it| it.0);
            Ok(Symbol(number))
        };
        intern(named, symbol).ok().map(Self)
    }

    /// Whether it is met: by `true`, or by a number other than 0.
    pub fn is_met(&self, reader: &mut Reader<'_>) -> bool {
        match evaluate(&self.0, reader) {
            Value::Bool(is_true) => is_true,
            Value::Number(number) => number != 0.0 && !number.is_nan(),
            Value::Text(_) => false,
        }
    }
}

/// Replaces texts by their symbols.
fn intern(expression: Compiled, symbol: &mut impl FnMut(&str) -> Result<Symbol, String>) -> Result<Compiled, String> {
    let mut boxed = |inner: Box<Compiled>| intern(*inner, symbol).map(Box::new);
    Ok(match expression {
        Expression::Unary(operator, operand) => Expression::Unary(operator, boxed(operand)?),
        Expression::Binary(operator, left, right) => Expression::Binary(operator, boxed(left)?, boxed(right)?),
        Expression::If(condition, then, otherwise) => {
            Expression::If(boxed(condition)?, boxed(then)?, boxed(otherwise)?)
        }
        Expression::Text(text) => Expression::Name(Operand::Text(symbol(&text)?)),
        Expression::Call(function, arguments) => {
            let arguments = arguments.into_iter().map(|argument| intern(argument, symbol)).collect::<Result<_, _>>()?;
            Expression::Call(function, arguments)
        }
        Expression::Number(_) | Expression::Bool(_) | Expression::Name(_) => expression,
    })
}

fn evaluate(expression: &Compiled, reader: &mut Reader<'_>) -> Value {
    match expression {
        Expression::Number(number) => Value::Number(*number),
        Expression::Bool(truth) => Value::Bool(*truth),
        Expression::Name(Operand::Signal(signal)) => reader.value(*signal),
        Expression::Name(Operand::Text(symbol)) => Value::Text(*symbol),
        Expression::Unary(Unary::Minus, operand) => Value::Number(-number(operand, reader)),
        Expression::Unary(Unary::Not, operand) => Value::Bool(!evaluate(operand, reader).is_true()),
        Expression::Binary(operator, left, right) => binary(*operator, left, right, reader),
        Expression::If(condition, then, otherwise) => {
            evaluate(if evaluate(condition, reader).is_true() { then } else { otherwise }, reader)
        }
        Expression::Call(function, arguments) => Value::Number(call(*function, arguments, reader)),
        // Replaced by `intern`.
        Expression::Text(_) => Value::Bool(false),
    }
}

fn number(expression: &Compiled, reader: &mut Reader<'_>) -> f64 {
    evaluate(expression, reader).number()
}

fn binary(operator: Binary, left: &Compiled, right: &Compiled, reader: &mut Reader<'_>) -> Value {
    let left = evaluate(left, reader);
    match operator {
        Binary::Or => return Value::Bool(left.is_true() || evaluate(right, reader).is_true()),
        Binary::And => return Value::Bool(left.is_true() && evaluate(right, reader).is_true()),
        _ => {}
    }
    let right = evaluate(right, reader);
    let (a, b) = (left.number(), right.number());
    match operator {
        Binary::Equal => Value::Bool(left == right),
        Binary::NotEqual => Value::Bool(left != right),
        Binary::AtMost => Value::Bool(a <= b),
        Binary::AtLeast => Value::Bool(a >= b),
        Binary::Below => Value::Bool(a < b),
        Binary::Above => Value::Bool(a > b),
        Binary::Plus => Value::Number(a + b),
        Binary::Minus => Value::Number(a - b),
        Binary::Times => Value::Number(a * b),
        Binary::Over => Value::Number(a / b),
        Binary::Modulo => Value::Number(a % b),
        Binary::Or | Binary::And => left,
    }
}

fn call(function: Function, arguments: &[Compiled], reader: &mut Reader<'_>) -> f64 {
    let first = number(&arguments[0], reader);
    let mut fold = |choose: fn(f64, f64) -> f64| {
        arguments[1..].iter().fold(first, |best, argument| choose(best, number(argument, reader)))
    };
    match function {
        Function::Min => fold(f64::min),
        Function::Max => fold(f64::max),
        Function::Clamp => first.max(number(&arguments[1], reader)).min(number(&arguments[2], reader)),
        Function::Abs => first.abs(),
        Function::Floor => first.floor(),
        Function::Ceil => first.ceil(),
        Function::Round => first.round(),
        Function::Sin => libm::sin(first),
        Function::Cos => libm::cos(first),
        Function::Sqrt => first.max(0.0).sqrt(),
    }
}

/// The integral of a sum or multiple of signals that have one.
fn integrate(expression: &Compiled, reader: &mut Reader<'_>) -> Option<f64> {
    if let Some(constant) = constant(expression, reader) {
        return Some(constant * reader.elapsed_seconds());
    }
    match expression {
        Expression::Name(Operand::Signal(signal)) => reader.integral(*signal),
        Expression::Unary(Unary::Minus, operand) => Some(-integrate(operand, reader)?),
        Expression::Binary(Binary::Plus, left, right) => Some(integrate(left, reader)? + integrate(right, reader)?),
        Expression::Binary(Binary::Minus, left, right) => Some(integrate(left, reader)? - integrate(right, reader)?),
        Expression::Binary(Binary::Times, left, right) => match constant(left, reader) {
            Some(factor) => Some(factor * integrate(right, reader)?),
            None => Some(constant(right, reader)? * integrate(left, reader)?),
        },
        Expression::Binary(Binary::Over, left, right) => Some(integrate(left, reader)? / constant(right, reader)?),
        _ => None,
    }
}

/// The value of what does not change with time.
fn constant(expression: &Compiled, reader: &mut Reader<'_>) -> Option<f64> {
    is_constant(expression, |signal| reader.is_constant(signal)).then(|| number(expression, reader))
}

fn is_constant(expression: &Compiled, is_constant: impl Fn(usize) -> bool) -> bool {
    let mut changes = false;
    expression.for_each_name(&mut |operand| {
        changes |= matches!(operand, Operand::Signal(signal) if !is_constant(*signal));
    });
    !changes
}
