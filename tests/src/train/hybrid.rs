//! Training of the hybrid's network on the residuals that Prophet leaves on the training parts.

use anyhow::{Result, ensure};
use prescale_models::Grid;
use prescale_models::hybrid::Network;
use prescale_models::hybrid::training::{Lesson, Training, score};

use super::data::{rates, targets};
use crate::forecast::trace::Trace;

/// Its name on the command line, as of the model.
pub const NAME: &str = "prophet_lstm";

/// What the network learns from, and what is kept from it.
pub struct Lessons {
    learned: Vec<Lesson>,
    /// What each is of: trace, bins with a residual, the last bin's time.
    pub saw: Vec<(String, usize, String)>,
    /// Of each trace the whole lesson, and where what is held out begins.
    held_out: Vec<(String, Lesson, usize)>,
}

/// What came of a training.
pub struct Trained {
    /// The network.
    pub network: Network<f32>,
    /// Mean loss of the last tenth of the updates.
    pub loss: f64,
}

impl Lessons {
    /// Reads training parts; the last `hold_out` of each is kept from the network.
    ///
    /// # Errors
    /// If none is long enough for Prophet and a lesson.
    pub fn read(traces: &[Trace], hold_out: f64) -> Result<Self> {
        let mut it = Self { learned: Vec::new(), saw: Vec::new(), held_out: Vec::new() };
        for trace in traces {
            let rates = rates(trace);
            let grid = Grid { step_seconds: trace.step_seconds };
            let lesson = |rates: &[f64]| Lesson::new(grid, &targets(grid), trace.index(0), rates);
            let kept = (rates.len() as f64 * (1.0 - hold_out)) as usize;
            let learned = lesson(&rates[..kept]);
            if learned.is_empty() {
                continue;
            }
            if kept < rates.len() {
                it.held_out.push((trace.name.clone(), lesson(&rates), learned.len()));
            }
            it.saw.push((trace.name.clone(), learned.len(), trace.time(kept - 1)));
            it.learned.push(learned);
        }
        ensure!(!it.learned.is_empty(), "no trace is long enough to learn from");
        Ok(it)
    }

    /// Trains.
    pub fn train(&self, seed: u64, updates: usize) -> Trained {
        let mut training = Training::new(&self.learned, seed);
        let (mut sum, mut count) = (0.0, 0_u32);
        for update in 0..updates {
            let loss = training.update(update as f64 / updates as f64);
            if update >= updates - updates.div_ceil(10) {
                sum += loss;
                count += 1;
            }
        }
        Trained { network: training.network().clone(), loss: sum / f64::from(count) }
    }

    /// A network's error on what was held out, in that of Prophet's curve alone, by trace.
    pub fn held_out(&self, network: &Network<f32>) -> Vec<(&str, f64)> {
        let scores = self
            .held_out
            .iter()
            .filter_map(|(name, lesson, from)| Some((name.as_str(), score(network, lesson, *from)?)));
        scores.collect()
    }
}
