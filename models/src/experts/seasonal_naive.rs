//! Seasonal naive: what was a day or a week ago is what will be.

use crate::expert::{Bin, Expert, ModelKind};
use crate::forecast::{Grid, Target};
use crate::state::state;

/// The value of the same bin one season ago (Hyndman & Athanasopoulos, *Forecasting: Principles and Practice*, 3rd ed.,
/// §5.2).
///
/// Holds one value a bin of the season. A bin that was not measured keeps what it had a season earlier; before the
/// first season is over the last value is repeated.
#[derive(Clone, Debug)]
pub struct SeasonalNaive {
    kind: ModelKind,
    grid: Grid,
    /// The newest value of each bin of the season; NaN where none was seen.
    season: Vec<f32>,
    first: Option<i64>,
    newest: i64,
    last: f64,
}
state!(SeasonalNaive { season, first, newest, last } fixed { kind, grid });

impl SeasonalNaive {
    /// A day's season, without history.
    pub fn daily(grid: Grid) -> Self {
        Self::new(ModelKind::SeasonalNaiveDay, grid, grid.bins_per_day())
    }

    /// A week's season, without history.
    pub fn weekly(grid: Grid) -> Self {
        Self::new(ModelKind::SeasonalNaiveWeek, grid, 7 * grid.bins_per_day())
    }

    fn new(kind: ModelKind, grid: Grid, period: usize) -> Self {
        Self { kind, grid, season: vec![f32::NAN; period], first: None, newest: 0, last: 0.0 }
    }

    fn at(&self, index: i64) -> f64 {
        let value = self.season[index.rem_euclid(self.season.len() as i64) as usize];
        if !self.awake() || value.is_nan() { self.last } else { f64::from(value) }
    }
}

impl Expert for SeasonalNaive {
    fn kind(&self) -> ModelKind {
        self.kind
    }

    fn observe(&mut self, bin: Bin) {
        let Some(value) = bin.learnable(self.at(bin.index)) else { return };
        // The last value stands in where the season is unknown, so it too must not fall by a lower bound.
        self.last = bin.learnable(self.last).unwrap_or(self.last);
        self.first.get_or_insert(bin.index);
        self.newest = bin.index;
        let period = self.season.len() as i64;
        self.season[bin.index.rem_euclid(period) as usize] = value as f32;
    }

    fn awake(&self) -> bool {
        self.first.is_some_and(|first| self.newest - first >= self.season.len() as i64)
    }

    fn predict(&self, targets: &[Target], out: &mut [f64]) {
        for (target, out) in targets.iter().zip(out) {
            *out = match *target {
                Target::At { steps } => self.at(self.newest + i64::from(steps)),
                Target::MaxOver { steps } => {
                    (1..=i64::from(steps)).map(|k| self.at(self.newest + k)).fold(0.0, f64::max)
                }
            };
        }
    }

    fn grid(&self) -> Grid {
        self.grid
    }

    fn heap_bytes(&self) -> usize {
        std::mem::size_of_val(&*self.season)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_that_was_missed_leaves_the_day_before() {
        let mut naive = SeasonalNaive::daily(Grid { step_seconds: 3600 });
        for hour in 0..48_i64 {
            naive.observe(Bin::new(hour, hour as f64));
        }
        for hour in (48..72_i64).filter(|h| *h != 60) {
            naive.observe(Bin::new(hour, hour as f64));
        }
        let mut out = [0.0; 3];
        let targets = [Target::At { steps: 1 }, Target::At { steps: 13 }, Target::MaxOver { steps: 13 }];
        naive.predict(&targets, &mut out);
        assert_eq!(out, [48.0, 36.0, 59.0]);
    }

    #[test]
    fn it_sleeps_for_its_first_season() {
        let mut naive = SeasonalNaive::weekly(Grid { step_seconds: 3600 });
        let mut out = [0.0];
        for hour in 0..7 * 24_i64 {
            naive.observe(Bin::new(hour, hour as f64));
            assert!(!naive.awake(), "{hour}");
            naive.predict(&[Target::At { steps: 1 }], &mut out);
            assert_eq!(out[0], hour as f64, "asleep it repeats the last value");
        }
        naive.observe(Bin::new(7 * 24, 0.0));
        assert!(naive.awake());
    }
}
