//! What pooled trees learn from: rows of many workloads, each with the outcome that it was followed by.

use crate::expert::Bin;
use crate::forecast::{Grid, Target};

use super::features::{Features, SIZE};

/// Rows and labels of many workloads.
#[derive(Clone, Debug, Default)]
pub struct Examples {
    /// [`SIZE`] regressors a row.
    pub rows: Vec<f32>,
    /// (outcome − base) / unit, [`Features::base`].
    pub labels: Vec<f64>,
}

/// A row that waits for its outcome: its origin, base and unit ([`Features::base`]) beside it.
type Waiting = (i64, f64, f64, [f32; SIZE]);

/// Reads one workload's past, bin by bin, and adds its examples.
pub struct Collector {
    features: Features,
    every: i64,
    /// A ring by origin for each target.
    waiting: Vec<Vec<Waiting>>,
}

impl Collector {
    /// Takes every so many-th origin, so that each workload gives as much as is wanted of it.
    ///
    /// # Panics
    /// If `every` is 0.
    pub fn new(grid: Grid, targets: &[Target], every: usize) -> Self {
        assert!(every > 0, "every origin at most once");
        let every = every as i64;
        let empty: Waiting = (i64::MIN, 0.0, 1.0, [0.0; SIZE]);
        let waiting = |t: &Target| vec![empty; (i64::from(t.steps()) / every) as usize + 1];
        Self { features: Features::new(grid, targets), every, waiting: targets.iter().map(waiting).collect() }
    }

    /// Takes the next bin; indices only grow.
    pub fn observe(&mut self, bin: Bin, examples: &mut Examples) {
        let (waiting, every) = (&mut self.waiting, self.every);
        let row_of = |ring: usize, origin: i64| origin.div_euclid(every).rem_euclid(ring as i64) as usize;
        self.features.observe(bin.sane(), |target, origin, truth| {
            let ring = &waiting[target];
            let (kept, base, unit, row) = ring[row_of(ring.len(), origin)];
            if kept == origin && origin.rem_euclid(every) == 0 {
                examples.rows.extend(row);
                examples.labels.push((truth - base) / unit);
            }
        });
        if bin.index.rem_euclid(every) != 0 || !self.features.awake() {
            return;
        }
        for (number, ring) in self.waiting.iter_mut().enumerate() {
            let at = row_of(ring.len(), bin.index);
            let (base, unit) = self.features.base(number);
            ring[at] = (bin.index, base, unit, self.features.row(number));
        }
    }
}
