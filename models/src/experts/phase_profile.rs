//! Phase profile: a cycle of any length found by autocorrelation, and the shape of its latest turns.

use crate::expert::{Bin, Expert, ModelKind, VALUE_LIMIT};
use crate::forecast::{Grid, Target};
use crate::season::{autocorrelation, dominant_period};
use crate::state::state;

/// Bins that the search looks at: a day of minutes, four hours of 10 s bins.
const WINDOW: usize = 1440;

/// The longest cycle, in bins: six hours of minutes, 30 hours of 300 s bins. Longer ones have experts of their own.
const MAX_PERIOD: usize = 360;

/// Turns that the shape is averaged over: WINDOW / MAX_PERIOD, so that the longest cycle has as many.
const TURNS: usize = 4;

/// The newest turn counts 1, each earlier one this much of its successor.
const TURN_DECAY: f64 = 0.8;

/// The search runs again after so many bins: an hour of minutes, so that it costs little per bin.
const SEARCH_EVERY: i64 = 60;

/// Bins before the first search: two turns of an hour's cron, the cycle that is looked for most.
const FIRST_SEARCH: i64 = 120;

/// Timers, crons and pollers, whatever their period: minute of the hour, every ten, every fifteen minutes.
///
/// The period is the highest peak of the autocorrelation of the differenced series (Box, Jenkins, Reinsel, Ljung: *Time
/// Series Analysis*, 5th ed., §2.1.5 and §9.1; [`dominant_period`]). The forecast is the level of the latest turn plus
/// the mean offset that the bin's phase had from the level of its own turn in the latest four turns. Sleeps while no
/// period stands out.
#[derive(Clone, Debug)]
pub struct PhaseProfile {
    grid: Grid,
    /// The newest bins, a ring by index; bins that were not measured hold what was expected of them.
    values: Vec<f32>,
    first: Option<i64>,
    newest: i64,
    searched: i64,
    period: Option<usize>,
    /// Mean of the newest turns, the newest first.
    levels: [f64; TURNS],
}
state!(PhaseProfile { values, first, newest, searched, period, levels } fixed { grid }
    sound |p| p.period.is_none_or(|period| (1..=MAX_PERIOD).contains(&period)));

impl PhaseProfile {
    /// Without history.
    pub fn new(grid: Grid) -> Self {
        let values = vec![0.0; WINDOW];
        Self { grid, values, first: None, newest: 0, searched: 0, period: None, levels: [0.0; TURNS] }
    }

    /// The cycle's length in bins, while one stands out.
    pub fn period(&self) -> Option<usize> {
        self.period
    }

    fn value(&self, index: i64) -> f64 {
        f64::from(self.values[index.rem_euclid(WINDOW as i64) as usize])
    }

    fn stored(&self) -> usize {
        self.first.map_or(0, |first| ((self.newest - first + 1) as usize).min(WINDOW))
    }

    /// Whole turns that are stored.
    fn turns(&self, period: usize) -> usize {
        (self.stored() / period).min(TURNS)
    }

    fn at(&self, steps: u32) -> f64 {
        let Some(period) = self.period else { return self.value(self.newest) };
        // Bins of the same phase: the newest one that is known already, then one turn earlier each.
        let back = (period - 1 - (steps as usize - 1) % period) as i64;
        let (mut sum, mut weights, mut weight) = (0.0, 0.0, 1.0);
        for turn in 0..self.turns(period) {
            let same_phase = self.newest - back - (turn * period) as i64;
            sum += weight * (self.value(same_phase) - self.levels[turn]);
            weights += weight;
            weight *= TURN_DECAY;
        }
        let offset = if weights > 0.0 { sum / weights } else { 0.0 };
        (self.levels[0] + offset).clamp(0.0, VALUE_LIMIT)
    }

    fn search(&mut self) {
        self.searched = self.newest;
        let stored = self.stored() as i64;
        let series: Vec<f64> = (self.newest - stored + 1..=self.newest).map(|i| self.value(i)).collect();
        let changes: Vec<f64> = series.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // A period must have turned twice to be one.
        let longest = MAX_PERIOD.min(changes.len() / 2);
        self.period = dominant_period(&autocorrelation(&changes, longest), changes.len());
    }

    fn refresh_levels(&mut self) {
        let Some(period) = self.period else { return };
        for turn in 0..self.turns(period) {
            let end = self.newest - (turn * period) as i64;
            let sum: f64 = (end - period as i64 + 1..=end).map(|i| self.value(i)).sum();
            self.levels[turn] = sum / period as f64;
        }
    }
}

impl Expert for PhaseProfile {
    fn kind(&self) -> ModelKind {
        ModelKind::PhaseProfile
    }

    fn observe(&mut self, bin: Bin) {
        let gap = bin.index - self.newest;
        if self.first.is_none() || gap > WINDOW as i64 {
            // Nothing of the window is left.
            let Some(value) = bin.value else { return };
            self.first = Some(bin.index);
            (self.newest, self.searched, self.period) = (bin.index, bin.index, None);
            self.values[bin.index.rem_euclid(WINDOW as i64) as usize] = value as f32;
            return;
        }
        for index in self.newest + 1..=bin.index {
            let expected = self.at(1);
            let value = if index == bin.index { bin.learnable(expected) } else { None };
            self.values[index.rem_euclid(WINDOW as i64) as usize] = value.unwrap_or(expected) as f32;
            self.newest = index;
            let age = index - self.first.unwrap_or(index);
            if age >= FIRST_SEARCH && index - self.searched >= SEARCH_EVERY {
                self.search();
            }
            self.refresh_levels();
        }
    }

    fn awake(&self) -> bool {
        self.period.is_some()
    }

    fn predict(&self, targets: &[Target], out: &mut [f64]) {
        for (target, out) in targets.iter().zip(out) {
            *out = match *target {
                Target::At { steps } => self.at(steps),
                Target::MaxOver { steps } => {
                    // After one turn the path repeats.
                    let steps = self.period.map_or(1, |period| steps.min(period as u32));
                    (1..=steps).map(|k| self.at(k)).fold(0.0, f64::max)
                }
            };
        }
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

    fn cron(every: i64, bins: i64) -> PhaseProfile {
        let mut profile = PhaseProfile::new(Grid { step_seconds: 60 });
        for i in 0..bins {
            let burst = if i % every == 3 { 500.0 } else { 0.0 };
            // A slow wave, so that the level moves under the cycle.
            let wave = 100.0 + 50.0 * libm::sin(i as f64 / 300.0);
            profile.observe(Bin::new(i, wave + burst));
        }
        profile
    }

    #[test]
    fn a_timer_of_any_period_is_found_and_its_next_burst_foreseen() {
        for every in [7, 10, 15, 17, 60, 90] {
            let profile = cron(every, 1000);
            assert_eq!(profile.period(), Some(every as usize), "every {every} minutes");
            let targets: Vec<Target> = (1..=every as u32).map(|steps| Target::At { steps }).collect();
            let mut out = vec![0.0; targets.len()];
            profile.predict(&targets, &mut out);
            let bursts: Vec<usize> = (0..out.len()).filter(|k| out[*k] > 400.0).collect();
            let next = (3 - 1000_i64).rem_euclid(every) as usize;
            assert_eq!(bursts, [next], "every {every} minutes: {out:?}");
        }
    }

    #[test]
    fn noise_and_a_slow_wave_have_no_period() {
        let mut profile = PhaseProfile::new(Grid { step_seconds: 60 });
        let mut x = 1_u64;
        for i in 0..3000_i64 {
            x = (1_103_515_245 * x + 12_345) % (1 << 31);
            let wave = 100.0 + 50.0 * libm::sin(i as f64 / 200.0);
            profile.observe(Bin::new(i, wave + (x / 65_536 % 100) as f64 / 5.0));
            assert!(profile.period().is_none() && !profile.awake(), "bin {i}: {:?}", profile.period());
        }
    }
}
