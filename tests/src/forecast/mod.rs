//! `cargo xtask forecast`: traces in, predictions out, in the format and protocol of `evaluate.py`.

pub mod maxima;
pub mod protocol;
pub mod run;
pub mod trace;
