//! Prophet as an expert: fitted anew every few hours on two weeks of half-hours.

use crate::expert::{Bin, Expert, ModelKind, VALUE_LIMIT};
use crate::forecast::{Grid, Target};
use crate::holidays::Holidays;
use crate::prophet::{Holiday, Parts, Prophet as Model};
use crate::state::state;

/// What a fit sees: the means of slots of half an hour (of a bin where that is longer), enough for four waves a day.
const SLOT_SECONDS: u32 = 1800;

/// Two weeks of them: no bin that is older than the protocol's 14 days.
const HISTORY_SECONDS: u32 = 14 * 86_400;

/// Slots between two fits: two hours. A fit costs about a millisecond.
const FIT_EVERY: i64 = 4;

/// Days of history before the first fit, which has a daily shape (Prophet's own rule), and before a weekly one
/// (FORECAST.md, lesson 5).
const DAILY_AFTER: i64 = 2;
const WEEKLY_AFTER: i64 = 7;

/// Points of its own path that the maximum over a target is taken of: the curve has no wave shorter than six hours.
const PATH_POINTS: u32 = 12;

/// A slot without a measured bin; loads are not negative.
const MISSING: f32 = -1.0;

/// Prophet ([`Model`]) over the last two weeks; between two fits its curve stands.
#[derive(Clone, Debug)]
pub struct Prophet {
    grid: Grid,
    holidays: Holidays,
    /// Their checksum, and that of those that the model was fitted with: after a restart there may be others.
    checksum: u32,
    fitted_with: u32,
    bins_per_slot: i64,
    /// Means of whole slots, a ring by slot number.
    slots: Vec<f32>,
    /// The first slot with a value, the slot that is being filled, its sum and its measured bins.
    first: Option<i64>,
    slot: i64,
    sum: f64,
    count: u32,
    fitted: i64,
    model: Option<Model>,
    newest: i64,
    last: f64,
}
state!(Prophet { slots, first, slot, sum, count, fitted, fitted_with, model, newest, last }
    fixed { grid, holidays, checksum, bins_per_slot });

impl Prophet {
    /// Without history or holidays.
    pub fn new(grid: Grid) -> Self {
        Self::with_holidays(grid, Holidays::default())
    }

    /// With holidays that are known beforehand.
    pub fn with_holidays(grid: Grid, holidays: Holidays) -> Self {
        let bins_per_slot = SLOT_SECONDS.div_ceil(grid.step_seconds);
        let slots = HISTORY_SECONDS / (bins_per_slot * grid.step_seconds);
        Self {
            grid,
            checksum: holidays.checksum(),
            fitted_with: 0,
            holidays,
            bins_per_slot: i64::from(bins_per_slot),
            slots: vec![MISSING; slots.max(1) as usize],
            first: None,
            slot: 0,
            sum: 0.0,
            count: 0,
            fitted: 0,
            model: None,
            newest: 0,
            last: 0.0,
        }
    }

    /// The curve at bin `index`, while there is one; not bounded below.
    pub fn curve(&self, index: i64) -> Option<f64> {
        let time = (index as f64 + 0.5) * f64::from(self.grid.step_seconds);
        self.model
            .as_ref()
            .map(|model| model.at(time, self.holidays_of_fit()).clamp(-VALUE_LIMIT, VALUE_LIMIT))
    }

    /// What the model was fitted with; nothing until the next fit where others were configured since.
    fn holidays_of_fit(&self) -> &[Holiday] {
        if self.fitted_with == self.checksum { self.holidays.each() } else { &[] }
    }

    fn at(&self, index: i64) -> f64 {
        self.curve(index).map_or(self.last, |curve| curve.max(0.0))
    }

    fn place(&self, slot: i64) -> usize {
        slot.rem_euclid(self.slots.len() as i64) as usize
    }

    /// Ends the slot that is being filled and begins `slot`; those between them are missing.
    fn turn(&mut self, slot: i64) {
        let at = self.place(self.slot);
        self.slots[at] = if self.count > 0 { (self.sum / f64::from(self.count)) as f32 } else { MISSING };
        let capacity = self.slots.len() as i64;
        for skipped in (self.slot + 1).max(slot.saturating_sub(capacity))..slot {
            let at = self.place(skipped);
            self.slots[at] = MISSING;
        }
        (self.slot, self.sum, self.count) = (slot, 0.0, 0);
        let slot_seconds = self.bins_per_slot * i64::from(self.grid.step_seconds);
        let age = slot.saturating_sub(self.first.unwrap_or(slot)).saturating_mul(slot_seconds);
        let known = self.fitted_with == self.checksum;
        let due = self.model.is_none() || !known || slot - self.fitted >= FIT_EVERY;
        if due && age >= DAILY_AFTER * 86_400 {
            self.fit(age >= WEEKLY_AFTER * 86_400, slot_seconds as f64);
        }
    }

    fn fit(&mut self, weekly: bool, slot_seconds: f64) {
        (self.fitted, self.fitted_with) = (self.slot, self.checksum);
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for slot in self.slot - self.slots.len() as i64..self.slot {
            let value = self.slots[self.place(slot)];
            if value >= 0.0 && self.first.is_some_and(|first| slot >= first) {
                times.push((slot as f64 + 0.5) * slot_seconds);
                values.push(f64::from(value));
            }
        }
        // An idle fortnight has no model: its last value says as much.
        self.model = Model::fit(&times, &values, Parts { daily: true, weekly }, self.holidays.each());
    }
}

impl Expert for Prophet {
    fn kind(&self) -> ModelKind {
        ModelKind::Prophet
    }

    fn observe(&mut self, bin: Bin) {
        let slot = bin.index.div_euclid(self.bins_per_slot);
        if self.first.is_none() {
            if bin.value.is_none() {
                return;
            }
            (self.first, self.slot) = (Some(slot), slot);
        } else if slot > self.slot {
            self.turn(slot);
        }
        if let Some(value) = bin.learnable(self.at(bin.index)) {
            self.sum += value;
            self.count += 1;
            self.last = value;
        }
        self.newest = bin.index;
    }

    fn awake(&self) -> bool {
        self.model.is_some()
    }

    fn predict(&self, targets: &[Target], out: &mut [f64]) {
        for (target, out) in targets.iter().zip(out) {
            *out = match *target {
                Target::At { steps } => self.at(self.newest + i64::from(steps)),
                Target::MaxOver { steps } => {
                    let points = steps.min(PATH_POINTS);
                    let step = |k: u32| i64::from((k * steps).div_ceil(points));
                    (1..=points).map(|k| self.at(self.newest + step(k))).fold(0.0, f64::max)
                }
            };
        }
    }

    fn grid(&self) -> Grid {
        self.grid
    }

    fn heap_bytes(&self) -> usize {
        let days: usize = self.holidays.each().iter().map(|h| h.days.len() + 3).sum();
        self.slots.len() * 4 + days * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state;

    const GRID: Grid = Grid { step_seconds: 600 };

    /// A daily wave; twice as much on the days of `fair`.
    fn load(index: i64, fair: &[i64]) -> f64 {
        let day = index.div_euclid(144);
        let wave = 100.0 - 60.0 * libm::cos(std::f64::consts::TAU * (index % 144) as f64 / 144.0);
        if fair.contains(&day) { 2.0 * wave } else { wave }
    }

    fn dates(dates: &[&str]) -> Holidays {
        Holidays::of([("fair", dates.to_vec())]).unwrap()
    }

    #[test]
    fn it_wakes_after_two_days_and_knows_the_next() {
        let mut expert = Prophet::new(GRID);
        for index in 0..6 * 144 {
            expert.observe(Bin::new(index, load(index, &[])));
            assert_eq!(expert.awake(), index >= 2 * 144, "bin {index}");
        }
        let targets: Vec<Target> = [1, 36, 72, 108].map(|steps| Target::At { steps }).to_vec();
        let mut out = [0.0; 4];
        expert.predict(&targets, &mut out);
        for (target, got) in targets.iter().zip(out) {
            let expected = load(6 * 144 - 1 + i64::from(target.steps()), &[]);
            assert!((got - expected).abs() < 0.05 * expected, "{target:?}: {got} instead of {expected}");
        }
        let mut most = [0.0];
        expert.predict(&[Target::MaxOver { steps: 144 }], &mut most);
        assert!((most[0] - 160.0).abs() < 8.0, "the day's largest is 160: {most:?}");
    }

    #[test]
    fn a_holiday_that_was_seen_is_expected_again_and_no_other_day_is() {
        // Fairs on day 5 and on day 11, of which only the first is in the history.
        let fair = [5, 11];
        let run = |holidays: Holidays| {
            let mut expert = Prophet::with_holidays(GRID, holidays);
            for index in 0..11 * 144 {
                expert.observe(Bin::new(index, load(index, &fair)));
            }
            let mut out = [0.0; 2];
            // Noon of the fair, and noon of the day after.
            expert.predict(&[Target::At { steps: 73 }, Target::At { steps: 144 + 73 }], &mut out);
            out
        };
        let known = run(dates(&["1970-01-06", "1970-01-12"]));
        let unknown = run(Holidays::default());
        assert!(known[0] > unknown[0] + 50.0, "{known:?} with the dates, {unknown:?} without");
        assert!((known[1] - 160.0).abs() < 30.0, "the day after is a usual one: {known:?}");
    }

    #[test]
    fn other_holidays_than_those_of_the_saved_fit_count_from_the_next_fit_on() {
        let with = |holidays: &[&str]| Prophet::with_holidays(GRID, dates(holidays));
        let fair = [5, 11];
        let mut saved = with(&["1970-01-06", "1970-01-12"]);
        (0..11 * 144).for_each(|index| saved.observe(Bin::new(index, load(index, &fair))));
        let bytes = state::write(&saved);
        let noon = |expert: &Prophet| expert.curve(11 * 144 + 72).unwrap();
        let mut other = with(&["1970-01-07"]);
        state::read(&mut other, &bytes).unwrap();
        assert!(noon(&saved) > noon(&other) + 50.0, "day 11 is none of the new ones, whatever was fitted");
        let mut added = with(&["1970-01-06", "1970-01-12"]);
        let mut before = Prophet::new(GRID);
        (0..11 * 144).for_each(|index| before.observe(Bin::new(index, load(index, &fair))));
        state::read(&mut added, &state::write(&before)).unwrap();
        assert_eq!(noon(&added), noon(&before), "until it is fitted anew");
        (11 * 144..11 * 144 + 4).for_each(|index| added.observe(Bin::new(index, load(index, &[]))));
        assert!(noon(&added) > noon(&before) + 50.0, "half an hour later the new dates count");
    }

    #[test]
    fn missing_days_are_left_out_of_the_fit() {
        let mut expert = Prophet::new(GRID);
        for index in 0..10 * 144 {
            if !(4 * 144..5 * 144 + 7).contains(&index) {
                expert.observe(Bin::new(index, load(index, &[])));
            }
        }
        let mut out = [0.0];
        expert.predict(&[Target::At { steps: 72 }], &mut out);
        assert!((out[0] - load(10 * 144 + 71, &[])).abs() < 10.0, "{out:?}");
    }
}
