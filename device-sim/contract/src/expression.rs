//! Expressions over signals: `speed > 0.5 && mode == "driving" ? 1 : 0`.
//!
//! Text is parsed once into a tree; [`Expression::resolve`] replaces names by whatever the caller evaluates fastest.
//! Operators, loosest first: `?:`, `||`, `&&`, `== !=`, `< <= > >=`, `+ -`, `* / %`, unary `- !`, parentheses.
//! There are no implicit conversions between numbers, truth values and texts.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantNames};

/// How deep an expression may nest; documents come from strangers.
const DEPTH_MAX: usize = 64;

/// An expression whose names are of type `N`: text as parsed, an index once resolved.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression<N = String> {
    /// A number.
    Number(f64),
    /// `true` or `false`.
    Bool(bool),
    /// A text in double quotes.
    Text(String),
    /// A signal.
    Name(N),
    /// An operator before its operand.
    Unary(Unary, Box<Self>),
    /// An operator between its operands.
    Binary(Binary, Box<Self>, Box<Self>),
    /// `condition ? then : otherwise`, also written `if(condition, then, otherwise)`.
    If(Box<Self>, Box<Self>, Box<Self>),
    /// A function of numbers.
    Call(Function, Vec<Self>),
}

/// An operator before its operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unary {
    /// `-`
    Minus,
    /// `!`
    Not,
}

/// An operator between its operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// `||`
    Or,
    /// `&&`
    And,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<=`
    AtMost,
    /// `>=`
    AtLeast,
    /// `<`
    Below,
    /// `>`
    Above,
    /// `+`
    Plus,
    /// `-`
    Minus,
    /// `*`
    Times,
    /// `/`
    Over,
    /// `%`, with the sign of the dividend
    Modulo,
}

/// Operators by level, loosest first; of two that begin alike the longer one comes first.
const LEVELS: [&[(&str, Binary)]; 6] = [
    &[("||", Binary::Or)],
    &[("&&", Binary::And)],
    &[("==", Binary::Equal), ("!=", Binary::NotEqual)],
    &[("<=", Binary::AtMost), (">=", Binary::AtLeast), ("<", Binary::Below), (">", Binary::Above)],
    &[("+", Binary::Plus), ("-", Binary::Minus)],
    &[("*", Binary::Times), ("/", Binary::Over), ("%", Binary::Modulo)],
];

/// A function of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum Function {
    /// The least of one or more.
    Min,
    /// The greatest of one or more.
    Max,
    /// Without its sign.
    Abs,
    /// The next whole number below.
    Floor,
    /// The next whole number above.
    Ceil,
    /// The nearest whole number, halves away from zero.
    Round,
    /// `clamp(x, low, high)`
    Clamp,
    /// Sine of radians.
    Sin,
    /// Cosine of radians.
    Cos,
    /// Square root; of a negative number 0.
    Sqrt,
}

impl Function {
    fn takes(self, count: usize) -> bool {
        match self {
            Self::Min | Self::Max => count >= 1,
            Self::Clamp => count == 3,
            _ => count == 1,
        }
    }
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, Serialize, Deserialize, JsonSchema)]
#[strum(serialize_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// A number.
    Number,
    /// `true` or `false`.
    Bool,
    /// A text.
    Text,
}

/// What is wrong with an expression, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} at character {at} of `{text}`")]
pub struct SyntaxError {
    message: String,
    /// Counted from 1.
    at: usize,
    text: String,
}

impl Expression {
    /// Reads an expression.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        let mut parser = Parser { rest: text, depth: 0 };
        let parsed = parser.ternary().and_then(|expression| parser.end().map(|()| expression));
        parsed.map_err(|message| {
            let consumed = text.len() - parser.rest.len();
            SyntaxError { message, at: text[..consumed].chars().count() + 1, text: text.into() }
        })
    }
}

impl<N> Expression<N> {
    /// The same expression with each name looked up. The first failure is returned.
    pub fn resolve<M, E>(&self, find: &mut impl FnMut(&N) -> Result<M, E>) -> Result<Expression<M>, E> {
        Ok(match self {
            Self::Number(number) => Expression::Number(*number),
            Self::Bool(truth) => Expression::Bool(*truth),
            Self::Text(text) => Expression::Text(text.clone()),
            Self::Name(name) => Expression::Name(find(name)?),
            Self::Unary(operator, operand) => Expression::Unary(*operator, Box::new(operand.resolve(find)?)),
            Self::Binary(operator, left, right) => {
                Expression::Binary(*operator, Box::new(left.resolve(find)?), Box::new(right.resolve(find)?))
            }
            Self::If(condition, then, otherwise) => Expression::If(
                Box::new(condition.resolve(find)?),
                Box::new(then.resolve(find)?),
                Box::new(otherwise.resolve(find)?),
            ),
            Self::Call(function, arguments) => Expression::Call(
                *function,
                arguments.iter().map(|argument| argument.resolve(find)).collect::<Result<_, _>>()?,
            ),
        })
    }

    /// Calls `visit` with each name, repetitions included.
    pub fn for_each_name<'a>(&'a self, visit: &mut impl FnMut(&'a N)) {
        match self {
            Self::Number(_) | Self::Bool(_) | Self::Text(_) => {}
            Self::Name(name) => visit(name),
            Self::Unary(_, operand) => operand.for_each_name(visit),
            Self::Binary(_, left, right) => {
                left.for_each_name(visit);
                right.for_each_name(visit);
            }
            Self::If(condition, then, otherwise) => {
                condition.for_each_name(visit);
                then.for_each_name(visit);
                otherwise.for_each_name(visit);
            }
            Self::Call(_, arguments) => arguments.iter().for_each(|argument| argument.for_each_name(visit)),
        }
    }

    /// The type of the expression's value, given those of its names; an error says which operand does not fit.
    pub fn type_of(&self, type_of_name: &impl Fn(&N) -> Type) -> Result<Type, String> {
        use Type::{Bool, Number, Text};
        let expect = |operand: &Self, expected: Type, of: &dyn fmt::Display| {
            let found = operand.type_of(type_of_name)?;
            if found == expected { Ok(expected) } else { Err(format!("{of} needs a {expected}, not a {found}")) }
        };
        let alike = |left: &Self, right: &Self, of: &str| {
            let (left, right) = (left.type_of(type_of_name)?, right.type_of(type_of_name)?);
            if left == right { Ok(left) } else { Err(format!("{of} needs two of a type, not a {left} and a {right}")) }
        };
        match self {
            Self::Number(_) => Ok(Number),
            Self::Bool(_) => Ok(Bool),
            Self::Text(_) => Ok(Text),
            Self::Name(name) => Ok(type_of_name(name)),
            Self::Unary(Unary::Minus, operand) => expect(operand, Number, &"`-`"),
            Self::Unary(Unary::Not, operand) => expect(operand, Bool, &"`!`"),
            Self::Binary(operator @ (Binary::Or | Binary::And), left, right) => {
                expect(left, Bool, operator).and_then(|_| expect(right, Bool, operator))
            }
            Self::Binary(Binary::Equal | Binary::NotEqual, left, right) => {
                alike(left, right, "a comparison").map(|_| Bool)
            }
            Self::Binary(operator, left, right) => {
                expect(left, Number, operator).and_then(|_| expect(right, Number, operator))?;
                let is_comparison =
                    matches!(operator, Binary::AtMost | Binary::AtLeast | Binary::Below | Binary::Above);
                Ok(if is_comparison { Bool } else { Number })
            }
            Self::If(condition, then, otherwise) => {
                expect(condition, Bool, &"a condition")?;
                alike(then, otherwise, "a choice")
            }
            Self::Call(function, arguments) => {
                let name: &'static str = function.into();
                arguments.iter().try_for_each(|argument| expect(argument, Number, &format!("`{name}`")).map(|_| ()))?;
                Ok(Number)
            }
        }
    }
}

impl fmt::Display for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let symbol =
            LEVELS.iter().copied().flatten().find(|(_, operator)| operator == self).map_or("?", |(text, _)| text);
        write!(f, "`{symbol}`")
    }
}

/// Recursive descent; on an error `rest` is where it was found.
struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

type Parsed = Result<Expression, String>;

impl<'a> Parser<'a> {
    fn eat(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn need(&mut self, token: &str) -> Result<(), String> {
        if self.eat(token) { Ok(()) } else { Err(format!("expected `{token}`")) }
    }

    fn end(&mut self) -> Result<(), String> {
        self.rest = self.rest.trim_start();
        if self.rest.is_empty() { Ok(()) } else { Err("expected an operator or the end".into()) }
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let length = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn ternary(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} levels of nesting"));
        }
        let mut expression = self.level(0)?;
        if self.eat("?") {
            let then = self.ternary()?;
            self.need(":")?;
            let otherwise = self.ternary()?;
            expression = Expression::If(Box::new(expression), Box::new(then), Box::new(otherwise));
        }
        self.depth -= 1;
        Ok(expression)
    }

    fn level(&mut self, level: usize) -> Parsed {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.level(level + 1)?;
        while let Some((_, operator)) = operators.iter().find(|(token, _)| self.eat(token)) {
            let right = self.level(level + 1)?;
            left = Expression::Binary(*operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed {
        let operator = match () {
            () if self.eat("-") => Unary::Minus,
            () if self.eat("!") => Unary::Not,
            () => return self.primary(),
        };
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} levels of nesting"));
        }
        let operand = self.unary()?;
        self.depth -= 1;
        Ok(Expression::Unary(operator, Box::new(operand)))
    }

    fn primary(&mut self) -> Parsed {
        if self.eat("(") {
            let inner = self.ternary()?;
            return self.need(")").map(|()| inner);
        }
        match self.rest.chars().next() {
            Some('0'..='9' | '.') => self.number(),
            Some('"') => self.text(),
            Some(c) if c.is_ascii_alphabetic() || c == '_' => self.word(),
            _ => Err("expected a number, a text, a signal or a function".into()),
        }
    }

    fn number(&mut self) -> Parsed {
        let before = self.rest;
        self.take_while(|c| c.is_ascii_digit() || c == '.');
        if self.rest.starts_with(['e', 'E']) {
            self.rest = &self.rest[1..];
            if self.rest.starts_with(['+', '-']) {
                self.rest = &self.rest[1..];
            }
            self.take_while(|c| c.is_ascii_digit());
        }
        let digits = &before[..before.len() - self.rest.len()];
        digits.parse().map(Expression::Number).map_err(|_| format!("`{digits}` is no number"))
    }

    fn text(&mut self) -> Parsed {
        let (text, rest) = self.rest[1..].split_once('"').ok_or("a text without its closing quote")?;
        self.rest = rest;
        Ok(Expression::Text(text.into()))
    }

    fn word(&mut self) -> Parsed {
        let before = self.rest;
        let word = self.take_while(is_name_char);
        match word {
            "true" => return Ok(Expression::Bool(true)),
            "false" => return Ok(Expression::Bool(false)),
            _ if !self.eat("(") => return Ok(Expression::Name(word.into())),
            _ => {}
        }
        let arguments = self.arguments()?;
        let count = arguments.len();
        if word == "if" {
            let [condition, then, otherwise] = <[Expression; 3]>::try_from(arguments)
                .map_err(|_| format!("`if` does not take {count} arguments but 3"))?;
            return Ok(Expression::If(Box::new(condition), Box::new(then), Box::new(otherwise)));
        }
        let Ok(function) = word.parse::<Function>() else {
            self.rest = before;
            let known = Function::VARIANTS.join("`, `");
            return Err(format!("`{word}` is no function; there are `if`, `{known}`"));
        };
        if !function.takes(count) {
            return Err(format!("`{word}` does not take {count} arguments"));
        }
        Ok(Expression::Call(function, arguments))
    }

    fn arguments(&mut self) -> Result<Vec<Expression>, String> {
        let mut arguments = Vec::new();
        if self.eat(")") {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.ternary()?);
            if !self.eat(",") {
                return self.need(")").map(|()| arguments);
            }
        }
    }
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether an expression can refer to something of that name.
pub fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(is_name_char)
        && !matches!(name, "true" | "false")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Fully bracketed, so that precedence shows.
    fn brackets(expression: &Expression) -> String {
        match expression {
            Expression::Number(number) => number.to_string(),
            Expression::Bool(truth) => truth.to_string(),
            Expression::Text(text) => format!("{text:?}"),
            Expression::Name(name) => name.clone(),
            Expression::Unary(Unary::Minus, operand) => format!("(-{})", brackets(operand)),
            Expression::Unary(Unary::Not, operand) => format!("(!{})", brackets(operand)),
            Expression::Binary(operator, left, right) => {
                format!("({} {} {})", brackets(left), operator.to_string().trim_matches('`'), brackets(right))
            }
            Expression::If(a, b, c) => format!("({} ? {} : {})", brackets(a), brackets(b), brackets(c)),
            Expression::Call(function, arguments) => {
                let name: &'static str = function.into();
                format!("{name}({})", arguments.iter().map(brackets).collect::<Vec<_>>().join(", "))
            }
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let parsed = Expression::parse(text).unwrap();
        assert_eq!(brackets(&parsed), expected);
        assert_eq!(Expression::parse(expected).unwrap(), parsed, "the bracketed form means the same");
    }

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        assert_eq!(Expression::parse(text).unwrap_err().to_string(), expected);
    }

    #[test]
    fn tighter_operators_bind_first_and_equals_from_the_left() {
        check("1 + 2 * 3 - 4", "((1 + (2 * 3)) - 4)");
        check("a < b && !c || d >= 1e-3", "(((a < b) && (!c)) || (d >= 0.001))");
        check("a ? b : c ? d : e", "(a ? b : (c ? d : e))");
        check("-a % -2.5", "((-a) % (-2.5))");
        check("if(mode == \"on\", 1, 0)", "((mode == \"on\") ? 1 : 0)");
        check("clamp(max(a, b, 1), 0, (2))", "clamp(max(a, b, 1), 0, 2)");
    }

    #[test]
    fn a_mistake_is_shown_where_it_is() {
        check_error("1 +", "expected a number, a text, a signal or a function at character 4 of `1 +`");
        check_error("a b", "expected an operator or the end at character 3 of `a b`");
        check_error("(a", "expected `)` at character 3 of `(a`");
        check_error("abs(1, 2)", "`abs` does not take 2 arguments at character 10 of `abs(1, 2)`");
        check_error("1.2.3", "`1.2.3` is no number at character 6 of `1.2.3`");
        assert!(
            Expression::parse("tan(1)")
                .unwrap_err()
                .to_string()
                .starts_with("`tan` is no function; there are `if`, `min`")
        );
        assert!(Expression::parse(&"(".repeat(10_000)).is_err());
        assert!(Expression::parse(&"-".repeat(10_000)).is_err());
    }

    #[test]
    fn types_are_checked_without_conversions() {
        let type_of = |text: &str| {
            Expression::parse(text).unwrap().type_of(&|name: &String| match name.as_str() {
                "flag" => Type::Bool,
                "mode" => Type::Text,
                _ => Type::Number,
            })
        };
        assert_eq!(type_of("x > 1 && flag"), Ok(Type::Bool));
        assert_eq!(type_of("flag ? mode : \"off\""), Ok(Type::Text));
        assert_eq!(type_of("flag + 1"), Err("`+` needs a number, not a bool".into()));
        assert_eq!(type_of("mode == 1"), Err("a comparison needs two of a type, not a text and a number".into()));
        assert_eq!(type_of("x ? 1 : 2"), Err("a condition needs a bool, not a number".into()));
        assert_eq!(type_of("abs(flag)"), Err("`abs` needs a number, not a bool".into()));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-a-z0-9.()+*/%!?:<>=&|,\" é]{0,60}") {
            if let Err(error) = Expression::parse(&text) {
                prop_assert!(error.at <= text.chars().count() + 1);
            }
        }
    }
}
