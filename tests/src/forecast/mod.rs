//! `cargo xtask forecast` and `evaluate`: traces in, predictions or a report out, by the protocol of `evaluate.py`.

pub mod anomalies;
#[cfg(test)]
mod causality;
pub mod cold;
pub mod drift;
pub mod maxima;
pub mod metrics;
mod nodes;
pub mod protocol;
pub mod report;
pub mod run;
pub mod trace;
