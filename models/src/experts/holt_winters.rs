//! Holt-Winters: damped trend and additive daily season, online, over a small grid of factors.

use crate::expert::{Bin, Expert, ModelKind, VALUE_LIMIT};
use crate::forecast::{Grid, Target};

/// Smoothing factors of one Holt-Winters member.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HoltWintersFactors {
    /// Of the level, per bin.
    pub level: f64,
    /// Of the trend, per bin.
    pub trend: f64,
}

/// The grid that runs side by side: `evaluate.py`'s `holt_winters`, with a trend only beside the middle level.
const MEMBERS: [HoltWintersFactors; 4] = [
    HoltWintersFactors { level: 0.15, trend: 0.0 },
    HoltWintersFactors { level: 0.05, trend: 0.0 },
    HoltWintersFactors { level: 0.4, trend: 0.0 },
    HoltWintersFactors { level: 0.15, trend: 0.02 },
];

/// Factors of the season, per day: one that averages over about five days, one that follows in two.
const SEASONS: [f64; 2] = [0.2, 0.5];

/// Damping of the trend per bin, from `evaluate.py`: a trend's reach is 50 bins.
const DAMPING: f64 = 0.98;

/// The season's phases are this long at least: a minute is cron's grain, and 10 s phases would cost 35 KB.
const PHASE_SECONDS: u32 = 60;

/// How much of a member's loss is kept per bin; a memory of 2,000 bins covers every hour of a day of minutes.
const MEMORY: f64 = 1.0 - 1.0 / 2000.0;

/// Holt-Winters in the form of Hyndman & Athanasopoulos, *Forecasting: Principles and Practice*, 3rd ed., §8.3
/// (additive, damped: ℓ = α(y − s) + (1 − α)(ℓ + φb), b = β(ℓ − ℓ₋₁) + (1 − β)φb, s = γ(y − ℓ₋₁ − φb₋₁) + (1 − γ)s).
///
/// Members that share a season factor share one season, updated from the first member's level, so that a day of
/// minutes costs 6 KB a season and not a member. Each target follows the member whose path was nearest at its end.
/// The first day is stored and becomes the first season; until then the expert sleeps.
#[derive(Clone, Debug)]
pub struct HoltWinters {
    grid: Grid,
    members: Vec<HoltWintersFactors>,
    seasons: Vec<Season>,
    /// Level and trend of member m under season s at `[s * members + m]`.
    states: Vec<(f64, f64)>,
    /// The states at the newest origins, a ring by index.
    past: Vec<(f32, f32)>,
    origins: Vec<i64>,
    /// Sum of φ, φ², … φ^k at `[k]`.
    damping_sums: Vec<f64>,
    tuned: Vec<Tuning>,
    bins_per_phase: i64,
    first: Option<i64>,
    newest: i64,
    day_sum: f64,
    day_count: u64,
    awake: bool,
}

#[derive(Clone, Debug)]
struct Season {
    /// γ per bin: a phase of several bins is updated that often a day.
    factor: f64,
    /// Offset per phase; NaN where nothing was ever seen.
    offsets: Vec<f32>,
}

impl Season {
    fn at(&self, phase: usize) -> f64 {
        let offset = self.offsets[phase];
        if offset.is_nan() { 0.0 } else { f64::from(offset) }
    }
}

#[derive(Clone, Debug)]
struct Tuning {
    target: Target,
    losses: Vec<f64>,
    best: usize,
}

impl HoltWinters {
    /// Without history, over the standard grid of factors.
    pub fn new(grid: Grid, targets: &[Target]) -> Self {
        // Where a phase holds several bins one season must do, for memory; its noise is averaged within the phase.
        let seasons = if grid.step_seconds < PHASE_SECONDS { &SEASONS[1..] } else { &SEASONS };
        Self::with_factors(grid, targets, &MEMBERS, seasons)
    }

    /// With other factors: `seasons` are γ per day.
    ///
    /// # Panics
    /// If either is empty.
    pub fn with_factors(
        grid: Grid,
        targets: &[Target],
        members: &[HoltWintersFactors],
        seasons: &[f64],
    ) -> Self {
        assert!(!members.is_empty() && !seasons.is_empty(), "at least one member and one season");
        let bins_per_phase = (PHASE_SECONDS / grid.step_seconds).max(1) as usize;
        let phases = grid.bins_per_day() / bins_per_phase;
        let steps = targets.iter().map(|t| t.steps() as usize).max().unwrap_or(1);
        let states = members.len() * seasons.len();
        let season = |&daily: &f64| Season {
            factor: if bins_per_phase == 1 {
                daily
            } else {
                1.0 - libm::pow(1.0 - daily, 1.0 / bins_per_phase as f64)
            },
            offsets: vec![f32::NAN; phases],
        };
        let mut damping_sums = vec![0.0; steps + 1];
        let mut power = 1.0;
        for k in 1..=steps {
            power *= DAMPING;
            damping_sums[k] = damping_sums[k - 1] + power;
        }
        Self {
            grid,
            members: members.to_vec(),
            seasons: seasons.iter().map(season).collect(),
            states: vec![(0.0, 0.0); states],
            past: vec![(0.0, 0.0); states * (steps + 1)],
            origins: vec![i64::MIN; steps + 1],
            damping_sums,
            tuned: targets
                .iter()
                .map(|&target| Tuning { target, losses: vec![0.0; states], best: 0 })
                .collect(),
            bins_per_phase: bins_per_phase as i64,
            first: None,
            newest: 0,
            day_sum: 0.0,
            day_count: 0,
            awake: false,
        }
    }

    fn phase(&self, index: i64) -> usize {
        (index.div_euclid(self.bins_per_phase)).rem_euclid(self.seasons[0].offsets.len() as i64) as usize
    }

    /// The first day: phases collect their mean, in the first season.
    fn collect(&mut self, bin: Bin) {
        let first = *self.first.get_or_insert(bin.index);
        let day = self.grid.bins_per_day() as i64;
        if bin.index - first >= day && self.day_count > 0 {
            self.start();
            self.newest = first + day - 1;
            self.awake = true;
            self.follow(bin);
            return;
        }
        // A lower bound says too little about a whole day's shape to start it: the phase stays unseen.
        self.newest = bin.index;
        let level = self.states[0].0;
        self.states.fill((bin.learnable(level).unwrap_or(level), 0.0));
        let Some(value) = bin.value.filter(|_| !bin.censored) else { return };
        self.day_sum += value;
        self.day_count += 1;
        let phase = self.phase(bin.index);
        let within = (bin.index.rem_euclid(self.bins_per_phase) + 1) as f64;
        let offset = &mut self.seasons[0].offsets[phase];
        let old = if offset.is_nan() { value } else { f64::from(*offset) };
        *offset = (old + (value - old) / within) as f32;
    }

    fn start(&mut self) {
        let mean = self.day_sum / self.day_count.max(1) as f64;
        for offset in &mut self.seasons[0].offsets {
            *offset = (f64::from(*offset) - mean) as f32;
        }
        let (first, others) = self.seasons.split_at_mut(1);
        for season in others {
            season.offsets.copy_from_slice(&first[0].offsets);
        }
        self.states.fill((mean, 0.0));
    }

    fn follow(&mut self, bin: Bin) {
        let gap = bin.index - self.newest;
        if gap > 1 {
            // Over missing bins the damped trend runs on: φ + … + φ^k in closed form.
            let power = libm::pow(DAMPING, (gap - 1) as f64);
            let sum = DAMPING * (1.0 - power) / (1.0 - DAMPING);
            for (level, trend) in &mut self.states {
                *level += sum * *trend;
                *trend *= power;
            }
        }
        self.newest = bin.index;
        let phase = self.phase(bin.index);
        if bin.value.is_some() && !bin.censored {
            self.settle(bin, phase);
        }
        let members = self.members.len();
        for (s, season) in self.seasons.iter_mut().enumerate() {
            let offset = season.at(phase);
            for (m, factors) in self.members.iter().enumerate() {
                let (level, trend) = &mut self.states[s * members + m];
                let ahead = *level + DAMPING * *trend;
                let value = bin.learnable((ahead + offset).max(0.0));
                if m == 0
                    && let Some(value) = value
                {
                    let seen = value - ahead;
                    let factor = if season.offsets[phase].is_nan() { 1.0 } else { season.factor };
                    season.offsets[phase] = (offset + factor * (seen - offset)) as f32;
                }
                let new =
                    value.map_or(ahead, |y| factors.level * (y - offset) + (1.0 - factors.level) * ahead);
                *trend = factors.trend * (new - *level) + (1.0 - factors.trend) * DAMPING * *trend;
                *level = new.clamp(-VALUE_LIMIT, VALUE_LIMIT);
            }
        }
        let row = bin.index.rem_euclid(self.origins.len() as i64) as usize;
        self.origins[row] = bin.index;
        let row = &mut self.past[row * self.states.len()..][..self.states.len()];
        for (past, state) in row.iter_mut().zip(&self.states) {
            *past = (state.0 as f32, state.1 as f32);
        }
    }

    /// Scores each member's forecast of this bin. The season of its phase is as it was at the origin, for it
    /// changes once a day.
    fn settle(&mut self, bin: Bin, phase: usize) {
        let Some(truth) = bin.value else { return };
        let states = self.states.len();
        for tuning in &mut self.tuned {
            let steps = tuning.target.steps();
            let origin = bin.index - i64::from(steps);
            let row = origin.rem_euclid(self.origins.len() as i64) as usize;
            if self.origins[row] != origin {
                continue;
            }
            let reach = self.damping_sums[steps as usize];
            let past = &self.past[row * states..][..states];
            for (i, (loss, (level, trend))) in tuning.losses.iter_mut().zip(past).enumerate() {
                let offset = self.seasons[i / self.members.len()].at(phase);
                let point = (f64::from(*level) + reach * f64::from(*trend) + offset).max(0.0);
                *loss = *loss * MEMORY + (truth - point).abs();
            }
            for i in 0..states {
                if tuning.losses[i] < tuning.losses[tuning.best] {
                    tuning.best = i;
                }
            }
        }
    }

    fn path(&self, state: usize, steps: u32) -> f64 {
        let (level, trend) = self.states[state];
        let season = &self.seasons[state / self.members.len()];
        let phase = self.phase(self.newest + i64::from(steps));
        level + self.damping_sums[steps as usize] * trend + season.at(phase)
    }
}

impl Expert for HoltWinters {
    fn kind(&self) -> ModelKind {
        ModelKind::HoltWinters
    }

    fn observe(&mut self, bin: Bin) {
        if self.awake {
            self.follow(bin);
        } else {
            self.collect(bin);
        }
    }

    fn awake(&self) -> bool {
        self.awake
    }

    fn predict(&self, targets: &[Target], out: &mut [f64]) {
        debug_assert_eq!(targets.len(), self.tuned.len(), "made for other targets");
        for (tuning, out) in self.tuned.iter().zip(out) {
            let point = match tuning.target {
                _ if !self.awake => self.states[0].0,
                Target::At { steps } => self.path(tuning.best, steps),
                Target::MaxOver { steps } => {
                    (1..=steps).map(|k| self.path(tuning.best, k)).fold(f64::NEG_INFINITY, f64::max)
                }
            };
            *out = point.clamp(0.0, VALUE_LIMIT);
        }
    }

    fn grid(&self) -> Grid {
        self.grid
    }

    fn heap_bytes(&self) -> usize {
        let seasons: usize = self.seasons.iter().map(|s| std::mem::size_of_val(&*s.offsets)).sum();
        let tuned: usize = self.tuned.iter().map(|t| std::mem::size_of_val(&*t.losses)).sum();
        seasons
            + tuned
            + std::mem::size_of_val(&*self.tuned)
            + std::mem::size_of_val(&*self.states)
            + std::mem::size_of_val(&*self.past)
            + std::mem::size_of_val(&*self.origins)
            + std::mem::size_of_val(&*self.damping_sums)
    }
}
