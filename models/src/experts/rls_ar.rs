//! RLS-AR: a regression on recent values and yesterday's, per target, by recursive least squares.

use crate::expert::{Bin, Expert, ModelKind, VALUE_LIMIT};
use crate::forecast::{Grid, Target};
use crate::packed::Signed;
use crate::rls::Rls;
use crate::scale::LocalScale;
use crate::state::state;

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

/// Yesterday's phases are this long at least: phases of a minute scored 0.4 % worse in the cluster ensemble, and cost
/// four times the memory.
const PHASE_SECONDS: u32 = 300;

/// Direct multi-step autoregression: for each distance of a target one regression of (value − level) / scale at the target on the
/// same quantity at earlier bins, learned as targets become due.
///
/// Lags and means are taken relative to a level (the mean of the last 15 bins) and in local scales, so that the weights
/// mean the same at any load. A maximum is the largest of the regressions up to its end. Direct multi-step: Marcellino, Stock, Watson, *A comparison of direct and iterated
/// multistep AR methods*, Journal of Econometrics 135 (2006); that online linear regression leads on cloud load:
/// arXiv 2502.12944. The recursion and its guards: [`Rls`].
#[derive(Clone, Debug)]
pub struct RlsAr {
    grid: Grid,
    scale: LocalScale,
    /// The newest bins, a ring by index, missing ones carried on; as long as the longest mean.
    recent: [f32; RECENT],
    /// Yesterday by phase.
    day: Box<[Signed]>,
    bins_per_phase: i64,
    /// The phase that is being filled, the sum over its bins and their number.
    open: (i64, f64, f64),
    newest: Option<i64>,
    /// Second moments of the regressors that all targets share.
    moments: [f64; COMMON],
    seen: f64,
    /// What the bins back to the longest target were forecast from, a ring by index.
    origins: Box<[Origin]>,
    /// One for each distance, ascending.
    regressions: Box<[Regression]>,
}
state!(RlsAr { scale, recent, day, open, newest, moments, seen, origins, regressions }
    fixed { grid, bins_per_phase });

#[derive(Clone, Debug)]
struct Regression {
    steps: u32,
    rls: Rls,
    /// Yesterday at the target, for the newest origins; a ring by index.
    yesterday: Box<[Signed]>,
    settled: u32,
    /// What it forecasts from the newest bin.
    point: f64,
}
state!(Regression { rls, yesterday, settled, point } fixed { steps });

/// What every regression starts from.
#[derive(Clone, Copy, Debug)]
struct Origin {
    level: f32,
    /// 0 before the row was first written, and of a bin that was skipped.
    scale: f32,
    common: [Signed; COMMON],
}
state!(Origin { level, scale, common });

impl Origin {
    const EMPTY: Self = Self { level: 0.0, scale: 0.0, common: [Signed::UNKNOWN; COMMON] };
}

impl RlsAr {
    /// Without history.
    pub fn new(grid: Grid, targets: &[Target]) -> Self {
        let longest = targets.iter().map(|t| t.steps() as usize).max().unwrap_or(1);
        let bins_per_phase = (PHASE_SECONDS / grid.step_seconds).max(1) as usize;
        let regression = |steps: u32| Regression {
            steps,
            rls: Rls::new(COMMON + 1, KEEP, RIDGE),
            yesterday: vec![Signed::UNKNOWN; steps as usize + 1].into(),
            settled: 0,
            point: 0.0,
        };
        let mut distances: Vec<u32> = targets.iter().map(|t| t.steps()).collect();
        distances.sort_unstable();
        distances.dedup();
        Self {
            grid,
            scale: LocalScale::new(grid),
            recent: [0.0; RECENT],
            day: vec![Signed::UNKNOWN; (grid.bins_per_day() / bins_per_phase).max(1)].into(),
            bins_per_phase: bins_per_phase as i64,
            open: (i64::MIN, 0.0, 0.0),
            newest: None,
            moments: [0.0; COMMON],
            seen: 0.0,
            origins: vec![Origin::EMPTY; longest + 1].into(),
            regressions: distances.into_iter().map(regression).collect(),
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
        self.day[phase as usize].get().map(f64::from)
    }

    fn settle(&mut self, now: i64, truth: f64) {
        for regression in &mut self.regressions {
            let origin = now - i64::from(regression.steps);
            let kept = &self.origins[origin.rem_euclid(self.origins.len() as i64) as usize];
            if kept.scale <= 0.0 {
                continue;
            }
            let x = regression.regressors(origin, kept);
            regression.rls.update(&x, (truth - f64::from(kept.level)) / f64::from(kept.scale));
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
        let rows = self.origins.len() as i64;
        for index in (newest + 1).max(bin.index.saturating_sub(rows))..bin.index {
            self.origins[index.rem_euclid(rows) as usize] = Origin::EMPTY;
        }
        self.recent[bin.index.rem_euclid(RECENT as i64) as usize] = value as f32;
    }

    /// A phase replaces yesterday's when it is over: until then yesterday is what it is compared with.
    fn remember_day(&mut self, bin: Bin) {
        let phase = bin.index.div_euclid(self.bins_per_phase);
        let (open, sum, count) = &mut self.open;
        if *open != phase {
            if *count > 0.0 {
                let at = open.rem_euclid(self.day.len() as i64) as usize;
                self.day[at] = Signed::new((*sum / *count) as f32);
            }
            (*open, *sum, *count) = (phase, 0.0, 0.0);
        }
        let so_far = if *count > 0.0 { *sum / *count } else { 0.0 };
        if let Some(value) = bin.learnable(so_far) {
            *sum += value;
            *count += 1.0;
        }
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
        let row = now.rem_euclid(self.origins.len() as i64) as usize;
        let common = common.map(|x| Signed::new(x as f32));
        let origin = Origin { level: level as f32, scale: scale as f32, common };
        self.origins[row] = origin;
        for i in 0..self.regressions.len() {
            let at = self.day_at(now + i64::from(self.regressions[i].steps));
            let regression = &mut self.regressions[i];
            let row = now.rem_euclid(regression.yesterday.len() as i64) as usize;
            // Relative to what is usual for the series' own movement from yesterday; unknown says nothing.
            let at = at.map_or(0.0, |v| ((v - level) / scale).clamp(-DAY_CLIP, DAY_CLIP));
            regression.yesterday[row] = Signed::new(at as f32);
            let x = regression.regressors(now, &origin);
            regression.point = (level + scale * regression.rls.predict(&x)).clamp(0.0, VALUE_LIMIT);
        }
    }
}

impl Regression {
    fn regressors(&self, origin: i64, kept: &Origin) -> [f64; COMMON + 1] {
        let mut x = [0.0; COMMON + 1];
        for (x, kept) in x.iter_mut().zip(&kept.common) {
            *x = f64::from(kept.get().unwrap_or(0.0));
        }
        let row = origin.rem_euclid(self.yesterday.len() as i64) as usize;
        x[COMMON] = f64::from(self.yesterday[row].get().unwrap_or(0.0));
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
        self.store(bin);
        // A lower bound is no equation.
        if let Some(value) = bin.value.filter(|_| !bin.censored) {
            self.settle(bin.index, value);
        }
        self.scale.observe(bin);
        self.remember_day(bin);
        self.start(bin.index);
    }

    fn awake(&self) -> bool {
        self.regressions.iter().all(|r| r.settled >= LEAST_SETTLED)
    }

    fn predict(&self, targets: &[Target], out: &mut [f64]) {
        let Some(newest) = self.newest else { return out.fill(0.0) };
        let last = self.back(newest, 0);
        let point = |r: &Regression| if r.settled < LEAST_SETTLED { last } else { r.point };
        for (target, out) in targets.iter().zip(out) {
            let until = self.regressions.iter().take_while(|r| r.steps <= target.steps());
            *out = match target {
                Target::At { .. } => until.last().map_or(last, point),
                Target::MaxOver { .. } => until.map(point).fold(0.0, f64::max),
            };
        }
    }

    fn grid(&self) -> Grid {
        self.grid
    }

    fn heap_bytes(&self) -> usize {
        let own: usize =
            self.regressions.iter().map(|r| r.rls.heap_bytes() + std::mem::size_of_val(&*r.yesterday)).sum();
        own + std::mem::size_of_val(&*self.regressions)
            + std::mem::size_of_val(&*self.origins)
            + std::mem::size_of_val(&*self.day)
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
