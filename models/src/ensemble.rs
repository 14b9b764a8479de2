//! The ensemble of one workload: experts → residual quantiles → online weights → quantile tracking → [`Forecast`].

use crate::combiner::Combiner;
use crate::expert::{Bin, Expert, ModelKind, VALUE_LIMIT};
use crate::experts;
use crate::forecast::{Forecast, Grid, LEVELS, Level, Quantiles, Target};
use crate::residual::Residuals;
use crate::scale::LocalScale;
use crate::tracking::Tracker;
use crate::window::{Outcome, Window};

/// No target reaches further, so that what is kept until it is due stays small: an hour of 10 s bins.
pub const MAX_STEPS: u32 = 360;

/// So many forecasts of a target are kept until they are due: of longer targets every second, third … origin is
/// settled. Their windows overlap almost wholly, so nothing is lost but memory and work.
const MAX_PENDING: u32 = 15;

/// Experts are counted in the bits of a `u32`.
const MAX_EXPERTS: usize = 31;

/// The bit beside them that says that the season announced a jump.
const JUMP: u32 = 1 << 31;

/// How many settled forecasts the weights remember, about: two days of minutes, so that
/// weights have seen every hour of the day and still follow a changed workload within days.
const MEMORY: f64 = 3000.0;

/// A season that announces this many local scales more than the level alone announces a jump. Of 2, 4 and 8 the first
/// cost 1 % on FORECAST.md's traces, the others nothing measurable.
const JUMP_SCALES: f64 = 4.0;

/// What pods are sized by are the upper quantiles; at the lower ones a separate weighting of jumps cost 0.5 %.
const JUMP_LEVEL: f64 = 0.9;

/// Jumps remembered, in bins: a burst of ten minutes a day makes 50 days of it, an hourly one two days.
const JUMP_MEMORY: f64 = 500.0;

/// Below this much history only smoothing is trusted: under an hour it wins (FORECAST.md, anchors).
const SMOOTHING_ONLY_SECONDS: i64 = 3600;

/// What an ensemble is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct EnsembleSettings {
    /// The bins' grid.
    pub grid: Grid,
    /// What is forecast.
    pub targets: Vec<Target>,
    /// The experts, each with its weight before anything was settled.
    pub experts: Vec<(ModelKind, f64)>,
}

/// One expert's standing for one target and level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weight {
    /// What is forecast.
    pub target: Target,
    /// The quantile.
    pub level: Level,
    /// Whose weight it is.
    pub model: ModelKind,
    /// Share of the combination; those of all awake experts sum to one.
    pub weight: f64,
    /// A sleeping expert has no share.
    pub awake: bool,
}

/// How one target's forecasts have done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// What is forecast.
    pub target: Target,
    /// Forecasts settled against a measured outcome.
    pub settled: u64,
    /// Of them, how many were at or below the quantile, per level.
    pub covered: [u64; 5],
    /// Mean pinball loss of the ensemble over the levels, with the weights' memory, in the series' unit.
    pub loss: f64,
}

/// Forecasters of one series, combined per target and quantile. Deterministic, online; its memory doesn't grow.
pub struct Ensemble {
    grid: Grid,
    targets: Vec<Target>,
    experts: Vec<Box<dyn Expert>>,
    window: Window,
    scale: LocalScale,
    tracks: Vec<Track>,
    current: Option<Forecast>,
    /// The experts that know the level alone and the daily season, where both take part.
    pair: Option<(usize, usize)>,
    first: Option<i64>,
    /// Scratch: one expert's points for all targets; all experts' points, expert-major; losses.
    points: Vec<f64>,
    losses: Vec<f64>,
}

/// Everything that belongs to one target.
struct Track {
    target: Target,
    /// Every so many-th origin's forecast is kept and settled.
    stride: i64,
    residuals: Vec<Residuals>,
    combiners: [Combiner; 5],
    /// Takes the combiners' place, for all levels, while the season announces a jump.
    jumps: Combiner,
    trackers: [Tracker; 5],
    /// Forecasts that are not yet due, a ring by origin.
    pending: Vec<Pending>,
    /// The experts' points beside them, row by row.
    points: Vec<f32>,
    expert_losses: Vec<Mean>,
    loss: Mean,
    settled: u64,
    covered: [u64; 5],
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    /// The index's low half: rows are reused within the longest target, far sooner than it repeats.
    origin: u32,
    /// A bit per expert, and [`JUMP`].
    awake: u32,
    scale: f32,
    /// What was forecast, before the levels were put in order.
    tracked: [f32; 5],
}

/// A mean with the weights' memory; a plain one at first.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    value: f64,
    weight: f64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.weight = self.weight * (1.0 - 1.0 / MEMORY) + 1.0;
        self.value += (value - self.value) / self.weight;
    }
}

impl Ensemble {
    /// The light ensemble that an agent runs: a few microseconds a bin.
    pub fn node(grid: Grid, targets: &[Target]) -> Self {
        Self::cluster(grid, targets)
    }

    /// The ensemble that the aggregator runs per workload.
    pub fn cluster(grid: Grid, targets: &[Target]) -> Self {
        // Starting weights: the smoothers are rarely far off, a line or the last value often is.
        let mut experts = vec![
            (ModelKind::LastValue, 0.15),
            (ModelKind::LinearTwoMinutes, 0.05),
            (ModelKind::TunedSmoothing, 0.4),
            (ModelKind::HoltWinters, 0.4),
            (ModelKind::HourlyHoltWinters, 0.1),
        ];
        // Within the few minutes that a grid of seconds looks ahead, a week's shape hardly moves.
        if grid.step_seconds >= 60 {
            experts.push((ModelKind::WeeklyHoltWinters, 0.1));
        }
        Self::new(&EnsembleSettings { grid, targets: targets.to_vec(), experts })
    }

    /// One model alone, with its own residual quantiles and tracking.
    pub fn single(grid: Grid, targets: &[Target], model: ModelKind) -> Self {
        Self::new(&EnsembleSettings { grid, targets: targets.to_vec(), experts: vec![(model, 1.0)] })
    }

    /// An ensemble of these settings.
    ///
    /// # Panics
    /// If there is no target or expert, too many experts, a target of no steps or more than [`MAX_STEPS`], or a
    /// prior weight that is not positive: settings are our own code's.
    pub fn new(settings: &EnsembleSettings) -> Self {
        let EnsembleSettings { grid, targets, experts } = settings;
        assert!(!targets.is_empty() && !experts.is_empty(), "an ensemble needs targets and experts");
        assert!(experts.len() <= MAX_EXPERTS, "at most {MAX_EXPERTS} experts");
        assert!(
            targets.iter().all(|t| (1..=MAX_STEPS).contains(&t.steps())),
            "targets of 1 to {MAX_STEPS} bins"
        );
        assert!(experts.iter().all(|(_, prior)| *prior > 0.0), "prior weights are positive");
        let longest = targets.iter().map(|t| t.steps()).max().unwrap_or(1) as usize;
        let prior: Vec<f64> = experts.iter().map(|(_, prior)| *prior).collect();
        let position = |kind| experts.iter().position(|(k, _)| *k == kind);
        Self {
            grid: *grid,
            targets: targets.clone(),
            experts: experts.iter().map(|(kind, _)| experts::build(*kind, *grid, targets)).collect(),
            window: Window::new(longest + 1),
            scale: LocalScale::new(*grid),
            tracks: targets.iter().map(|&target| Track::new(target, &prior)).collect(),
            current: None,
            pair: position(ModelKind::TunedSmoothing).zip(position(ModelKind::HoltWinters)),
            first: None,
            points: vec![0.0; targets.len() * experts.len()],
            losses: vec![0.0; experts.len()],
        }
    }

    /// Takes the next bin: settles the forecasts that it makes due, learns, forecasts anew.
    ///
    /// Indices only grow: a bin that is not later than all before is ignored, so a replay changes nothing. Skipped
    /// indices are missing bins. Impossible values count as missing (see [`Bin::sane`]).
    pub fn observe(&mut self, bin: Bin) {
        let bin = bin.sane();
        if self.window.newest().is_some_and(|newest| bin.index <= newest) {
            return;
        }
        self.window.push(bin);
        if bin.value.is_some() {
            for track in &mut self.tracks {
                track.settle(bin.index, &self.window, &mut self.losses);
            }
            self.first.get_or_insert(bin.index);
        }
        for expert in &mut self.experts {
            expert.observe(bin);
        }
        self.scale.observe(bin);
        self.predict(bin.index);
    }

    /// The forecast from the newest bin; `None` until a first value was observed.
    pub fn forecast(&self) -> Option<&Forecast> {
        self.current.as_ref()
    }

    /// The weights that the next forecast is combined with.
    pub fn weights(&self) -> impl Iterator<Item = Weight> + '_ {
        let awake = self.awake();
        self.tracks.iter().flat_map(move |track| {
            Level::ALL.into_iter().flat_map(move |level| {
                let weights = || track.combiners[level as usize].weights();
                let total: f64 =
                    weights().enumerate().filter(|(i, _)| awake >> i & 1 == 1).map(|(_, w)| w).sum();
                self.experts.iter().zip(weights()).enumerate().map(move |(i, (expert, weight))| {
                    let is_awake = awake >> i & 1 == 1;
                    let weight = if is_awake && total > 0.0 { weight / total } else { 0.0 };
                    Weight { target: track.target, level, model: expert.kind(), weight, awake: is_awake }
                })
            })
        })
    }

    /// How each target's forecasts have done.
    pub fn scores(&self) -> impl Iterator<Item = Score> + '_ {
        self.tracks.iter().map(|track| Score {
            target: track.target,
            settled: track.settled,
            covered: track.covered,
            loss: track.loss.value,
        })
    }

    /// Mean pinball loss over the levels, with the weights' memory, of each expert for each target.
    pub fn expert_losses(&self) -> impl Iterator<Item = (Target, ModelKind, f64)> + '_ {
        self.tracks.iter().flat_map(|track| {
            let losses = track.expert_losses.iter();
            self.experts.iter().zip(losses).map(|(expert, loss)| (track.target, expert.kind(), loss.value))
        })
    }

    /// The bins' grid.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// Bytes that the ensemble holds, for the memory budget.
    pub fn memory_bytes(&self) -> usize {
        let tracks: usize = self.tracks.iter().map(Track::heap_bytes).sum();
        let experts: usize = self.experts.iter().map(|e| e.heap_bytes()).sum();
        size_of::<Self>()
            + experts
            + self.window.heap_bytes()
            + tracks
            + self.tracks.len() * size_of::<Track>()
            + (self.points.len() + self.losses.len()) * 8
    }

    fn awake(&self) -> u32 {
        let newest = self.window.newest().unwrap_or(0);
        let history = newest
            .saturating_sub(self.first.unwrap_or(newest))
            .saturating_mul(i64::from(self.grid.step_seconds));
        let all = |kind| {
            history >= SMOOTHING_ONLY_SECONDS || kind == ModelKind::TunedSmoothing || self.experts.len() == 1
        };
        let mut bits = 0;
        for (i, expert) in self.experts.iter().enumerate() {
            if expert.awake() && all(expert.kind()) {
                bits |= 1 << i;
            }
        }
        // A model alone, or one without smoothing beside it: what it says in its sleep must do.
        if bits == 0 { (1 << self.experts.len()) - 1 } else { bits }
    }

    fn predict(&mut self, origin: i64) {
        if self.first.is_none() {
            return;
        }
        let awake = self.awake();
        let targets = self.targets.len();
        for (expert, points) in self.experts.iter().zip(self.points.chunks_exact_mut(targets)) {
            expert.predict(&self.targets, points);
        }
        let scale = self.scale.value();
        let current = self.current.get_or_insert_with(|| Forecast {
            origin,
            grid: self.grid,
            points: self.targets.iter().map(|t| (*t, Quantiles::ZERO)).collect(),
        });
        current.origin = origin;
        for (t, (track, point)) in self.tracks.iter_mut().zip(&mut current.points).enumerate() {
            let points = self.points.iter().skip(t).step_by(targets).map(|p| *p as f32);
            let jump = match self.pair {
                Some((level, season)) if awake >> season & 1 == 1 => {
                    let announced = self.points[season * targets + t] - self.points[level * targets + t];
                    announced > JUMP_SCALES * scale
                }
                _ => false,
            };
            point.1 = track.forecast(origin, points, (awake, jump), scale);
        }
    }
}

impl Track {
    fn new(target: Target, prior: &[f64]) -> Self {
        let stride = target.steps().div_ceil(MAX_PENDING);
        let rows = target.steps().div_ceil(stride) as usize;
        let forget = |memory: f64| (f64::from(stride) / memory) as f32;
        let empty = Pending { origin: 0, awake: 0, scale: 1.0, tracked: [0.0; 5] };
        Self {
            target,
            stride: i64::from(stride),
            residuals: vec![Residuals::new(); prior.len()],
            combiners: std::array::from_fn(|_| Combiner::new(prior, forget(MEMORY))),
            jumps: Combiner::new(prior, forget(JUMP_MEMORY)),
            trackers: [Tracker::default(); 5],
            pending: vec![empty; rows],
            points: vec![0.0; rows * prior.len()],
            expert_losses: vec![Mean::default(); prior.len()],
            loss: Mean::default(),
            settled: 0,
            covered: [0; 5],
        }
    }

    fn row(&self, origin: i64) -> usize {
        origin.div_euclid(self.stride).rem_euclid(self.pending.len() as i64) as usize
    }

    fn forecast(
        &mut self,
        origin: i64,
        points: impl Iterator<Item = f32> + Clone,
        (awake, jump): (u32, bool),
        scale: f64,
    ) -> Quantiles {
        let mut tracked = [0.0; 5];
        for (l, tracked) in tracked.iter_mut().enumerate() {
            let quantiles = points.clone().zip(&self.residuals).map(|(p, r)| quantile(p, scale, r, l));
            let combiner = if jump && LEVELS[l] >= JUMP_LEVEL { &self.jumps } else { &self.combiners[l] };
            let mixed = combiner.combine(quantiles, awake).unwrap_or(0.0);
            *tracked = (mixed + scale * self.trackers[l].correction()).clamp(0.0, VALUE_LIMIT);
        }
        if origin.rem_euclid(self.stride) == 0 {
            let row = self.row(origin);
            for (kept, point) in self.points[row * self.residuals.len()..].iter_mut().zip(points) {
                *kept = point;
            }
            // Each tracker is settled on its own value: on a sorted one it would be steered by its neighbour's.
            self.pending[row] = Pending {
                origin: origin as u32,
                awake: awake | if jump { JUMP } else { 0 },
                scale: scale as f32,
                tracked: tracked.map(|q| q as f32),
            };
        }
        // Crossing quantiles are put in order (Chernozhukov, Fernández-Val, Galichon: Quantile and Probability Curves
        // Without Crossing, Econometrica 2010: sorting never worsens the loss).
        tracked.sort_unstable_by(f64::total_cmp);
        Quantiles::new(tracked).expect("clamped values are finite")
    }

    fn settle(&mut self, now: i64, window: &Window, losses: &mut [f64]) {
        let origin = now - i64::from(self.target.steps());
        let row = self.row(origin);
        let pending = self.pending[row];
        if origin.rem_euclid(self.stride) != 0 {
            return;
        }
        // A row that was never written has nobody awake.
        if pending.origin != origin as u32 || pending.awake == 0 {
            return;
        }
        let outcome = match self.target {
            Target::At { .. } => window.get(now),
            Target::MaxOver { .. } => window.max(origin + 1, now),
        };
        let truth = match outcome {
            Outcome::Known(truth) => truth,
            Outcome::AtLeast(bound) => {
                // The truth was at least this: a quantile below it was certainly missed. Nothing else is certain,
                // so nothing else is learned, and nothing ever downwards.
                for (l, tracker) in self.trackers.iter_mut().enumerate() {
                    if f64::from(pending.tracked[l]) < bound {
                        tracker.settle(LEVELS[l], false, self.settled);
                    }
                }
                return;
            }
            Outcome::Unknown => return,
        };
        let scale = f64::from(pending.scale);
        let experts = self.residuals.len();
        let points = &self.points[row * experts..][..experts];
        if pending.awake & JUMP > 0 {
            for (i, loss) in losses.iter_mut().enumerate() {
                let quantiles = (0..5).map(|l| (l, quantile(points[i], scale, &self.residuals[i], l)));
                *loss = quantiles.map(|(l, q)| pinball(truth, q, LEVELS[l])).sum();
            }
            self.jumps.update(losses, pending.awake);
        }
        for (l, combiner) in self.combiners.iter_mut().enumerate() {
            let quantiles = || points.iter().zip(&self.residuals).map(|(p, r)| quantile(*p, scale, r, l));
            let mixed = combiner.combine(quantiles(), pending.awake).unwrap_or(0.0);
            let slope = if truth > mixed {
                -LEVELS[l]
            } else if truth < mixed {
                1.0 - LEVELS[l]
            } else {
                0.0
            };
            // The gradient trick (Cesa-Bianchi & Lugosi, Prediction, Learning, and Games, 2006, §2.5): charged with
            // the loss's slope at the combination instead of their own loss, the experts are weighted towards the
            // best mixture of them, not only the best one.
            for (loss, quantile) in losses.iter_mut().zip(quantiles()) {
                *loss = slope * (quantile - mixed);
            }
            combiner.update(losses, pending.awake);
        }
        let mut own = 0.0;
        let mut issued = pending.tracked;
        issued.sort_unstable_by(f32::total_cmp);
        for l in 0..5 {
            own += pinball(truth, f64::from(issued[l]), LEVELS[l]) / 5.0;
            // Values are kept as f32; equality is meant at that precision. Where they are equal (idle hours, exact
            // repetition) the quantile is right as it is: counting them as covered would wind the correction up.
            let truth = truth as f32;
            if truth != pending.tracked[l] {
                self.trackers[l].settle(LEVELS[l], truth < pending.tracked[l], self.settled);
            }
            self.covered[l] += u64::from(truth <= issued[l]);
        }
        self.loss.add(own);
        self.settled += 1;
        for (i, residuals) in self.residuals.iter_mut().enumerate() {
            if pending.awake >> i & 1 == 1 {
                let all: f64 =
                    (0..5).map(|l| pinball(truth, quantile(points[i], scale, residuals, l), LEVELS[l])).sum();
                self.expert_losses[i].add(all / 5.0);
                residuals.add((truth - f64::from(points[i])) / scale);
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        self.residuals.len() * (size_of::<Residuals>() + size_of::<Mean>())
            + self.combiners.iter().map(Combiner::heap_bytes).sum::<usize>()
            + self.pending.len() * size_of::<Pending>()
            + self.points.len() * 4
    }
}

fn quantile(point: f32, scale: f64, residuals: &Residuals, level: usize) -> f64 {
    (f64::from(point) + scale * residuals.quantile(level)).max(0.0)
}

fn pinball(truth: f64, quantile: f64, level: f64) -> f64 {
    let error = truth - quantile;
    if error >= 0.0 { level * error } else { (level - 1.0) * error }
}
