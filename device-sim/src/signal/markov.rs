//! A Markov chain: states that a device stays in for a while and leaves at random for one that may follow.
//!
//! Time goes in small steps with a transition matrix P. States at the boundaries of long blocks, by which time the chain has
//! forgotten where it was, are drawn from its stationary distribution; the way between them is drawn by halving, where the
//! middle of two states a and b, 2n steps apart, is m with the probability Pⁿ(a,m) Pⁿ(m,b) / P²ⁿ(a,b).
//! That is the chain itself, given its ends: each step is one that P allows, within blocks and across.

use fleet_contract::model::signal::{self as document, Scalar};

use super::{Compiler, Generate, Reader, Value};
use crate::random::{Sequence, Source};

/// Steps in the shortest dwell time.
const STEPS: u64 = 32;
/// A block lasts at least so many times the longest dwell time.
const BLOCK: u64 = 16;
const LEVELS_MAX: u32 = 24;

#[derive(Debug)]
pub(super) struct Markov {
    source: Source,
    values: Vec<Value>,
    /// Microseconds of one step.
    step: u64,
    /// P, P², P⁴, … up to half a block.
    powers: Vec<Matrix>,
    stationary: Vec<f64>,
}

impl Generate for Markov {
    type Document = document::Markov;

    fn compile(document: &Self::Document, source: Source, compiler: &mut Compiler<'_>) -> Result<Self, String> {
        let dwells = || document.states.values().map(|state| state.dwell.0);
        let step = (dwells().min().unwrap_or(1) / STEPS).max(1);
        let longest = dwells().max().unwrap_or(1) * BLOCK;
        let levels = (1..LEVELS_MAX).find(|levels| step << levels >= longest).unwrap_or(LEVELS_MAX);
        let mut powers = vec![Matrix::of(document, step)];
        while powers.len() < levels as usize {
            powers.extend(powers.last().map(Matrix::squared));
        }
        let stationary = stationary(&powers);
        let values = document
            .states
            .iter()
            .map(|(name, state)| compiler.scalar(state.value.as_ref().unwrap_or(&Scalar::Text(name.clone()))))
            .collect::<Result<_, _>>()?;
        Ok(Self { source, values, step, powers, stationary })
    }

    fn value(&self, reader: &mut Reader<'_>) -> Value {
        let moment = reader.moment();
        self.values[self.state(self.source.of(moment.device), moment.elapsed() / self.step)]
    }

    fn integral(&self, _: &mut Reader<'_>) -> Option<f64> {
        None
    }
}

impl Markov {
    /// The state at a step counted from the start.
    fn state(&self, chain: Sequence, step: u64) -> usize {
        let levels = self.powers.len();
        let block = step >> levels;
        let position = |block: u64, node: u64| (block << (levels + 1)) + node;
        let boundary = |block| pick(chain.at(position(block, 0)).unit(), 1.0, self.stationary.iter().copied());
        let (mut left, mut right) = (boundary(block), boundary(block + 1));
        let mut node = 1;
        for (level, power) in self.powers.iter().enumerate().rev() {
            let weights = || power.row(left).zip(power.column(right)).map(|(to, from)| to * from);
            let middle = pick(chain.at(position(block, node)).unit(), weights().sum(), weights());
            node *= 2;
            if step >> level & 1 == 0 {
                right = middle;
            } else {
                left = middle;
                node += 1;
            }
        }
        left
    }
}

/// The index that a share of the total weight falls on; never one without weight.
fn pick(share: f64, total: f64, weights: impl Iterator<Item = f64>) -> usize {
    let mut rest = share * total;
    let mut last = 0;
    for (index, weight) in weights.enumerate() {
        if weight > 0.0 {
            last = index;
            if rest < weight {
                break;
            }
            rest -= weight;
        }
    }
    last
}

/// Any distribution, after very many steps.
fn stationary(powers: &[Matrix]) -> Vec<f64> {
    let mut power = powers[powers.len() - 1].squared();
    for _ in 0..8 {
        power = power.squared();
    }
    power.row(0).collect()
}

/// Square, row by row; the rows sum to 1.
#[derive(Debug, Clone)]
struct Matrix {
    size: usize,
    cells: Vec<f64>,
}

impl Matrix {
    /// One step: a state is left with the probability step / dwell.
    fn of(document: &document::Markov, step: u64) -> Self {
        let size = document.states.len();
        let mut cells = Vec::with_capacity(size * size);
        for (from, state) in &document.states {
            let leave = step as f64 / state.dwell.0 as f64;
            let total: f64 = state.next.values().sum();
            for to in document.states.keys() {
                let go = leave * state.next.get(to).map_or(0.0, |weight| weight / total);
                cells.push(if from == to { 1.0 - leave + go } else { go });
            }
        }
        Self { size, cells }
    }

    fn row(&self, row: usize) -> impl Iterator<Item = f64> + '_ {
        self.cells[row * self.size..][..self.size].iter().copied()
    }

    fn column(&self, column: usize) -> impl Iterator<Item = f64> + '_ {
        self.cells[column..].iter().step_by(self.size).copied()
    }

    /// The product with itself; rows are kept at the sum 1 so that rounding does not grow.
    fn squared(&self) -> Self {
        let mut cells = Vec::with_capacity(self.cells.len());
        for row in 0..self.size {
            let products: Vec<f64> =
                (0..self.size).map(|column| self.row(row).zip(self.column(column)).map(|(a, b)| a * b).sum()).collect();
            let total: f64 = products.iter().sum();
            cells.extend(products.iter().map(|product| product / total));
        }
        Self { size: self.size, cells }
    }
}
