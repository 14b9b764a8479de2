//! The filter: from bins to verdicts.

use crate::expert::Bin;
use crate::forecast::Grid;
use crate::state::{self, Unreadable, state};

use super::shape::{WINDOW, is_generated};
use super::strange::{LEAST_PAST, Scores, score};

/// A flood is this many times the last hour's level and more than half beyond the largest value of about a week, is strange to
/// the forest or to the autoencoder, and is the new load when it has lasted so many bins. Lesser rises are followed.
const FLOOD_FACTOR: f64 = 8.0;
const BEYOND_PEAK: f64 = 1.5;
const FLOOD_LASTS: u16 = 60;

/// Liu et al. (2008), figure 2: scores above 0.6 are potential anomalies. An error ten times the usual one is that of a shape
/// which was not in the past.
const FOREST_STRANGE: f64 = 0.6;
const CODER_STRANGE: f64 = 10.0;

/// A run of equal values that chance gives less often than this, and a fifth longer than any of the last week, is a counter
/// that stands still: once in a million bins, two years of minutes. What has stood still for so many bins is the load.
const CHANCE: f64 = 1e-6;
const LONGER: f64 = 1.2;
const FAULT_LASTS: u16 = 60;

/// Values may come in steps of so large a part of themselves: those of `core::series` are 0.084 % apart.
const STEP: f64 = 1e-3;

/// Seconds that a workload's habits are remembered, and those of its level.
const MEMORY_SECONDS: f64 = 86_400.0;
const LEVEL_SECONDS: f64 = 3600.0;

/// Why a bin is not what it seems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

/// What to do with a bin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// For forecasts.
    pub learning: Learning,
    /// For replicas.
    pub acting: Acting,
    /// How strange a rise is that may be a flood; of other bins nobody asks.
    pub scores: Option<Scores>,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Flood, Self::Synthetic, Self::Fault];

    /// Its label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flood => "flood",
            Self::Synthetic => "synthetic",
            Self::Fault => "fault",
        }
    }

    /// Whether nothing may shrink for it: a synthetic load costs what a real one does.
    pub fn holds(self) -> bool {
        self != Self::Synthetic
    }

    /// What the forecasts of minutes and more see in a bin's place. A flood and a fault are gaps to them: what a season, a
    /// network or a histogram learned of either would be forecast for days. A generated load is only called so: on the loads
    /// of real timers that look like one, gaps cost far more than the generators' shape does (`docs/models/anomaly.md`).
    pub fn shown(self, bin: Bin) -> Bin {
        if self == Self::Synthetic { bin } else { Bin::missing(bin.index) }
    }
}

impl Verdict {
    /// Why the bin is not what it seems, if so.
    pub fn reason(&self) -> Option<Reason> {
        if let Learning::Skip(reason) = self.learning { Some(reason) } else { None }
    }
}

/// One workload's filter: online, deterministic, 64 bytes. What it needs of the past beyond its habits it is shown.
///
/// A synthetic load costs what a real one does, so it is followed. A flood holds and a fault holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    grid: Grid,
    newest: Option<i64>,
    /// The count of that bin; NaN before the first and after a gap.
    last: f32,
    /// How many bins in a row it has been equal.
    run: u16,
    /// The last hour's level, and how far it moves from bin to bin, in counts.
    level: f32,
    movement: f32,
    /// The largest count of about a week: a Monday is no flood after a weekend.
    peak: f32,
    /// The flood so far: largest count and bins.
    flood_peak: f32,
    flood_bins: u16,
    /// The longest runs of zeros and of other equal counts of about a week.
    longest: [f32; 2],
    /// The share of bins of about a day that a generator made.
    generated: f32,
    learned: u32,
    /// What the newest bin was found to be: 1 + its place in [`Reason::ALL`], or 0.
    found: u8,
}
state!(Filter {
    newest, last, run, level, movement, peak, flood_peak, flood_bins, longest, generated, learned, found
} fixed { grid });

impl Filter {
    /// Without history.
    pub fn new(grid: Grid) -> Self {
        Self {
            grid,
            newest: None,
            last: f32::NAN,
            run: 1,
            level: 0.0,
            movement: 0.0,
            peak: 0.0,
            flood_peak: 0.0,
            flood_bins: 0,
            longest: [0.0; 2],
            generated: 0.0,
            learned: 0,
            found: 0,
        }
    }

    /// Everything that it has learned, as bytes: [`Filter::restored`] reads them.
    pub fn save(&self) -> Vec<u8> {
        state::write(self)
    }

    /// This filter, fresh for the same grid, with what the saved one had learned.
    ///
    /// # Errors
    /// [`Unreadable`], when the bytes are no filter's: of another build, or broken.
    pub fn restored(mut self, bytes: &[u8]) -> Result<Self, Unreadable> {
        state::read(&mut self, bytes)?;
        Ok(self)
    }

    /// Why the newest bin is not what it seems, if so.
    pub fn doubt(&self) -> Option<Reason> {
        Reason::ALL.get(usize::from(self.found).wrapping_sub(1)).copied()
    }

    /// Takes note of a bin that is known to say nothing: a gap, or a lower bound.
    pub fn pass(&mut self, index: i64) {
        self.newest = self.newest.max(Some(index));
        (self.last, self.found) = (f32::NAN, 0);
    }

    /// Judges the next bin, as it was measured: *before* [`Bin::sane`], which would hide a fault. A bin that is not later than
    /// all before is a fault.
    ///
    /// `past` gives the value of an earlier bin by its index, `None` where it was not measured whole: the newest
    /// 47 of every bin, and a day of minutes where there may be a flood.
    pub fn judge(&mut self, bin: Bin, past: impl Fn(i64) -> Option<f64>) -> Verdict {
        let verdict = self.judged(bin, past);
        self.found = verdict.reason().map_or(0, |reason| 1 + reason as u8);
        verdict
    }

    fn judged(&mut self, bin: Bin, past: impl Fn(i64) -> Option<f64>) -> Verdict {
        let late = self.newest.is_some_and(|newest| bin.index <= newest);
        let Some(value) = bin.sane().value.filter(|_| !late) else {
            self.last = f32::NAN;
            return verdict(Some(Reason::Fault), None);
        };
        if self.newest.is_some_and(|newest| bin.index > newest + 1) {
            self.last = f32::NAN;
        }
        self.newest = Some(bin.index);
        let seconds = f64::from(self.grid.step_seconds);
        let count = value * seconds;
        let still = self.stands_still(count);
        let generated = window(bin.index, count, |index| Some(past(index)? * seconds))
            .is_some_and(|counts| is_generated(&counts));
        let habit = self.generated;
        self.generated += self.rate(MEMORY_SECONDS) * (f32::from(u8::from(generated)) - habit);

        let begins = self.flood_bins == 0 && self.is_high(count);
        let scores = begins
            .then(|| score(self.grid, bin.index, count, |index| Some(past(index)? * seconds)))
            .flatten();
        let flood = self.is_flood(count, scores);
        let reason = if flood {
            Some(Reason::Flood)
        } else if still {
            Some(Reason::Fault)
        } else if generated && habit < 0.5 {
            Some(Reason::Synthetic)
        } else {
            None
        };
        if !flood {
            self.peak = (self.peak * self.kept()).max(count as f32);
        }
        if reason.is_none() {
            self.learn(count);
        }
        self.last = count as f32;
        verdict(reason, scores)
    }

    /// Weight of a bin among those of `seconds`; a plain mean's until there are so many.
    fn rate(&self, seconds: f64) -> f32 {
        let bins = (seconds / f64::from(self.grid.step_seconds)).max(1.0);
        (1.0 / bins.min(f64::from(self.learned) + 1.0)) as f32
    }

    /// What is left of the largest count and the longest runs after a bin.
    fn kept(&self) -> f32 {
        1.0 - (f64::from(self.grid.step_seconds) / (7.0 * MEMORY_SECONDS)).min(0.5) as f32
    }

    /// Whether `count` ends a run of equal counts that neither chance nor this workload's habits give.
    fn stands_still(&mut self, count: f64) -> bool {
        let kept = self.kept();
        let silent = count <= 0.0;
        if (count as f32).total_cmp(&self.last).is_ne() {
            if !self.last.is_nan() {
                let longest = &mut self.longest[usize::from(self.last > 0.0)];
                *longest = longest.max(f32::from(self.run));
            }
            self.run = 1;
        } else {
            self.longest.iter_mut().for_each(|longest| *longest *= kept);
            self.run = self.run.saturating_add(1);
        }
        // Of a Poisson count of mean n a zero has the probability e⁻ⁿ, n being the usual count. Two counts are equal with
        // 1/√(4πn) or so, and so many times that where several counts have one value: the first of a run tells nothing. The
        // quarter keeps small counts finite.
        let (told, chance) = if silent {
            (self.run, -f64::from(self.level))
        } else {
            let together = (STEP * count).max(1.0);
            let equal = libm::log(together) - 0.5 * libm::log(4.0 * std::f64::consts::PI * (count + 0.25));
            (self.run - 1, equal)
        };
        // Habits need a day of bins, or a young workload's first pause is a fault.
        self.run <= FAULT_LASTS
            && f64::from(self.learned) * f64::from(self.grid.step_seconds) >= MEMORY_SECONDS
            && f64::from(told) * chance < libm::log(CHANCE)
            && f64::from(told) > LONGER * f64::from(self.longest[usize::from(!silent)])
    }

    /// Whether the count is as high as a flood's.
    fn is_high(&self, count: f64) -> bool {
        let level = f64::from(self.level) + self.scale();
        self.learned as usize >= LEAST_PAST
            && count > FLOOD_FACTOR * level
            && count > BEYOND_PEAK * f64::from(self.peak)
    }

    fn is_flood(&mut self, count: f64, scores: Option<Scores>) -> bool {
        let strange = scores.is_some_and(|it| it.forest >= FOREST_STRANGE || it.autoencoder >= CODER_STRANGE);
        // What began as a flood is one until it has gone or has lasted.
        if self.is_high(count) && (strange || self.flood_bins > 0) && self.flood_bins < FLOOD_LASTS {
            self.flood_bins += 1;
            self.flood_peak = self.flood_peak.max(count as f32);
            return true;
        }
        if self.flood_bins > 0 {
            // It has been seen: another of its size is no surprise for days.
            self.peak = self.peak.max(self.flood_peak);
            (self.flood_bins, self.flood_peak) = (0, 0.0);
        }
        false
    }

    /// How far counts usually move, as `scale.rs` has it.
    fn scale(&self) -> f64 {
        let level = f64::from(self.level);
        0.5 * f64::from(self.movement) + 0.5 * (level + 0.25).sqrt() + 0.02 * level
    }

    fn learn(&mut self, count: f64) {
        let rate = self.rate(LEVEL_SECONDS);
        let count = count as f32;
        self.level += rate * (count - self.level);
        if !self.last.is_nan() {
            self.movement += rate * ((count - self.last).abs() - self.movement);
        }
        self.learned = self.learned.saturating_add(1);
    }
}

/// The newest counts, this one last; `None` where one is not known.
fn window(index: i64, count: f64, past: impl Fn(i64) -> Option<f64>) -> Option<[f32; WINDOW]> {
    let mut counts = [count as f32; WINDOW];
    // From the newest on: a gap is found soonest there.
    for (back, slot) in counts.iter_mut().rev().enumerate().skip(1) {
        *slot = past(index - back as i64)? as f32;
    }
    Some(counts)
}

fn verdict(reason: Option<Reason>, scores: Option<Scores>) -> Verdict {
    let learning = reason.map_or(Learning::Take, Learning::Skip);
    let acting = reason.filter(|reason| reason.holds()).map_or(Acting::Follow, Acting::Hold);
    Verdict { learning, acting, scores }
}
