//! Training of the hybrid's network on the residuals that Prophet leaves on the training parts.

use anyhow::{Result, ensure};
use prescale_models::Grid;
use prescale_models::hybrid::Network;
use prescale_models::hybrid::training::{Lesson, Training};

use super::data::{rates, targets};
use crate::forecast::trace::Trace;

/// Its name on the command line, as of the model.
pub const NAME: &str = "prophet_lstm";

/// What came of a training.
pub struct Trained {
    /// The network.
    pub network: Network<f32>,
    /// What it saw: trace, bins with a residual, the last bin's time.
    pub saw: Vec<(String, usize, String)>,
    /// Mean loss of the last tenth of the updates.
    pub loss: f64,
}

/// Trains on `traces`, which are training parts.
///
/// # Errors
/// If none is long enough for Prophet and a lesson.
pub fn train(traces: &[Trace], seed: u64, updates: usize) -> Result<Trained> {
    let (mut lessons, mut saw) = (Vec::new(), Vec::new());
    for trace in traces {
        let rates = rates(trace);
        let grid = Grid { step_seconds: trace.step_seconds };
        let lesson = Lesson::new(grid, &targets(grid), trace.index(0), &rates);
        if !lesson.is_empty() {
            saw.push((trace.name.clone(), lesson.len(), trace.time(rates.len() - 1)));
            lessons.push(lesson);
        }
    }
    ensure!(!lessons.is_empty(), "no trace is long enough to learn from");
    let mut training = Training::new(&lessons, seed);
    let (mut sum, mut count) = (0.0, 0_u32);
    for update in 0..updates {
        let loss = training.update(update as f64 / updates as f64);
        if update >= updates - updates.div_ceil(10) {
            sum += loss;
            count += 1;
        }
    }
    Ok(Trained { network: training.network().clone(), saw, loss: sum / f64::from(count) })
}
