//! ARIMA as an expert: chosen and fitted anew every few hours of bins, run online between.

use crate::arima::Arima as Model;
use crate::expert::{Bin, Expert, ModelKind, VALUE_LIMIT};
use crate::forecast::{Grid, Target};
use crate::state::state;

/// Bins that a fit sees: a day of minutes.
const WINDOW: usize = 1440;

/// Bins before the first fit: two hours of minutes, twice what the twelve tried orders could be told apart by.
const FIRST_FIT: usize = 120;

/// A fit of twelve orders costs about five million operations; every so many bins that is 14,000 a bin.
const FIT_EVERY: i64 = 360;

/// Forecasts leave the range of the window by at most this many of its widths: a nearly unstable fit must not run away.
const LEAST_ROOM: f64 = 1.0;

/// ARIMA(p ≤ 3, d ≤ 1, q ≤ 2) over the last 1,440 bins ([`Model`]).
///
/// Bins that were not measured hold what was expected of them.
#[derive(Clone, Debug)]
pub struct Arima {
    grid: Grid,
    /// The newest bins, a ring by index.
    values: Vec<f32>,
    first: Option<i64>,
    newest: i64,
    fitted: i64,
    model: Option<Model>,
    /// Least and largest of the window at the last fit.
    range: (f64, f64),
}
state!(Arima { values, first, newest, fitted, model, range } fixed { grid });

impl Arima {
    /// Without history.
    pub fn new(grid: Grid) -> Self {
        let values = vec![0.0; WINDOW];
        Self { grid, values, first: None, newest: 0, fitted: 0, model: None, range: (0.0, 0.0) }
    }

    fn value(&self, index: i64) -> f64 {
        f64::from(self.values[index.rem_euclid(WINDOW as i64) as usize])
    }

    fn bound(&self, value: f64) -> f64 {
        let (least, most) = self.range;
        let room = LEAST_ROOM * (most - least);
        // What lies beyond the range now, lies beyond it for a while.
        let last = self.value(self.newest);
        value.clamp(least.min(last) - room, most.max(last) + room).clamp(0.0, VALUE_LIMIT)
    }

    fn expected(&self) -> f64 {
        self.model.map_or_else(|| self.value(self.newest), |model| self.bound(model.expected()))
    }

    fn fit(&mut self) {
        self.fitted = self.newest;
        let stored = self.first.map_or(0, |first| (self.newest - first + 1).min(WINDOW as i64));
        let series: Vec<f64> = (self.newest - stored + 1..=self.newest).map(|i| self.value(i)).collect();
        self.model = Model::choose(&series);
        self.range = series
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), v| (least.min(*v), most.max(*v)));
    }
}

impl Expert for Arima {
    fn kind(&self) -> ModelKind {
        ModelKind::Arima
    }

    fn observe(&mut self, bin: Bin) {
        if self.first.is_none() || bin.index - self.newest > WINDOW as i64 {
            // Nothing of the window is left.
            let Some(value) = bin.value else { return };
            self.first = Some(bin.index);
            (self.newest, self.fitted, self.model) = (bin.index, bin.index, None);
            self.values[bin.index.rem_euclid(WINDOW as i64) as usize] = value as f32;
            return;
        }
        for index in self.newest + 1..=bin.index {
            let expected = self.expected();
            let value = if index == bin.index { bin.learnable(expected) } else { None };
            let value = value.unwrap_or(expected) as f32;
            self.values[index.rem_euclid(WINDOW as i64) as usize] = value;
            self.newest = index;
            if let Some(model) = &mut self.model {
                model.observe(f64::from(value));
            }
            let age = index - self.first.unwrap_or(index) + 1;
            let first = self.model.is_none() && age == FIRST_FIT as i64;
            if first || (age > FIRST_FIT as i64 && index - self.fitted >= FIT_EVERY) {
                self.fit();
            }
        }
    }

    fn awake(&self) -> bool {
        self.model.is_some()
    }

    fn predict(&self, targets: &[Target], out: &mut [f64]) {
        let longest = targets.iter().map(|t| t.steps()).max().unwrap_or(0);
        let Some(model) = self.model else { return out.fill(self.expected()) };
        out.fill(0.0);
        model.forecast(longest, |step, value| {
            let value = self.bound(value);
            for (target, out) in targets.iter().zip(&mut *out) {
                match target {
                    Target::At { steps } if *steps == step => *out = value,
                    Target::MaxOver { steps } if *steps >= step => *out = out.max(value),
                    _ => {}
                }
            }
        });
    }

    fn grid(&self) -> Grid {
        self.grid
    }

    fn heap_bytes(&self) -> usize {
        std::mem::size_of_val(&*self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_wakes_after_two_hours_stays_in_range_and_forgets_a_fault_with_its_window() {
        let mut arima = Arima::new(Grid { step_seconds: 60 });
        let targets = [Target::At { steps: 30 }, Target::MaxOver { steps: 30 }];
        let mut x = 1_u64;
        for i in 0..3500 {
            x = (1_103_515_245 * x + 12_345) % (1 << 31);
            let fault = if i == 1500 { 1e6 } else { 0.0 };
            arima.observe(Bin::new(i, 100.0 + (x / 65_536 % 20) as f64 + fault));
            assert_eq!(arima.awake(), i >= 119, "bin {i}");
            let mut out = [0.0; 2];
            arima.predict(&targets, &mut out);
            assert!(out.iter().all(|v| (50.0..2.1e6).contains(v)), "bin {i}: {out:?}");
            // The window is past it at 2,940, the next fit at most 360 bins later.
            if i > 3300 {
                assert!(out.iter().all(|v| (95.0..125.0).contains(v)), "bin {i}: {out:?}");
            }
        }
    }
}
