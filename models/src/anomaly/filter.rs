//! The filter: from bins to verdicts.

use crate::expert::Bin;
use crate::forecast::Grid;
use crate::neural::{Level, Profile};
use crate::nn::Random;
use crate::scale::LocalScale;

use super::autoencoder::{Autoencoder, SPAN};
use super::forest::Forest;
use super::shape::{WINDOW, is_generated};

/// What the forest sees of a bin.
const FEATURES: usize = 6;

/// Points that the forest samples from. Past the first 256 every sixth bin replaces one of them at random: together a day of
/// minutes. It is grown anew so often that an hour of something new is not yet usual.
const POINTS: usize = 256;
const REPLACE_EVERY: u64 = 6;
const GROW_EVERY: u64 = 360;

/// A flood is this many times the last hour's level and more than half beyond the largest value of about a week, is strange to
/// the forest or to the autoencoder, and is the new load when it has lasted so many bins. Lesser rises are followed.
const FLOOD_FACTOR: f64 = 8.0;
const BEYOND_PEAK: f64 = 1.5;
const FLOOD_LASTS: u32 = 60;

/// Liu et al. (2008), figure 2: scores above 0.6 are potential anomalies. An error ten times the usual one is that of a shape
/// which was not in the past.
const FOREST_STRANGE: f64 = 0.6;
const CODER_STRANGE: f64 = 10.0;

/// A run of equal values that chance gives less often than this, and a fifth longer than any of the last week, is a counter
/// that stands still: once in a million bins, two years of minutes. A silence that lasts an hour of bins is one, whoever
/// caused it.
const CHANCE: f64 = 1e-6;
const LONGER: f64 = 1.2;
const SILENCE_LASTS: u32 = 60;

/// Seconds that a workload's habits are remembered.
const MEMORY_SECONDS: f64 = 86_400.0;

/// Why a bin is not what it seems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Many times the load of the last hour and well beyond the week's largest, at once.
    Flood,
    /// A rate that a generator keeps, where none was usual.
    Synthetic,
    /// Missing, negative, not a number, or a counter that stands still.
    Fault,
}

/// Whether forecasts may learn from the bin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learning {
    /// They may.
    Take,
    /// They should not.
    Skip(Reason),
}

/// Whether replicas may follow the bin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acting {
    /// They may.
    Follow,
    /// Nothing may shrink because of it; what must grow is left to the reactive floor.
    Hold(Reason),
}

/// How strange a bin is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// The isolation forest's: ½ is usual, 1 is the limit.
    pub forest: f64,
    /// The autoencoder's error, in usual errors.
    pub autoencoder: f64,
}

/// What to do with a bin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// For forecasts.
    pub learning: Learning,
    /// For replicas.
    pub acting: Acting,
    /// Behind both.
    pub scores: Scores,
}

/// One workload's filter: online, deterministic by its seed, some microseconds and 45 KB.
///
/// A synthetic load costs what a real one does, so it is followed, but not learned. A flood holds and a fault holds.
#[derive(Clone, Debug)]
pub struct Filter {
    seconds: f64,
    newest: Option<i64>,
    /// The newest counts without a gap, the newest last, and how many they are.
    counts: [f32; WINDOW],
    filled: usize,
    run: u32,
    movement: LocalScale,
    quarter: Level,
    hour: Level,
    minute: Profile,
    /// The largest count of about a week: a Monday is no flood after a weekend.
    peak: f64,
    /// The flood so far: bins and largest count.
    flood: (u32, f64),
    /// The longest runs of zeros and of other equal counts of about a week.
    longest: [f64; 2],
    /// The share of bins of about a day that a generator made.
    generated: Level,
    /// What is left of the largest count and the longest runs after a bin.
    forget: f64,
    random: Random,
    shape: [f32; SPAN],
    coder: Autoencoder,
    points: Vec<[f32; FEATURES]>,
    learned: u64,
    forest: Option<Forest<FEATURES>>,
}

impl Filter {
    /// Without history.
    pub fn new(grid: Grid, seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self {
            seconds: f64::from(grid.step_seconds),
            newest: None,
            counts: [0.0; WINDOW],
            filled: 0,
            run: 1,
            movement: LocalScale::new(Grid { step_seconds: 1 }),
            quarter: Level::new(300.0, grid),
            hour: Level::new(3600.0, grid),
            minute: Profile::new(3600, 0, 0.2, grid),
            peak: 0.0,
            flood: (0, 0.0),
            longest: [0.0; 2],
            generated: Level::new(MEMORY_SECONDS, grid),
            forget: 1.0 - (f64::from(grid.step_seconds) / (7.0 * MEMORY_SECONDS)).min(0.5),
            coder: Autoencoder::new(&mut random),
            random,
            shape: [0.0; SPAN],
            points: Vec::with_capacity(POINTS),
            learned: 0,
            forest: None,
        }
    }

    /// Judges the next bin, as it was measured: *before* [`Bin::sane`], which would hide a fault. A bin that is not later than
    /// all before is a fault.
    pub fn judge(&mut self, bin: Bin) -> Verdict {
        let usual = Scores { forest: 0.5, autoencoder: 1.0 };
        let late = self.newest.is_some_and(|newest| bin.index <= newest);
        let Some(value) = bin.sane().value.filter(|_| !late) else {
            self.filled = 0;
            return verdict(Some(Reason::Fault), usual);
        };
        if self.newest.is_some_and(|newest| bin.index > newest + 1) {
            self.filled = 0;
        }
        self.newest = Some(bin.index);
        let count = value * self.seconds;
        let still = self.stands_still(count);
        self.counts.copy_within(1.., 0);
        self.counts[WINDOW - 1] = count as f32;
        self.filled = (self.filled + 1).min(WINDOW);
        let generated = self.filled == WINDOW && is_generated(&self.counts);
        let habit = self.generated.value();
        self.generated.add(f64::from(u8::from(generated)));

        let features = self.features(bin.index, count);
        self.shape.copy_within(1.., 0);
        self.shape[SPAN - 1] = features[0];
        let scores = Scores {
            forest: self.forest.as_ref().map_or(0.5, |forest| forest.score(&features)),
            autoencoder: self.coder.score(&self.shape),
        };
        let flood = self.is_flood(count, scores);
        let reason = if still {
            Some(Reason::Fault)
        } else if flood {
            Some(Reason::Flood)
        } else if generated && habit < 0.5 {
            Some(Reason::Synthetic)
        } else {
            None
        };
        if !flood {
            self.peak = (self.peak * self.forget).max(count);
        }
        if reason.is_none() {
            self.learn(bin.index, count, &features);
        }
        verdict(reason, scores)
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.minute.heap_bytes()
            + self.coder.heap_bytes()
            + POINTS * size_of::<[f32; FEATURES]>()
            + self.forest.as_ref().map_or(0, Forest::heap_bytes)
    }

    /// Whether `count` ends a run of equal counts that neither chance nor this workload's habits give.
    fn stands_still(&mut self, count: f64) -> bool {
        let before = self.counts[WINDOW - 1];
        if self.filled == 0 || (count as f32).total_cmp(&before).is_ne() {
            let longest = &mut self.longest[usize::from(before > 0.0)];
            *longest = longest.max(f64::from(self.run));
            self.run = 1;
            return false;
        }
        self.longest.iter_mut().for_each(|longest| *longest *= self.forget);
        self.run = self.run.saturating_add(1);
        if count <= 0.0 && self.run > SILENCE_LASTS {
            return false;
        }
        // Two Poisson counts of mean n are equal with probability 1/√(4πn) or so; a zero follows another with e⁻ⁿ, n being
        // the usual count. The quarter keeps small counts finite.
        let chance = if count > 0.0 {
            -0.5 * libm::log(4.0 * std::f64::consts::PI * (count + 0.25))
        } else {
            -self.hour.value()
        };
        let run = f64::from(self.run);
        // Habits need a day of bins, or a young workload's first pause is a fault.
        self.learned as f64 * self.seconds >= MEMORY_SECONDS
            && (run - 1.0) * chance < libm::log(CHANCE)
            && run > LONGER * self.longest[usize::from(count > 0.0)] + 1.0
    }

    fn is_flood(&mut self, count: f64, scores: Scores) -> bool {
        let strange = scores.forest >= FOREST_STRANGE || scores.autoencoder >= CODER_STRANGE;
        let level = self.hour.value() + self.movement.value();
        let high = self.forest.is_some() && count > FLOOD_FACTOR * level && count > BEYOND_PEAK * self.peak;
        // What began as a flood is one until it has gone or has lasted.
        if high && (strange || self.flood.0 > 0) && self.flood.0 < FLOOD_LASTS {
            self.flood = (self.flood.0 + 1, self.flood.1.max(count));
            return true;
        }
        if self.flood.0 > 0 {
            // It has been seen: another of its size is no surprise for days.
            self.peak = self.peak.max(self.flood.1);
            self.flood = (0, 0.0);
        }
        false
    }

    fn features(&self, index: i64, count: f64) -> [f32; FEATURES] {
        let scale = self.movement.value();
        let relative = |distance: f64| libm::asinh(distance / scale) as f32;
        let hour = self.hour.value();
        let usual = if self.minute.ready() { self.minute.at(index) } else { hour };
        [
            relative(count - hour),
            relative(count - f64::from(self.counts[WINDOW - 2])),
            relative(count - usual),
            relative(self.quarter.value() - hour),
            libm::log1p(f64::from(self.run)) as f32,
            libm::log((count + 1.0) / (self.peak + 1.0)) as f32,
        ]
    }

    fn learn(&mut self, index: i64, count: f64, features: &[f32; FEATURES]) {
        self.movement.observe(Bin::new(index, count));
        self.quarter.add(count);
        self.hour.add(count);
        self.minute.add(index, count);
        if self.filled >= SPAN {
            self.coder.learn(&self.shape);
        }
        self.learned += 1;
        if self.points.len() < POINTS {
            self.points.push(*features);
        } else if self.learned.is_multiple_of(REPLACE_EVERY) {
            let at = self.random.below(POINTS);
            self.points[at] = *features;
        }
        if self.points.len() == POINTS && (self.forest.is_none() || self.learned.is_multiple_of(GROW_EVERY)) {
            self.forest = Some(Forest::grow(&self.points, &mut self.random));
        }
    }
}

fn verdict(reason: Option<Reason>, scores: Scores) -> Verdict {
    let learning = reason.map_or(Learning::Take, Learning::Skip);
    let acting = match reason {
        None | Some(Reason::Synthetic) => Acting::Follow,
        Some(reason) => Acting::Hold(reason),
    };
    Verdict { learning, acting, scores }
}
