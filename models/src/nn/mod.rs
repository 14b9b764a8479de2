//! A small neural library: the layers, losses and the optimiser that our forecasters need, and nothing else.
//!
//! - [`Dense`], [`Conv1d`] (causal) and a stack of them ([`Tcn`]), [`Gru`], [`Lstm`]: forward passes step by step, which
//!   don't allocate, and over sequences, with hand-written backward passes (through time).
//! - [`loss`]: pinball loss and quantiles that can't cross.
//! - [`Adam`] with decoupled weight decay and clipping of the gradient's norm.
//! - [`weights`]: safetensors in, safetensors out, shapes checked.
//! - [`Random`]: the one source of randomness, from a seed.
//!
//! Parameters live in `ndarray` arrays; the loops over them are our own ([`products`]), in a stated order of
//! summation, and transcendental functions come from `libm`: the same seed gives the same bytes on every machine.
//! Everything is generic over [`Real`]: `f32` in use, `f64` where tests compare gradients with central differences.
//!
//! A gradient has its layer's own type, so that `Gru::zeros(…)` is both an empty network and an empty gradient.

pub mod activation;
mod adam;
mod conv;
mod dense;
mod gru;
pub mod loss;
mod lstm;
mod parameters;
pub mod products;
mod random;
mod real;
#[cfg(test)]
mod recurrent_tests;
#[cfg(test)]
pub(crate) mod reference;
mod tcn;
#[cfg(test)]
pub(crate) mod testing;
pub mod weights;

pub use adam::{Adam, AdamSettings};
pub use conv::Conv1d;
pub use dense::Dense;
pub use gru::{Gru, GruTape};
pub use lstm::{Lstm, LstmTape};
pub use parameters::{Parameters, Visit, VisitMut};
pub use random::Random;
pub use real::Real;
pub use tcn::{Tcn, TcnTape};
