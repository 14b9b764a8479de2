//! What the trees see of one workload: lags, means, rates of change, volatility, calendar, phase, experts and how far
//! they were off lately; one row per origin and target.

use crate::expert::{Bin, Expert, ModelKind};
use crate::experts;
use crate::forecast::{Grid, Target};
use crate::holidays::Holidays;
use crate::scale::LocalScale;
use crate::state::state;
use crate::window::{Outcome, Window};

/// Forecasters whose points, and whose recent errors, are regressors: together they know level, trend, and the hour's,
/// the day's and the week's shape.
const MEMBERS: [ModelKind; 7] = [
    ModelKind::TunedSmoothing,
    ModelKind::HoltWinters,
    ModelKind::HourlyHoltWinters,
    ModelKind::WeeklyHoltWinters,
    ModelKind::RlsAr,
    ModelKind::PhaseProfile,
    ModelKind::SeasonalNaiveDay,
];

/// Single bins back: the newest, thinning out.
const LAGS: [usize; 6] = [0, 1, 2, 4, 9, 29];

/// Bins of the rolling means; the second is the level that all is relative to.
const MEANS: [usize; 4] = [5, LEVEL_BINS, 60, 240];

/// Bins of the level; the 15-minute mean on minutes.
const LEVEL_BINS: usize = 15;

/// Bins of the two measures of volatility.
const SPANS: [usize; 2] = [15, 60];

/// The longest of all, and so what is kept of the series.
const RECENT: usize = 240;

/// Memory of the members' errors, in settled bins: some hours of minutes, so that a changed regime shows.
const ERROR_MEMORY: f64 = 200.0;

/// Added to the least error, in scales: where a member is exact, what the trees add stays below a fiftieth of the usual
/// movement.
const LEAST_UNIT: f64 = 0.02;

/// History before rows are worth learning from, and what is learned is believed: below it only smoothing is (FORECAST.md,
/// anchors).
const LEAST_HISTORY_SECONDS: i64 = 3600;

/// Regressors in a row.
pub const SIZE: usize = NAMES.len();

/// Their names, in order. Values are relative to the level and in local scales where nothing else is said; members are
/// relative to the base and in its unit, their errors to the least one.
pub const NAMES: [&str; 46] = [
    "lag_0",
    "lag_1",
    "lag_2",
    "lag_4",
    "lag_9",
    "lag_29",
    "mean_5",
    "mean_60",
    "mean_240",
    "rate_5",
    "rate_15",
    "deviation_15",
    "deviation_60",
    "highest_60",
    "lowest_60",
    "zeros_60",
    "level_in_scales",
    "scale_to_mean_240",
    "hour_of_day",
    "day_of_week",
    "minute_of_hour",
    "minute_mod_10",
    "minute_mod_15",
    "steps",
    "horizon_seconds",
    "step_seconds",
    "hour_ago",
    "history_days",
    "smoothing",
    "daily",
    "hourly",
    "weekly",
    "rls_ar",
    "phase_profile",
    "yesterday",
    "error_smoothing",
    "error_daily",
    "error_hourly",
    "error_weekly",
    "error_rls_ar",
    "error_phase_profile",
    "error_yesterday",
    "weekly_awake",
    "least_error",
    "base",
    "last_to_base",
];

/// The online state behind the rows of one workload.
pub struct Features {
    grid: Grid,
    targets: Vec<Target>,
    scale: LocalScale,
    /// The newest bins, a ring by index; missing ones are carried on.
    recent: Vec<f32>,
    window: Window,
    members: Vec<Box<dyn Expert>>,
    /// The members' points now, member by member, one per target.
    points: Vec<f64>,
    tracks: Vec<Track>,
    first: Option<i64>,
    newest: i64,
    level: f64,
}
state!(Features { scale, recent, window, members, points, tracks, first, newest, level } fixed { grid, targets });

struct Track {
    /// Index, scale and the members' points of origins that are not yet due, a ring by index.
    pending: Vec<(i64, f64, [f32; MEMBERS.len()])>,
    /// Mean absolute error of each member, in scales, and the weight behind it.
    errors: [(f64, f64); MEMBERS.len()],
}
state!(Track { pending, errors });

impl Features {
    /// Without history.
    pub fn new(grid: Grid, targets: &[Target]) -> Self {
        let longest = targets.iter().map(|t| t.steps() as usize).max().unwrap_or(1);
        let track = |target: &Target| Track {
            pending: vec![(i64::MIN, 1.0, [0.0; MEMBERS.len()]); target.steps() as usize + 1],
            errors: [(0.0, 0.0); MEMBERS.len()],
        };
        Self {
            grid,
            targets: targets.to_vec(),
            scale: LocalScale::new(grid),
            recent: vec![0.0; RECENT],
            window: Window::new(longest + 1),
            members: MEMBERS
                .iter()
                .map(|kind| experts::build(*kind, grid, targets, &Holidays::default()))
                .collect(),
            points: vec![0.0; MEMBERS.len() * targets.len()],
            tracks: targets.iter().map(track).collect(),
            first: None,
            newest: 0,
            level: 0.0,
        }
    }

    /// Takes the next bin; `due` is told the target's number, its origin and its outcome wherever one became known.
    pub fn observe(&mut self, bin: Bin, mut due: impl FnMut(usize, i64, f64)) {
        if self.first.is_none() && bin.value.is_none() {
            return;
        }
        self.window.push(bin);
        for (number, (target, track)) in self.targets.iter().zip(&mut self.tracks).enumerate() {
            let origin = bin.index - i64::from(target.steps());
            let outcome = match target {
                Target::At { .. } => self.window.get(bin.index),
                Target::MaxOver { .. } => self.window.max(origin + 1, bin.index),
            };
            let (kept, scale, points) = track.pending[origin.rem_euclid(track.pending.len() as i64) as usize];
            let Outcome::Known(truth) = outcome else { continue };
            if kept != origin {
                continue;
            }
            for ((error, weight), point) in track.errors.iter_mut().zip(points) {
                *weight = *weight * (1.0 - 1.0 / ERROR_MEMORY) + 1.0;
                *error += ((truth - f64::from(point)).abs() / scale - *error) / *weight;
            }
            due(number, origin, truth);
        }
        self.store(bin);
        self.scale.observe(bin);
        self.level = self.mean(0, LEVEL_BINS);
        let count = self.targets.len();
        for (member, points) in self.members.iter_mut().zip(self.points.chunks_exact_mut(count)) {
            member.observe(bin);
            member.predict(&self.targets, points);
        }
        for (number, track) in self.tracks.iter_mut().enumerate() {
            let points = std::array::from_fn(|member| self.points[member * count + number] as f32);
            let row = bin.index.rem_euclid(track.pending.len() as i64) as usize;
            track.pending[row] = (bin.index, self.scale.value(), points);
        }
    }

    /// The series' local scale.
    pub(super) fn scale(&self) -> f64 {
        self.scale.value()
    }

    /// Seconds of history.
    pub fn history_seconds(&self) -> i64 {
        let bins = self.newest - self.first.unwrap_or(self.newest);
        bins.saturating_mul(i64::from(self.grid.step_seconds))
    }

    /// Whether there is history enough.
    pub(super) fn awake(&self) -> bool {
        self.history_seconds() >= LEAST_HISTORY_SECONDS
    }

    /// The grid.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// What the trees correct, by the target's number: the point of the member that was nearest lately, and the unit of
    /// the correction, how far off it was. Exact repetition so stays exact, which sums of leaves could never be.
    pub fn base(&self, number: usize) -> (f64, f64) {
        let errors = &self.tracks[number].errors;
        let nearest =
            (1..MEMBERS.len()).fold(0, |best, i| if errors[i].0 < errors[best].0 { i } else { best });
        let unit = self.scale() * (errors[nearest].0 + LEAST_UNIT);
        (self.points[nearest * self.targets.len() + number], unit)
    }

    /// What is known now of a target, by its number.
    pub fn row(&self, number: usize) -> [f32; SIZE] {
        let target = self.targets[number];
        let scale = self.scale();
        let scaled = |value: f64| (value - self.level) / scale;
        let mut row = [0.0_f32; SIZE];
        let mut next = 0;
        let mut put = |value: f64| {
            row[next] = value as f32;
            next += 1;
        };
        for lag in LAGS {
            put(scaled(self.back(lag)));
        }
        for bins in [MEANS[0], MEANS[2], MEANS[3]] {
            put(scaled(self.mean(0, bins)));
        }
        put((self.mean(0, 5) - self.mean(5, 5)) / scale);
        put((self.level - self.mean(LEVEL_BINS, LEVEL_BINS)) / scale);
        for bins in SPANS {
            let mean = self.mean(0, bins);
            let square = (0..bins).map(|k| self.back(k) - mean).map(|d| d * d).sum::<f64>() / bins as f64;
            put(libm::sqrt(square) / scale);
        }
        let hour = || (0..60).map(|k| self.back(k));
        put(scaled(hour().fold(f64::MIN, f64::max)));
        put(scaled(hour().fold(f64::MAX, f64::min)));
        put(hour().filter(|v| *v <= 0.0).count() as f64 / 60.0);
        put(self.level / scale);
        put(scale / (self.mean(0, MEANS[3]) + scale));
        let step = i64::from(self.grid.step_seconds);
        let at = (self.newest + i64::from(target.steps())).saturating_mul(step);
        put(at.rem_euclid(86_400) as f64 / 3600.0);
        put(at.div_euclid(86_400).rem_euclid(7) as f64);
        for seconds in [3600, 600, 900] {
            put(at.rem_euclid(seconds) as f64 / 60.0);
        }
        put(f64::from(target.steps()));
        put((i64::from(target.steps()) * step) as f64);
        put(step as f64);
        // The same minute of the hour before the target, as far as it is past and kept.
        let hour_bins = (3600 / step).max(1);
        let ago = hour_bins - i64::from(target.steps()).rem_euclid(hour_bins);
        put(scaled(self.back((ago as usize).min(RECENT - 1))));
        put(self.history_seconds() as f64 / 86_400.0);
        let count = self.targets.len();
        let (base, unit) = self.base(number);
        for member in 0..MEMBERS.len() {
            put((self.points[member * count + number] - base) / unit);
        }
        for (error, _) in self.tracks[number].errors {
            put(error * scale / unit);
        }
        put(f64::from(u8::from(self.members[3].awake())));
        put(unit / scale);
        put(scaled(base));
        put((self.back(0) - base) / unit);
        debug_assert_eq!(next, SIZE, "a name for every regressor");
        row
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let members: usize = self.members.iter().map(|m| m.heap_bytes()).sum();
        let tracks: usize = self.tracks.iter().map(|t| std::mem::size_of_val(&*t.pending)).sum();
        members
            + tracks
            + std::mem::size_of_val(&*self.recent)
            + self.points.len() * 8
            + self.window.heap_bytes()
    }

    fn back(&self, bins: usize) -> f64 {
        f64::from(self.recent[(self.newest - bins as i64).rem_euclid(RECENT as i64) as usize])
    }

    /// Mean of `bins` bins, the newest of them `from` back.
    fn mean(&self, from: usize, bins: usize) -> f64 {
        (from..from + bins).map(|k| self.back(k)).sum::<f64>() / bins as f64
    }

    fn store(&mut self, bin: Bin) {
        let length = RECENT as i64;
        let Some(_) = self.first else {
            self.first = Some(bin.index);
            self.newest = bin.index;
            return self.recent.fill(bin.value.unwrap_or(0.0) as f32);
        };
        let last = self.back(0);
        for index in (self.newest + 1).max(bin.index.saturating_sub(length - 1))..bin.index {
            self.recent[index.rem_euclid(length) as usize] = last as f32;
        }
        self.newest = bin.index;
        let value = bin.learnable(last).unwrap_or(last);
        self.recent[bin.index.rem_euclid(length) as usize] = value as f32;
    }
}
