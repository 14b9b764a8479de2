//! Running levels and profiles of one series, each constant work per bin: what candidates are made of.

use crate::forecast::Grid;
use crate::packed::Packed;
use crate::state::state;

/// An exponentially weighted mean; a plain one until its memory is full.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    value: f64,
    seen: f64,
    rate: f64,
}
state!(Level { value, seen } fixed { rate });

impl Level {
    /// With a memory of `seconds`, at least a bin.
    pub fn new(seconds: f64, grid: Grid) -> Self {
        let bins = (seconds / f64::from(grid.step_seconds)).max(1.0);
        Self { value: 0.0, seen: 0.0, rate: 1.0 / bins }
    }

    /// Takes a value.
    pub fn add(&mut self, value: f64) {
        self.seen += 1.0;
        self.value += (1.0 / self.seen).max(self.rate) * (value - self.value);
    }

    /// Moves the mean, as when what the values are relative to has moved.
    pub fn shift(&mut self, by: f64) {
        self.value += by;
    }

    /// The mean; 0 at first.
    pub fn value(&self) -> f64 {
        self.value
    }
}

/// A level with a slope that dies out: Holt's method, damped.
///
/// Gardner, McKenzie: *Forecasting trends in time series*, Management Science 31 (1985).
#[derive(Clone, Copy, Debug, Default)]
pub struct Trend {
    level: f64,
    slope: f64,
    seen: bool,
}
state!(Trend { level, slope, seen });

impl Trend {
    /// Smoothing of the level and of the slope per bin, and the slope's damping, the middle of the customary ranges
    /// (Hyndman, Athanasopoulos: *Forecasting*, §8.2: damping between 0.8 and 0.98).
    const ALPHA: f64 = 0.3;
    const BETA: f64 = 0.05;
    const DAMPING: f64 = 0.95;

    /// Takes a value.
    pub fn add(&mut self, value: f64) {
        if !self.seen {
            *self = Self { level: value, slope: 0.0, seen: true };
            return;
        }
        let expected = self.level + Self::DAMPING * self.slope;
        let level = expected + Self::ALPHA * (value - expected);
        self.slope = Self::DAMPING * self.slope + Self::BETA * (level - expected);
        self.level = level;
    }

    /// The value `steps` bins ahead.
    pub fn ahead(&self, steps: u32) -> f64 {
        let damped = libm::pow(Self::DAMPING, f64::from(steps));
        self.level + self.slope * Self::DAMPING * (1.0 - damped) / (1.0 - Self::DAMPING)
    }
}

/// What the series does at each phase of a period, learned turn by turn.
#[derive(Clone, Debug)]
pub struct Profile {
    slots: Box<[Packed]>,
    /// Bins that share a slot.
    width: i64,
    /// Bins of a period.
    period: i64,
    /// Weight of the newest turn.
    rate: f32,
    /// The slot that is being filled, and its mean so far.
    open: Option<i64>,
    sum: f64,
    count: f64,
    /// Slots filled so far, up to two turns.
    filled: usize,
}
state!(Profile { slots, open, sum, count, filled } fixed { width, period, rate });

impl Profile {
    /// A profile over `period_seconds` in slots of `slot_seconds` or a bin.
    pub fn new(period_seconds: u32, slot_seconds: u32, rate: f32, grid: Grid) -> Self {
        let width = (slot_seconds / grid.step_seconds).max(1);
        let period = (period_seconds / grid.step_seconds).max(width);
        Self {
            slots: vec![Packed::default(); (period / width) as usize].into_boxed_slice(),
            width: i64::from(width),
            period: i64::from(period),
            rate,
            open: None,
            sum: 0.0,
            count: 0.0,
            filled: 0,
        }
    }

    /// Takes the value of bin `index`.
    pub fn add(&mut self, index: i64, value: f64) {
        let slot = index.div_euclid(self.width);
        if self.open != Some(slot) {
            self.close();
            self.open = Some(slot);
        }
        self.sum += value;
        self.count += 1.0;
        // A slot of one bin is known at once.
        if self.width == 1 {
            self.close();
        }
    }

    fn close(&mut self) {
        let (Some(slot), true) = (self.open, self.count > 0.0) else { return };
        let mean = (self.sum / self.count) as f32;
        let turns = self.filled / self.slots.len();
        let at = slot.rem_euclid(self.slots.len() as i64) as usize;
        let rate = if turns == 0 { 1.0 } else { self.rate };
        let old = self.slots[at].get();
        self.slots[at] = Packed::new(old + rate * (mean - old));
        self.filled = (self.filled + 1).min(2 * self.slots.len());
        (self.sum, self.count, self.open) = (0.0, 0.0, None);
    }

    /// Whether a whole turn was seen.
    pub fn ready(&self) -> bool {
        self.filled >= self.slots.len()
    }

    /// What is usual at bin `index`, interpolated between the middles of slots.
    pub fn at(&self, index: i64) -> f64 {
        let phase = index.rem_euclid(self.period);
        let last = self.slots.len();
        if self.width == 1 {
            return f64::from(self.slots[phase as usize % last].get());
        }
        let at = (phase as f64 + 0.5) / self.width as f64 - 0.5;
        let below = at.floor();
        let share = at - below;
        let slot = |i: f64| f64::from(self.slots[(i as i64).rem_euclid(last as i64) as usize].get());
        slot(below) * (1.0 - share) + slot(below + 1.0) * share
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        std::mem::size_of_val(&*self.slots)
    }
}

/// The newest day, bin by bin.
#[derive(Clone, Debug)]
pub struct Day {
    values: Box<[Packed]>,
    /// Bins seen, up to a day and a bit more.
    seen: usize,
    newest: i64,
}
state!(Day { values, seen, newest });

impl Day {
    /// Extra bins behind the day, for a window around yesterday's value.
    const MARGIN: usize = 64;

    /// Empty.
    pub fn new(grid: Grid) -> Self {
        let values = vec![Packed::default(); grid.bins_per_day() + Self::MARGIN].into_boxed_slice();
        Self { values, seen: 0, newest: i64::MIN }
    }

    /// Takes the value of bin `index`, the next one.
    pub fn add(&mut self, index: i64, value: f64) {
        let at = index.rem_euclid(self.values.len() as i64) as usize;
        self.values[at] = Packed::new(value as f32);
        self.seen = (self.seen + 1).min(self.values.len());
        self.newest = index;
    }

    /// The value of bin `index`, if it is still known.
    pub fn at(&self, index: i64) -> Option<f64> {
        let age = self.newest.checked_sub(index)?;
        (age >= 0 && age < self.seen as i64)
            .then(|| f64::from(self.values[index.rem_euclid(self.values.len() as i64) as usize].get()))
    }

    /// The mean of the known values within `reach` bins of `index`.
    pub fn around(&self, index: i64, reach: i64) -> Option<f64> {
        let (mut sum, mut count) = (0.0, 0.0);
        for i in index - reach..=index + reach {
            if let Some(value) = self.at(i) {
                sum += value;
                count += 1.0;
            }
        }
        (count > 0.0).then(|| sum / count)
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        std::mem::size_of_val(&*self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid { step_seconds: 60 };

    #[test]
    fn a_profile_repeats_what_each_phase_did() {
        let mut fine = Profile::new(3600, 0, 0.2, GRID);
        let mut coarse = Profile::new(86_400, 300, 0.3, GRID);
        for i in 0..3 * 1440 {
            assert_eq!(fine.ready(), i >= 60);
            fine.add(i, (i % 60) as f64);
            coarse.add(i, (i % 1440) as f64);
        }
        assert_eq!(fine.at(3 * 1440 + 17), 17.0);
        // A slot of five minutes means its middle; between middles the line is exact.
        assert!((coarse.at(3 * 1440 + 500) - 500.0).abs() < 0.25, "{}", coarse.at(3 * 1440 + 500));
    }

    #[test]
    fn a_day_remembers_a_day_and_no_more() {
        let mut day = Day::new(GRID);
        for i in 0..3000 {
            day.add(i, i as f64);
        }
        let yesterday = day.at(2999 - 1440).unwrap();
        assert!((yesterday - 1559.0).abs() < 1.0, "{yesterday}");
        assert_eq!(day.at(3000), None, "not yet");
        assert_eq!(day.at(1000), None, "no longer");
        let around = day.around(2000, 7).unwrap();
        assert!((around - 2000.0).abs() < 1.0, "{around}");
    }

    #[test]
    fn a_trend_goes_on_and_dies_out() {
        let mut trend = Trend::default();
        for i in 0..500 {
            trend.add(f64::from(i));
        }
        let (near, far, farther) = (trend.ahead(1), trend.ahead(100), trend.ahead(10_000));
        assert!(near < far && far < farther && farther - far < 1.0, "{near} {far} {farther}");
    }
}
