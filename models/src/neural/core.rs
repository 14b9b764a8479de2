//! The part of a network that reads a series step by step.

use crate::nn::{Gru, GruTape, Lstm, LstmTape, Parameters, Random, Real, Tcn, TcnTape, Visit, VisitMut};

/// Which kind of network reads the series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CoreKind {
    /// Gated recurrent units.
    Gru,
    /// Long short-term memory.
    Lstm,
    /// Dilated causal convolutions.
    Cnn,
}

impl CoreKind {
    /// All.
    pub const ALL: [Self; 3] = [Self::Gru, Self::Lstm, Self::Cnn];

    /// The one of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|core| core.name() == name)
    }

    /// Its name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gru => "gru",
            Self::Lstm => "lstm",
            Self::Cnn => "cnn",
        }
    }
}

/// The layer itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Core<T> {
    Gru(Gru<T>),
    Lstm(Lstm<T>),
    Cnn(Tcn<T>),
}

/// What its forward pass keeps for the backward pass.
#[derive(Clone, Debug)]
pub enum Tape<T> {
    Gru(GruTape<T>),
    Lstm(LstmTape<T>),
    Cnn(TcnTape<T>),
}

impl<T: Real> Tape<T> {
    /// The output after `step` steps; 0 is before the first.
    pub fn state(&self, step: usize) -> &[T] {
        match self {
            Self::Gru(tape) => tape.state(step),
            Self::Lstm(tape) => tape.state(step),
            Self::Cnn(tape) => tape.state(step),
        }
    }
}

impl<T: Real> Core<T> {
    pub fn random(kind: CoreKind, inputs: usize, hidden: usize, random: &mut Random) -> Self {
        match kind {
            CoreKind::Gru => Self::Gru(Gru::random(inputs, hidden, random)),
            CoreKind::Lstm => Self::Lstm(Lstm::random(inputs, hidden, random)),
            CoreKind::Cnn => Self::Cnn(Tcn::random(inputs, hidden, random)),
        }
    }

    pub fn zeros(kind: CoreKind, inputs: usize, hidden: usize) -> Self {
        match kind {
            CoreKind::Gru => Self::Gru(Gru::zeros(inputs, hidden)),
            CoreKind::Lstm => Self::Lstm(Lstm::zeros(inputs, hidden)),
            CoreKind::Cnn => Self::Cnn(Tcn::zeros(inputs, hidden)),
        }
    }

    /// Length of the state; its first part is the output.
    pub fn state_len(&self) -> usize {
        match self {
            Self::Gru(layer) => layer.hidden(),
            Self::Lstm(layer) => 2 * layer.hidden(),
            Self::Cnn(layer) => layer.state_len(),
        }
    }

    pub fn scratch(&self) -> usize {
        match self {
            Self::Gru(layer) => layer.scratch(),
            Self::Lstm(layer) => layer.scratch(),
            Self::Cnn(layer) => layer.scratch(),
        }
    }

    pub fn step(&self, x: &[T], state: &mut [T], scratch: &mut [T]) {
        match self {
            Self::Gru(layer) => layer.step(x, state, scratch),
            Self::Lstm(layer) => layer.step(x, state, scratch),
            Self::Cnn(layer) => layer.step(x, state, scratch),
        }
    }

    /// An empty tape at the zero state.
    pub fn tape(&self) -> Tape<T> {
        match self {
            Self::Gru(layer) => Tape::Gru(GruTape::new(layer.hidden())),
            Self::Lstm(layer) => Tape::Lstm(LstmTape::new(layer.hidden())),
            Self::Cnn(layer) => Tape::Cnn(layer.tape()),
        }
    }

    pub fn forward(&self, xs: &[T], tape: &mut Tape<T>) {
        match (self, tape) {
            (Self::Gru(layer), Tape::Gru(tape)) => layer.forward(xs, tape),
            (Self::Lstm(layer), Tape::Lstm(tape)) => layer.forward(xs, tape),
            (Self::Cnn(layer), Tape::Cnn(tape)) => layer.forward(xs, tape),
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
            (Self::Cnn(layer), Tape::Cnn(tape), Self::Cnn(gradient)) => {
                layer.backward(tape, dstates, gradient);
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
            Self::Cnn(layer) => layer.visit(&format!("{prefix}cnn."), visit),
        }
    }

    fn visit_mut(&mut self, prefix: &str, visit: &mut VisitMut<'_, T>) {
        match self {
            Self::Gru(layer) => layer.visit_mut(&format!("{prefix}gru."), visit),
            Self::Lstm(layer) => layer.visit_mut(&format!("{prefix}lstm."), visit),
            Self::Cnn(layer) => layer.visit_mut(&format!("{prefix}cnn."), visit),
        }
    }
}
