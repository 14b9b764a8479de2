//! RLS-AR: a regression on recent values and yesterday's, per target, by recursive least squares.

use crate::expert::{Bin, Expert, ModelKind, VALUE_LIMIT};
use crate::forecast::{Grid, Target};
use crate::rls::Rls;
use crate::scale::LocalScale;
use crate::state::state;
use crate::window::{Outcome, Window};

/// Single bins back that are regressors: the newest ones, thinning out.
const LAGS: [usize; 5] = [0, 1, 2, 4, 8];

/// Bins that the regressor means are over.
const MEANS: [usize; 3] = [5, 15, 60];

/// The longest of them, and so what is kept of the series.
const RECENT: usize = MEANS[MEANS.len() - 1];

/// Bins that the level is the mean of; the 15-minute mean of FORECAST.md, on minutes.
const LEVEL_BINS: usize = 15;

/// Regressors that all targets share: a constant, the lags, the means, yesterday now. Each has one more, yesterday at
/// the target.
const COMMON: usize = 1 + LAGS.len() + MEANS.len() + 1;

/// λ: about two days of minutes are remembered, as by the ensemble's weights.
const KEEP: f64 = 1.0 - 1.0 / 3000.0;

/// δ: as much as ten observations of unit size.
const RIDGE: f64 = 10.0;

/// Regressors are clipped at so many of their own deviations (FORECAST.md, lesson 6).
const CLIP: f64 = 10.0;

/// Yesterday at the target is clipped at so many local scales: bursts of a hundred scales recur, larger ones are faults.
const DAY_CLIP: f64 = 100.0;

/// Memory of those deviations, in bins: as λ.
const CLIP_MEMORY: f64 = 3000.0;

/// Settled forecasts before it is believed (an hour of minutes; FORECAST.md, anchors: under an hour it is not useful).
const LEAST_SETTLED: u32 = 60;

/// Yesterday's phases are this long at least, as Holt-Winters' are.
const PHASE_SECONDS: u32 = 60;

/// Direct multi-step autoregression: for each target one regression of (value − level) / scale at the target on the
/// same quantity at earlier bins, learned as targets become due.
///
/// Lags and means are taken relative to a level (the mean of the last 15 bins) and in local scales, so that the weights
/// mean the same at any load. Direct multi-step: Marcellino, Stock, Watson, *A comparison of direct and iterated
/// multistep AR methods*, Journal of Econometrics 135 (2006); that online linear regression leads on cloud load:
/// arXiv 2502.12944. The recursion and its guards: [`Rls`].
#[derive(Clone, Debug)]
pub struct RlsAr {
    grid: Grid,
    scale: LocalScale,
    /// The newest bins, a ring by index, missing ones carried on; as long as the longest mean.
    recent: [f32; RECENT],
    /// The bins as far as they were measured, for settling.
    window: Window,
    /// Yesterday by phase; NaN where nothing was seen.
    day: Vec<f32>,
    bins_per_phase: i64,
    newest: Option<i64>,
    /// Second moments of the regressors that all targets share.
    moments: [f64; COMMON],
    seen: f64,
    /// What the bins back to the longest target were forecast from, a ring by index.
    origins: Vec<Origin>,
    targets: Vec<Regression>,
}
state!(RlsAr { scale, recent, window, day, newest, moments, seen, origins, targets } fixed { grid, bins_per_phase });

#[derive(Clone, Debug)]
struct Regression {
    target: Target,
    rls: Rls,
    /// Yesterday's outcome of the target, of the newest origins; a ring by index.
    yesterday: Vec<f32>,
    settled: u32,
}
state!(Regression { rls, yesterday, settled } fixed { target });

/// What every target's regression starts from.
#[derive(Clone, Copy, Debug)]
struct Origin {
    index: i64,
    level: f64,
    scale: f64,
    common: [f32; COMMON],
}
state!(Origin { index, level, scale, common });

impl RlsAr {
    /// Without history.
    pub fn new(grid: Grid, targets: &[Target]) -> Self {
        let longest = targets.iter().map(|t| t.steps() as usize).max().unwrap_or(1);
        let bins_per_phase = (PHASE_SECONDS / grid.step_seconds).max(1) as usize;
        let regression = |&target: &Target| Regression {
            target,
            rls: Rls::new(COMMON + 1, KEEP, RIDGE),
            yesterday: vec![0.0; target.steps() as usize + 1],
            settled: 0,
        };
        let origin = Origin { index: i64::MIN, level: 0.0, scale: 1.0, common: [0.0; COMMON] };
        Self {
            grid,
            scale: LocalScale::new(grid),
            recent: [0.0; RECENT],
            window: Window::new(longest + 1),
            day: vec![f32::NAN; (grid.bins_per_day() / bins_per_phase).max(1)],
            bins_per_phase: bins_per_phase as i64,
            newest: None,
            moments: [0.0; COMMON],
            seen: 0.0,
            origins: vec![origin; longest + 1],
            targets: targets.iter().map(regression).collect(),
        }
    }

    fn back(&self, newest: i64, bins: usize) -> f64 {
        f64::from(self.recent[(newest - bins as i64).rem_euclid(RECENT as i64) as usize])
    }

    fn mean(&self, newest: i64, bins: usize) -> f64 {
        (0..bins).map(|k| self.back(newest, k)).sum::<f64>() / bins as f64
    }

    /// Yesterday's value at `index`, which is at most a day after the newest bin.
    fn day_at(&self, index: i64) -> Option<f64> {
        let phase = index.div_euclid(self.bins_per_phase).rem_euclid(self.day.len() as i64);
        Some(f64::from(self.day[phase as usize])).filter(|v| !v.is_nan())
    }

    fn settle(&mut self, now: i64) {
        for regression in &mut self.targets {
            let origin = now - i64::from(regression.target.steps());
            let kept = &self.origins[origin.rem_euclid(self.origins.len() as i64) as usize];
            if kept.index != origin {
                continue;
            }
            let outcome = match regression.target {
                Target::At { .. } => self.window.get(now),
                Target::MaxOver { .. } => self.window.max(origin + 1, now),
            };
            // A lower bound is no equation.
            let Outcome::Known(truth) = outcome else { continue };
            let x = regression.regressors(origin, kept);
            regression.rls.update(&x, (truth - kept.level) / kept.scale);
            regression.settled = regression.settled.saturating_add(1);
        }
    }

    /// Takes the newest bin into the rings, carrying the last value over what is missing.
    fn store(&mut self, bin: Bin) {
        let last = self.newest.map(|newest| self.back(newest, 0));
        let value = bin.learnable(last.unwrap_or(0.0)).or(last).unwrap_or(0.0);
        let Some(newest) = self.newest.replace(bin.index) else {
            self.recent.fill(value as f32);
            return;
        };
        for index in (newest + 1).max(bin.index.saturating_sub(RECENT as i64))..bin.index {
            self.recent[index.rem_euclid(RECENT as i64) as usize] = last.unwrap_or(0.0) as f32;
        }
        self.recent[bin.index.rem_euclid(RECENT as i64) as usize] = value as f32;
    }

    fn remember_day(&mut self, bin: Bin) {
        let Some(value) = bin.learnable(self.day_at(bin.index).unwrap_or(0.0)) else { return };
        let phase = bin.index.div_euclid(self.bins_per_phase).rem_euclid(self.day.len() as i64);
        let within = bin.index.rem_euclid(self.bins_per_phase) as f64;
        let old = &mut self.day[phase as usize];
        // The first bin of a phase replaces yesterday, the others are averaged into it.
        let mean = if within > 0.0 && !old.is_nan() { f64::from(*old) } else { value };
        *old = (mean + (value - mean) / (within + 1.0)) as f32;
    }

    fn start(&mut self, now: i64) {
        let level = self.mean(now, LEVEL_BINS);
        let scale = self.scale.value();
        let scaled = |value: f64| (value - level) / scale;
        let mut common = [0.0; COMMON];
        common[0] = 1.0;
        for (x, lag) in common[1..].iter_mut().zip(LAGS) {
            *x = scaled(self.back(now, lag));
        }
        for (x, bins) in common[1 + LAGS.len()..].iter_mut().zip(MEANS) {
            *x = scaled(self.mean(now, bins));
        }
        common[COMMON - 1] = self.day_at(now).map_or(0.0, scaled);
        self.seen += 1.0;
        let rate = (1.0 / self.seen).max(1.0 / CLIP_MEMORY);
        for (x, moment) in common.iter_mut().zip(&mut self.moments) {
            let limit = if self.seen > CLIP * CLIP { CLIP * libm::sqrt(*moment) } else { f64::INFINITY };
            *x = x.clamp(-limit, limit);
            *moment += rate * (*x * *x - *moment);
        }
        for i in 0..self.targets.len() {
            let at = match self.targets[i].target {
                Target::At { steps } => self.day_at(now + i64::from(steps)),
                Target::MaxOver { steps } => (1..=i64::from(steps))
                    .filter_map(|k| self.day_at(now + k))
                    .fold(None, |most: Option<f64>, v| Some(most.map_or(v, |most| most.max(v)))),
            };
            let kept = &mut self.targets[i].yesterday;
            let row = now.rem_euclid(kept.len() as i64) as usize;
            // Relative to what is usual for the series' own movement from yesterday; unknown says nothing.
            kept[row] = at.map_or(0.0, |v| scaled(v).clamp(-DAY_CLIP, DAY_CLIP)) as f32;
        }
        let row = now.rem_euclid(self.origins.len() as i64) as usize;
        self.origins[row] = Origin { index: now, level, scale, common: common.map(|x| x as f32) };
    }
}

impl Regression {
    fn regressors(&self, origin: i64, kept: &Origin) -> [f64; COMMON + 1] {
        let mut x = [0.0; COMMON + 1];
        for (x, kept) in x.iter_mut().zip(&kept.common) {
            *x = f64::from(*kept);
        }
        x[COMMON] = f64::from(self.yesterday[origin.rem_euclid(self.yesterday.len() as i64) as usize]);
        x
    }
}

impl Expert for RlsAr {
    fn kind(&self) -> ModelKind {
        ModelKind::RlsAr
    }

    fn observe(&mut self, bin: Bin) {
        if self.newest.is_none() && bin.value.is_none() {
            return;
        }
        self.window.push(bin);
        if bin.value.is_some() {
            self.settle(bin.index);
        }
        self.store(bin);
        self.scale.observe(bin);
        self.remember_day(bin);
        self.start(bin.index);
    }

    fn awake(&self) -> bool {
        self.targets.iter().all(|t| t.settled >= LEAST_SETTLED)
    }

    fn predict(&self, targets: &[Target], out: &mut [f64]) {
        debug_assert_eq!(targets.len(), self.targets.len(), "made for other targets");
        let Some(newest) = self.newest else { return out.fill(0.0) };
        let kept = &self.origins[newest.rem_euclid(self.origins.len() as i64) as usize];
        for (regression, out) in self.targets.iter().zip(out) {
            *out = if regression.settled < LEAST_SETTLED {
                self.back(newest, 0)
            } else {
                let x = regression.regressors(newest, kept);
                (kept.level + kept.scale * regression.rls.predict(&x)).clamp(0.0, VALUE_LIMIT)
            };
        }
    }

    fn grid(&self) -> Grid {
        self.grid
    }

    fn heap_bytes(&self) -> usize {
        let own: usize =
            self.targets.iter().map(|t| t.rls.heap_bytes() + std::mem::size_of_val(&*t.yesterday)).sum();
        own + std::mem::size_of_val(&*self.targets)
            + std::mem::size_of_val(&*self.origins)
            + std::mem::size_of_val(&*self.day)
            + self.window.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_is_foreseen_at_every_target() {
        // A sinusoid obeys an autoregression of order two exactly; with noise of 1 the regression must beat the level.
        let targets = [Target::At { steps: 5 }, Target::At { steps: 15 }, Target::MaxOver { steps: 15 }];
        let mut expert = RlsAr::new(Grid { step_seconds: 60 }, &targets);
        let truth = |i: i64| 500.0 + 100.0 * libm::sin(i as f64 / 20.0);
        let mut x = 1_u64;
        for i in 0..4000 {
            x = (1_103_515_245 * x + 12_345) % (1 << 31);
            expert.observe(Bin::new(i, truth(i) + (x / 65_536 % 201) as f64 / 100.0 - 1.0));
        }
        let mut out = [0.0; 3];
        expert.predict(&targets, &mut out);
        let most = (1..=15).map(|k| truth(3999 + k)).fold(0.0, f64::max);
        for (out, truth) in out.iter().zip([truth(4004), truth(4014), most]) {
            assert!((out - truth).abs() < 8.0, "{out} instead of {truth}");
        }
    }

    #[test]
    fn it_sleeps_until_an_hour_of_minutes_has_settled() {
        let mut expert = RlsAr::new(Grid { step_seconds: 60 }, &[Target::At { steps: 5 }]);
        for i in 0..200 {
            expert.observe(Bin::new(i, 10.0));
            assert_eq!(expert.awake(), i >= 64, "bin {i}");
        }
    }
}
