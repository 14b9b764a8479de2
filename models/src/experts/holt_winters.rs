//! Holt-Winters: damped trend and additive daily season, online, over a small grid of factors.

use std::sync::LazyLock;

use crate::ensemble::MAX_STEPS;
use crate::expert::{Bin, Expert, ModelKind, VALUE_LIMIT};
use crate::forecast::{Grid, Target};
use crate::packed::Signed;
use crate::state::{Loader, Saver, State, Unreadable, state};

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

/// γ of the daily season, per day: between the two best of `evaluate.py`'s, 0.2 and 0.5. Running both side by side
/// gained 0.2 % on FORECAST.md's traces and cost 6 KB.
const DAILY_FACTOR: f64 = 0.3;

/// γ of the hourly season, per hour: a timer's shape from the last day, or from the last hours.
const HOURLY_FACTORS: [f64; 2] = [0.05, 0.2];

/// γ of the weekly season, per week, like the daily one's.
const WEEKLY_FACTOR: f64 = 0.3;

/// Damping of the trend per bin, from `evaluate.py`: a trend's reach is 50 bins.
const DAMPING: f64 = 0.98;

/// The season's phases are this long at least: a minute is cron's grain, and 10 s phases would cost 35 KB.
const PHASE_SECONDS: u32 = 60;

/// How much of a member's loss is kept per bin; a memory of 2,000 bins covers every hour of a day of minutes.
const MEMORY: f64 = 1.0 - 1.0 / 2000.0;

/// Sum of φ, φ², … φ^k at `[k]`.
static DAMPING_SUMS: LazyLock<[f64; MAX_STEPS as usize + 1]> = LazyLock::new(|| {
    let mut sums = [0.0; MAX_STEPS as usize + 1];
    let mut power = 1.0;
    for k in 1..sums.len() {
        power *= DAMPING;
        sums[k] = sums[k - 1] + power;
    }
    sums
});

/// Holt-Winters in the form of Hyndman & Athanasopoulos, *Forecasting: Principles and Practice*, 3rd ed., §8.3
/// (additive, damped: ℓ = α(y − s) + (1 − α)(ℓ + φb), b = β(ℓ − ℓ₋₁) + (1 − β)φb, s = γ(y − ℓ₋₁ − φb₋₁) + (1 − γ)s).
///
/// Members that share a season factor share one season, updated from the first member's level, so that a day of
/// minutes costs 3 KB a season and not a member. Each target follows the member whose path was nearest at its end.
/// The first day is stored and becomes the first season; until then the expert sleeps.
#[derive(Clone, Debug)]
pub struct HoltWinters {
    grid: Grid,
    members: Vec<HoltWintersFactors>,
    seasons: Vec<Season>,
    /// Level and trend of member m under season s at `[s * members + m]`.
    states: Vec<(f64, f64)>,
    /// The levels at the newest origins, a ring by index, NaN before the first and of bins that were skipped; beside each
    /// row the trends of the members that have one.
    past: Box<[f32]>,
    tuned: Box<[Tuning]>,
    /// Each member's discounted absolute error, target by target.
    losses: Box<[f32]>,
    /// How many of the members have a trend: the last ones.
    with_trend: usize,
    kind: ModelKind,
    period: i64,
    bins_per_phase: i64,
    first: Option<i64>,
    newest: i64,
    day_sum: f64,
    day_count: u64,
    awake: bool,
}
state!(HoltWinters { seasons, states, past, tuned, losses, first, newest, day_sum, day_count, awake }
    fixed { grid, members, with_trend, kind, period, bins_per_phase }
    sound |h| h.tuned.iter().all(|t| usize::from(t.best) < h.states.len()));

/// Seasons of more phases than this are packed into 16 bits each.
const MOST_EXACT: usize = 128;

#[derive(Clone, Debug)]
enum Offsets {
    Exact(Box<[f32]>),
    Packed(Box<[Signed]>),
}

/// Which of the two it is follows from the settings.
impl State for Offsets {
    fn save(&self, out: &mut Saver) {
        match self {
            Self::Exact(offsets) => offsets.save(out),
            Self::Packed(offsets) => offsets.save(out),
        }
    }

    fn load(&mut self, from: &mut Loader<'_>) -> Result<(), Unreadable> {
        match self {
            Self::Exact(offsets) => offsets.load(from),
            Self::Packed(offsets) => offsets.load(from),
        }
    }
}

#[derive(Clone, Debug)]
struct Season {
    /// γ per bin: a phase of several bins is updated that often a day.
    factor: f64,
    /// Offset per phase; NaN or unknown where nothing was ever seen.
    offsets: Offsets,
    /// The phase that was changed last, and its offset: packed when another one is, so that many small changes of one
    /// turn aren't rounded away.
    open: (usize, f32),
}
state!(Season { offsets, open } fixed { factor } sound |s| s.open.0 < s.phases());

impl Season {
    fn new(factor: f64, phases: usize) -> Self {
        let offsets = if phases <= MOST_EXACT {
            Offsets::Exact(vec![f32::NAN; phases].into())
        } else {
            Offsets::Packed(vec![Signed::UNKNOWN; phases].into())
        };
        Self { factor, offsets, open: (0, f32::NAN) }
    }

    fn phases(&self) -> usize {
        match &self.offsets {
            Offsets::Exact(offsets) => offsets.len(),
            Offsets::Packed(offsets) => offsets.len(),
        }
    }

    fn get(&self, phase: usize) -> Option<f64> {
        let offset = match &self.offsets {
            _ if self.open.0 == phase => self.open.1,
            Offsets::Exact(offsets) => offsets[phase],
            Offsets::Packed(offsets) => offsets[phase].get().unwrap_or(f32::NAN),
        };
        (!offset.is_nan()).then_some(f64::from(offset))
    }

    /// The offset; none where nothing was ever seen.
    fn at(&self, phase: usize) -> f64 {
        self.get(phase).unwrap_or(0.0)
    }

    fn set(&mut self, phase: usize, offset: f64) {
        let (open, value) = std::mem::replace(&mut self.open, (phase, offset as f32));
        if open != phase && !value.is_nan() {
            match &mut self.offsets {
                Offsets::Exact(offsets) => offsets[open] = value,
                Offsets::Packed(offsets) => offsets[open] = Signed::new(value),
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        match &self.offsets {
            Offsets::Exact(offsets) => std::mem::size_of_val(&**offsets),
            Offsets::Packed(offsets) => std::mem::size_of_val(&**offsets),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Tuning {
    target: Target,
    best: u8,
}
state!(Tuning { best } fixed { target });

impl HoltWinters {
    /// The daily season, without history, over the standard grid of factors.
    pub fn daily(grid: Grid, targets: &[Target]) -> Self {
        Self::new(ModelKind::HoltWinters, grid, targets, &MEMBERS, &[DAILY_FACTOR], 86_400, PHASE_SECONDS)
    }

    /// The hourly season of timers and crons.
    pub fn hourly(grid: Grid, targets: &[Target]) -> Self {
        Self::new(
            ModelKind::HourlyHoltWinters,
            grid,
            targets,
            &MEMBERS[..3],
            &HOURLY_FACTORS,
            3600,
            PHASE_SECONDS,
        )
    }

    /// The weekly season.
    pub fn weekly(grid: Grid, targets: &[Target]) -> Self {
        Self::new(
            ModelKind::WeeklyHoltWinters,
            grid,
            targets,
            &MEMBERS[..3],
            &[WEEKLY_FACTOR],
            7 * 86_400,
            900,
        )
    }

    /// With other factors: `seasons` are γ per period.
    ///
    /// # Panics
    /// If either is empty, or both together make more than 255 states.
    pub fn new(
        kind: ModelKind,
        grid: Grid,
        targets: &[Target],
        members: &[HoltWintersFactors],
        seasons: &[f64],
        period_seconds: u32,
        phase_seconds: u32,
    ) -> Self {
        assert!(!members.is_empty() && !seasons.is_empty(), "at least one member and one season");
        let bins_per_phase = (phase_seconds / grid.step_seconds).max(1) as usize;
        let period = (period_seconds / grid.step_seconds).max(1) as usize;
        let phases = period / bins_per_phase;
        let steps = targets.iter().map(|t| t.steps() as usize).max().unwrap_or(1);
        let states = members.len() * seasons.len();
        assert!(states <= usize::from(u8::MAX), "states are numbered by a byte");
        let season = |&periodic: &f64| {
            let factor = 1.0 - libm::pow(1.0 - periodic, 1.0 / bins_per_phase as f64);
            Season::new(if bins_per_phase == 1 { periodic } else { factor }, phases)
        };
        let with_trend = members.iter().filter(|m| m.trend > 0.0).count();
        assert!(
            members[members.len() - with_trend..].iter().all(|m| m.trend > 0.0),
            "members with a trend come last"
        );
        Self {
            grid,
            kind,
            period: period as i64,
            members: members.to_vec(),
            seasons: seasons.iter().map(season).collect(),
            states: vec![(0.0, 0.0); states],
            past: vec![f32::NAN; (states + seasons.len() * with_trend) * (steps + 1)].into(),
            with_trend,
            tuned: targets.iter().map(|&target| Tuning { target, best: 0 }).collect(),
            losses: vec![0.0; targets.len() * states].into(),
            bins_per_phase: bins_per_phase as i64,
            first: None,
            newest: 0,
            day_sum: 0.0,
            day_count: 0,
            awake: false,
        }
    }

    /// What is kept of an origin.
    fn width(&self) -> usize {
        self.states.len() + self.seasons.len() * self.with_trend
    }

    fn row(&self, origin: i64) -> std::ops::Range<usize> {
        row(&self.past, self.width(), origin)
    }

    fn phase(&self, index: i64) -> usize {
        (index.div_euclid(self.bins_per_phase)).rem_euclid(self.seasons[0].phases() as i64) as usize
    }

    /// The first day: phases collect their mean, in the first season.
    fn collect(&mut self, bin: Bin) {
        let first = *self.first.get_or_insert(bin.index);
        let day = self.period;
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
        let season = &mut self.seasons[0];
        let old = season.get(phase).unwrap_or(value);
        season.set(phase, old + (value - old) / within);
    }

    fn start(&mut self) {
        let mean = self.day_sum / self.day_count.max(1) as f64;
        let (first, others) = self.seasons.split_at_mut(1);
        for phase in 0..first[0].phases() {
            let Some(value) = first[0].get(phase) else { continue };
            first[0].set(phase, value - mean);
            others.iter_mut().for_each(|season| season.set(phase, value - mean));
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
            let rows = self.past.len() as i64 / self.width() as i64;
            for index in (bin.index - gap + 1).max(bin.index - rows)..bin.index {
                let row = self.row(index);
                self.past[row].fill(f32::NAN);
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
                    let factor = if season.get(phase).is_none() { 1.0 } else { season.factor };
                    season.set(phase, offset + factor * (seen - offset));
                }
                let new =
                    value.map_or(ahead, |y| factors.level * (y - offset) + (1.0 - factors.level) * ahead);
                *trend = factors.trend * (new - *level) + (1.0 - factors.trend) * DAMPING * *trend;
                *level = new.clamp(-VALUE_LIMIT, VALUE_LIMIT);
            }
        }
        let row = self.row(bin.index);
        let (levels, trends) = self.past[row].split_at_mut(self.states.len());
        for (past, state) in levels.iter_mut().zip(&self.states) {
            *past = state.0 as f32;
        }
        let first = members - self.with_trend;
        let moving = self.states.iter().enumerate().filter(|(i, _)| i % members >= first);
        for (past, (_, state)) in trends.iter_mut().zip(moving) {
            *past = state.1 as f32;
        }
    }

    /// Scores each member's forecast of this bin. The season of its phase is as it was at the origin, for it
    /// changes once a day.
    fn settle(&mut self, bin: Bin, phase: usize) {
        let Some(truth) = bin.value else { return };
        let (states, members) = (self.states.len(), self.members.len());
        let (width, past) = (self.width(), &self.past);
        for (tuning, losses) in self.tuned.iter_mut().zip(self.losses.chunks_exact_mut(states)) {
            let steps = tuning.target.steps();
            let origin = bin.index - i64::from(steps);
            let (levels, trends) = past[row(past, width, origin)].split_at(states);
            if levels[0].is_nan() {
                continue;
            }
            let reach = DAMPING_SUMS[steps as usize];
            for (s, season) in self.seasons.iter().enumerate() {
                let offset = season.at(phase);
                for m in 0..members {
                    let trend = (m + self.with_trend).checked_sub(members);
                    let trend = trend.map_or(0.0, |t| f64::from(trends[s * self.with_trend + t]));
                    let level = f64::from(levels[s * members + m]);
                    let loss = &mut losses[s * members + m];
                    let error = (truth - (level + reach * trend + offset).max(0.0)).abs();
                    *loss = *loss * MEMORY as f32 + error as f32;
                }
            }
            for i in 0..states {
                if losses[i] < losses[usize::from(tuning.best)] {
                    tuning.best = i as u8;
                }
            }
        }
    }

    fn path(&self, state: u8, steps: u32) -> f64 {
        let state = usize::from(state);
        let (level, trend) = self.states[state];
        let season = &self.seasons[state / self.members.len()];
        let phase = self.phase(self.newest + i64::from(steps));
        level + DAMPING_SUMS[steps as usize] * trend + season.at(phase)
    }
}

/// Where a ring of rows of `width` keeps what belongs to `origin`.
fn row(past: &[f32], width: usize, origin: i64) -> std::ops::Range<usize> {
    let row = origin.rem_euclid((past.len() / width) as i64) as usize;
    row * width..(row + 1) * width
}

impl Expert for HoltWinters {
    fn kind(&self) -> ModelKind {
        self.kind
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
        self.seasons.iter().map(|s| s.heap_bytes() + size_of::<Season>()).sum::<usize>()
            + std::mem::size_of_val(&*self.members)
            + std::mem::size_of_val(&*self.tuned)
            + std::mem::size_of_val(&*self.losses)
            + std::mem::size_of_val(&*self.states)
            + std::mem::size_of_val(&*self.past)
    }
}
