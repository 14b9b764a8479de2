//! The part of a network that reads a series step by step.

use crate::nn::{Gru, GruTape, Lstm, LstmTape, Parameters, Random, Real, Visit, VisitMut};

/// Which kind of network reads the series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreKind {
    /// Gated recurrent units.
    Gru,
    /// Long short-term memory.
    Lstm,
}

/// The layer itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Core<T> {
    Gru(Gru<T>),
    Lstm(Lstm<T>),
}

/// What its forward pass keeps for the backward pass.
#[derive(Clone, Debug)]
pub enum Tape<T> {
    Gru(GruTape<T>),
    Lstm(LstmTape<T>),
}

impl<T: Real> Tape<T> {
    /// The output after `step` steps; 0 is before the first.
    pub fn state(&self, step: usize) -> &[T] {
        match self {
            Self::Gru(tape) => tape.state(step),
            Self::Lstm(tape) => tape.state(step),
        }
    }
}

impl<T: Real> Core<T> {
    pub fn random(kind: CoreKind, inputs: usize, hidden: usize, random: &mut Random) -> Self {
        match kind {
            CoreKind::Gru => Self::Gru(Gru::random(inputs, hidden, random)),
            CoreKind::Lstm => Self::Lstm(Lstm::random(inputs, hidden, random)),
        }
    }

    pub fn zeros(kind: CoreKind, inputs: usize, hidden: usize) -> Self {
        match kind {
            CoreKind::Gru => Self::Gru(Gru::zeros(inputs, hidden)),
            CoreKind::Lstm => Self::Lstm(Lstm::zeros(inputs, hidden)),
        }
    }

    /// Length of the state; its first part is the output.
    pub fn state_len(&self) -> usize {
        match self {
            Self::Gru(layer) => layer.hidden(),
            Self::Lstm(layer) => 2 * layer.hidden(),
        }
    }

    pub fn scratch(&self) -> usize {
        match self {
            Self::Gru(layer) => layer.scratch(),
            Self::Lstm(layer) => layer.scratch(),
        }
    }

    pub fn step(&self, x: &[T], state: &mut [T], scratch: &mut [T]) {
        match self {
            Self::Gru(layer) => layer.step(x, state, scratch),
            Self::Lstm(layer) => layer.step(x, state, scratch),
        }
    }

    /// An empty tape at the zero state.
    pub fn tape(&self) -> Tape<T> {
        match self {
            Self::Gru(layer) => Tape::Gru(GruTape::new(layer.hidden())),
            Self::Lstm(layer) => Tape::Lstm(LstmTape::new(layer.hidden())),
        }
    }

    pub fn forward(&self, xs: &[T], tape: &mut Tape<T>) {
        match (self, tape) {
            (Self::Gru(layer), Tape::Gru(tape)) => layer.forward(xs, tape),
            (Self::Lstm(layer), Tape::Lstm(tape)) => layer.forward(xs, tape),
            _ => panic!("a tape of another kind of network"),
        };
    }

    pub fn backward(&self, xs: &[T], tape: &mut Tape<T>, dstates: &mut [T], gradient: &mut Self) {
        match (self, tape, gradient) {
            (Self::Gru(layer), Tape::Gru(tape), Self::Gru(gradient)) => {
                layer.backward(xs, tape, dstates, gradient, None);
            }
            (Self::Lstm(layer), Tape::Lstm(tape), Self::Lstm(gradient)) => {
                layer.backward(xs, tape, dstates, gradient, None);
            }
            _ => panic!("a tape or gradient of another kind of network"),
        }
    }
}

impl<T: Real> Parameters<T> for Core<T> {
    fn visit(&self, prefix: &str, visit: &mut Visit<'_, T>) {
        match self {
            Self::Gru(layer) => layer.visit(&format!("{prefix}gru."), visit),
            Self::Lstm(layer) => layer.visit(&format!("{prefix}lstm."), visit),
        }
    }

    fn visit_mut(&mut self, prefix: &str, visit: &mut VisitMut<'_, T>) {
        match self {
            Self::Gru(layer) => layer.visit_mut(&format!("{prefix}gru."), visit),
            Self::Lstm(layer) => layer.visit_mut(&format!("{prefix}lstm."), visit),
        }
    }
}
