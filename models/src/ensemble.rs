//! The ensemble of one workload: experts → residual quantiles → online weights → quantile tracking → [`Forecast`].

use std::sync::Arc;

use crate::choice::Choice;
use crate::expert::{Bin, Expert, ModelKind};
use crate::experts;
use crate::forecast::{Forecast, Forecaster, Grid, Level, Quantiles, Target};
use crate::head::{Head, HeadState};
use crate::holidays::Holidays;
use crate::neural::{Network, shipped};
use crate::regime::{self, Regime};
use crate::scale::LocalScale;
use crate::score::{ExpertScore, Movement, Score};
use crate::state::{self, Loader, Saver, State, Unreadable};
use crate::track::{MAX_EXPERTS, Origin, Track};
use crate::weights::{AllWeights, Weights, WeightsKind};
use crate::window::{Outcome, Window};

/// No target reaches further, so that what is kept until it is due stays small: an hour of 10 s bins.
pub const MAX_STEPS: u32 = 360;

/// A season that announces this many local scales more than the level alone announces a jump. Of 2, 4 and 8 the first
/// cost 1 % on FORECAST.md's traces, the others nothing measurable.
const JUMP_SCALES: f64 = 4.0;

/// Below this much history only smoothing is trusted: under an hour it wins (FORECAST.md, anchors).
const SMOOTHING_ONLY_SECONDS: i64 = 3600;

/// A workload's regime is looked for when its experts awake, and then so often.
const JUDGED_EVERY_SECONDS: i64 = 3600;

/// What an ensemble is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct EnsembleSettings {
    /// The bins' grid.
    pub grid: Grid,
    /// What is forecast.
    pub targets: Vec<Target>,
    /// The experts, each with its weight before anything was settled.
    pub experts: Vec<(ModelKind, f64)>,
    /// Known to those that [read them](ModelKind::reads_holidays).
    pub holidays: Holidays,
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

/// Forecasters of one series, combined per target and quantile. Deterministic, online; its memory doesn't grow.
pub struct Ensemble {
    grid: Grid,
    targets: Vec<Target>,
    experts: Vec<Box<dyn Expert>>,
    window: Window,
    scale: LocalScale,
    movement: Movement,
    tracks: Vec<Track>,
    head: Option<Box<Head>>,
    current: Option<Forecast>,
    /// The experts that know the level alone and the daily season, where both take part.
    pair: Option<(usize, usize)>,
    first: Option<i64>,
    /// [`Regime`] by number, the last one that was found.
    regime: Option<u8>,
    /// Whether the first one has moved the starting weights.
    leant: bool,
    /// Scratch: one expert's points for all targets; all experts' points, expert-major; losses.
    points: Vec<f64>,
    losses: Vec<f64>,
}

impl State for Ensemble {
    fn save(&self, out: &mut Saver) {
        let Self {
            grid,
            targets,
            experts,
            window,
            scale,
            movement,
            tracks,
            head,
            current,
            pair: _,
            first,
            regime,
            leant,
            points: _,
            losses: _,
        } = self;
        out.note(&format!("{grid:?} {targets:?}"));
        for expert in experts {
            out.note(expert.kind().name());
            expert.save(out);
        }
        window.save(out);
        scale.save(out);
        out.note("movement");
        movement.save(out);
        tracks.save(out);
        out.note("head");
        head.iter().for_each(|head| head.save(out));
        first.save(out);
        out.note("regime");
        regime.save(out);
        out.note("leant");
        leant.save(out);
        current.as_ref().map(|current| current.origin).save(out);
        let points = |i: usize| current.as_ref().map_or(Quantiles::ZERO, |current| current.points[i].1);
        (0..targets.len()).for_each(|i| points(i).values().save(out));
    }

    fn load(&mut self, from: &mut Loader<'_>) -> Result<(), Unreadable> {
        self.experts.load(from)?;
        self.window.load(from)?;
        self.scale.load(from)?;
        self.movement.load(from)?;
        self.tracks.load(from)?;
        self.head.iter_mut().try_for_each(|head| head.load(from))?;
        self.first.load(from)?;
        self.regime.load(from)?;
        self.leant.load(from)?;
        let mut origin: Option<i64> = None;
        origin.load(from)?;
        let mut points = Vec::with_capacity(self.targets.len());
        for target in &self.targets {
            let mut values = [0.0; 5];
            values.load(from)?;
            points.push((*target, Quantiles::new(values).map_err(|_| Unreadable::Broken)?));
        }
        self.current = origin.map(|origin| Forecast { origin, grid: self.grid, points });
        Ok(())
    }
}

impl Forecaster for Ensemble {
    fn observe(&mut self, bin: Bin) {
        Self::observe(self, bin);
    }

    fn forecast(&self) -> Option<&Forecast> {
        Self::forecast(self)
    }

    fn memory_bytes(&self) -> usize {
        Self::memory_bytes(self)
    }
}

impl Ensemble {
    /// The ensemble that the aggregator runs per workload, with the shipped network as its head.
    pub fn cluster(grid: Grid, targets: &[Target]) -> Self {
        Self::cluster_with(grid, targets, shipped())
    }

    /// The same with another network as its head.
    pub fn cluster_with(grid: Grid, targets: &[Target], network: Arc<Network<f32>>) -> Self {
        let choice = Choice::default();
        let head = choice.head(grid).map(|_| network);
        Self::experts_of(grid, targets, &choice).headed(head)
    }

    /// The same of other models; the head, where the choice has one on this grid, and the trees run with these weights.
    pub fn chosen(grid: Grid, targets: &[Target], choice: &Choice, weights: &AllWeights) -> Self {
        let head = choice.head(grid).map(|core| Arc::clone(weights.network(core)));
        let mut ensemble = Self::experts_of(grid, targets, choice).headed(head);
        ensemble.set_weights(&weights.of(WeightsKind::Trees));
        ensemble
    }

    /// Goes on with other weights, where a model of their kind is among its own. A head sleeps until its state has filled (half
    /// an hour), and is then what it was, admitted or not; the trees have no state that was made with weights.
    ///
    /// # Panics
    /// If a network's sizes differ: networks are our own code's.
    pub fn set_weights(&mut self, weights: &Weights) {
        self.experts.iter_mut().for_each(|expert| expert.set_weights(weights));
        if let Weights::Network(network) = weights
            && let Some(head) = self.head.as_mut().filter(|head| head.core() == network.settings().core)
        {
            head.change(Arc::clone(network));
        }
    }

    /// The weights that its experts run with.
    pub fn fitted(&self) -> impl Iterator<Item = Weights> + '_ {
        self.experts.iter().filter_map(|expert| expert.fitted())
    }

    /// The aggregator's experts alone.
    pub fn headless(grid: Grid, targets: &[Target]) -> Self {
        Self::experts_of(grid, targets, &Choice::default())
    }

    fn headed(mut self, network: Option<Arc<Network<f32>>>) -> Self {
        if let Some(network) = network {
            self.head = Some(Box::new(Head::new(network, self.grid, &self.targets)));
            self.tracks.iter_mut().for_each(Track::add_head);
        }
        self
    }

    fn experts_of(grid: Grid, targets: &[Target], choice: &Choice) -> Self {
        let (experts, holidays) = (choice.experts(grid), choice.holidays().clone());
        Self::new(&EnsembleSettings { grid, targets: targets.to_vec(), experts, holidays })
    }

    /// The light ensemble that an agent runs, a few microseconds a bin.
    pub fn node(grid: Grid, targets: &[Target]) -> Self {
        let mut experts = vec![(ModelKind::LastValue, 0.15), (ModelKind::LinearTwoMinutes, 0.05)];
        let chosen = Choice::default().experts(grid);
        // The regression is too dear for an agent.
        experts.extend(chosen.into_iter().filter(|(kind, _)| *kind != ModelKind::RlsAr));
        let holidays = Holidays::default();
        Self::new(&EnsembleSettings { grid, targets: targets.to_vec(), experts, holidays })
    }

    /// One model alone, with its own residual quantiles and tracking.
    pub fn single(grid: Grid, targets: &[Target], model: ModelKind) -> Self {
        Self::single_with(grid, targets, model, &Holidays::default())
    }

    /// The same with these holidays, of which it knows if it [reads any](ModelKind::reads_holidays).
    pub fn single_with(grid: Grid, targets: &[Target], model: ModelKind, holidays: &Holidays) -> Self {
        let (targets, experts, holidays) = (targets.to_vec(), vec![(model, 1.0)], holidays.clone());
        Self::new(&EnsembleSettings { grid, targets, experts, holidays })
    }

    /// An ensemble of these settings.
    ///
    /// # Panics
    /// If there is no target or expert, too many experts, a target of no steps or more than [`MAX_STEPS`], or a
    /// prior weight that is not positive: settings are our own code's.
    pub fn new(settings: &EnsembleSettings) -> Self {
        let EnsembleSettings { grid, targets, experts, holidays } = settings;
        let build =
            |(kind, prior): &(ModelKind, f64)| (experts::build(*kind, *grid, targets, holidays), *prior);
        Self::of(*grid, targets, experts.iter().map(build).collect())
    }

    /// An ensemble of these experts, made for this grid and these targets, each with its weight before anything was
    /// settled: for experts that need more than a name, such as a model fitted on other workloads.
    ///
    /// # Panics
    /// As [`Ensemble::new`].
    pub fn of(grid: Grid, targets: &[Target], experts: Vec<(Box<dyn Expert>, f64)>) -> Self {
        assert!(!targets.is_empty() && !experts.is_empty(), "an ensemble needs targets and experts");
        assert!(experts.len() <= MAX_EXPERTS, "at most {MAX_EXPERTS} experts");
        assert!(
            targets.iter().all(|t| (1..=MAX_STEPS).contains(&t.steps())),
            "targets of 1 to {MAX_STEPS} bins"
        );
        assert!(experts.iter().all(|(_, prior)| *prior > 0.0), "prior weights are positive");
        let longest = targets.iter().map(|t| t.steps()).max().unwrap_or(1) as usize;
        let (experts, prior): (Vec<Box<dyn Expert>>, Vec<f64>) = experts.into_iter().unzip();
        let position = |kind| experts.iter().position(|e| e.kind() == kind);
        Self {
            grid,
            targets: targets.to_vec(),
            window: Window::new(if has_regime(grid) { regime::BINS.max(longest + 1) } else { longest + 1 }),
            scale: LocalScale::new(grid),
            movement: Movement::default(),
            tracks: targets.iter().map(|&target| Track::new(target, &prior)).collect(),
            head: None,
            current: None,
            pair: position(ModelKind::TunedSmoothing).zip(position(ModelKind::HoltWinters)),
            first: None,
            regime: None,
            leant: false,
            points: vec![0.0; targets.len() * experts.len()],
            losses: vec![0.0; experts.len()],
            experts,
        }
    }

    /// Takes what the nodes expect, merged, before the bin that has just ended is observed; who looks at the series alone
    /// does not care.
    pub fn hear(&mut self, nodes: &Forecast) {
        self.experts.iter_mut().for_each(|expert| expert.hear(nodes));
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
            let losses = &mut self.losses;
            let gains = self.tracks.iter_mut().filter_map(|t| t.settle(bin.index, &self.window, losses));
            match &mut self.head {
                Some(head) => head.settle(bin.index, gains),
                None => gains.for_each(drop),
            }
            self.first.get_or_insert(bin.index);
            let neighbours = (self.window.get(bin.index - 1), self.window.get(bin.index));
            if let (Outcome::Known(before), Outcome::Known(now)) = neighbours {
                self.movement.add(before, now);
            }
        }
        for expert in &mut self.experts {
            expert.observe(bin);
        }
        self.scale.observe(bin);
        self.judge(bin.index);
        if let Some(head) = &mut self.head {
            head.observe(bin);
        }
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
                let weights = || track.weights(level);
                let total: f64 =
                    weights().enumerate().filter(|(i, _)| awake >> i & 1 == 1).map(|(_, w)| w).sum();
                self.experts.iter().zip(weights()).enumerate().map(move |(i, (expert, weight))| {
                    let is_awake = awake >> i & 1 == 1;
                    let weight = if is_awake && total > 0.0 { weight / total } else { 0.0 };
                    Weight { target: track.target(), level, model: expert.kind(), weight, awake: is_awake }
                })
            })
        })
    }

    /// How each target's forecasts have done.
    pub fn scores(&self) -> impl Iterator<Item = Score> + '_ {
        self.tracks.iter().map(|track| track.score(self.movement))
    }

    /// What kind of load its newest [`regime::BINS`] bins look like, seen anew every hour; `None` in its
    /// first hour, after an hour of hardly any measurement, and on grids of seconds.
    pub fn regime(&self) -> Option<Regime> {
        self.regime.and_then(|number| Regime::ALL.get(usize::from(number)).copied())
    }

    /// Where the head stands; `None` if the ensemble has none.
    pub fn head(&self) -> Option<HeadState> {
        self.head.as_ref().map(|head| head.state())
    }

    /// The head's share of the mixture, per target and level; it counts while the head is admitted.
    pub fn head_shares(&self) -> impl Iterator<Item = (Target, [f64; 5])> + '_ {
        self.tracks.iter().filter_map(|track| Some((track.target(), track.head_shares()?)))
    }

    /// How each expert's forecasts have done, target by target.
    pub fn expert_scores(&self) -> impl Iterator<Item = ExpertScore> + '_ {
        self.tracks.iter().flat_map(|track| {
            self.experts.iter().zip(track.records()).map(|(expert, record)| ExpertScore {
                target: track.target(),
                model: expert.kind(),
                errors: record.errors(self.movement),
            })
        })
    }

    /// Everything that it has learned, as bytes: [`Ensemble::restored`] reads them. Some 100 KB.
    pub fn save(&self) -> Vec<u8> {
        state::write(self)
    }

    /// This ensemble, fresh from the same settings as the saved one's, with what that one had learned: from here on
    /// both forecast the same.
    ///
    /// # Errors
    /// [`Unreadable`], when the bytes are no such ensemble's: of another build, of other settings, or broken.
    pub fn restored(mut self, bytes: &[u8]) -> Result<Self, Unreadable> {
        state::read(&mut self, bytes)?;
        Ok(self)
    }

    /// The bins' grid.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// Bytes that the ensemble holds, itself and its experts included, for the memory budget; the newest forecast is what it
    /// gives, and apart.
    pub fn memory_bytes(&self) -> usize {
        let tracks: usize = self.tracks.iter().map(Track::bytes).sum();
        let head = self.head.as_ref().map_or(0, |head| size_of::<Head>() + head.heap_bytes());
        let expert = |e: &dyn Expert| size_of::<Box<dyn Expert>>() + size_of_val(e) + e.heap_bytes();
        let experts: usize = self.experts.iter().map(|e| expert(&**e)).sum();
        size_of::<Self>()
            + experts
            + self.window.heap_bytes()
            + tracks
            + head
            + (self.points.len() + self.losses.len()) * 8
    }

    /// From its first bin to its newest, seconds.
    pub fn history_seconds(&self) -> i64 {
        let newest = self.window.newest().unwrap_or(0);
        let bins = newest.saturating_sub(self.first.unwrap_or(newest));
        bins.saturating_mul(i64::from(self.grid.step_seconds))
    }

    /// Names the load's regime, hourly; the first one moves the starting weights.
    fn judge(&mut self, newest: i64) {
        let due = newest.saturating_mul(i64::from(self.grid.step_seconds)) % JUDGED_EVERY_SECONDS == 0;
        let young = self.history_seconds() < SMOOTHING_ONLY_SECONDS;
        if !has_regime(self.grid) || young || (self.regime.is_some() && !due) {
            return;
        }
        // A lower bound, or what was skipped, has no shape.
        let known = |index| match self.window.get(index) {
            Outcome::Known(value) => Some(value),
            _ => None,
        };
        let (mut values, mut bins) = ([0.0; regime::BINS], 0);
        for value in (newest - regime::BINS as i64 + 1..=newest).filter_map(known) {
            values[bins] = value;
            bins += 1;
        }
        let enough = bins >= regime::LEAST_BINS;
        self.regime = enough.then(|| regime::classify(&values[..bins], self.grid.step_seconds) as u8);
        if let Some(regime) = self.regime().filter(|_| !self.leant) {
            self.leant = true;
            let kinds = self.experts.iter().map(|expert| expert.kind());
            for track in &mut self.tracks {
                track.lean(kinds.clone().map(|kind| regime.leaning(kind)));
            }
        }
    }

    fn awake(&self) -> u32 {
        let history = self.history_seconds();
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
        let admitted = self.head.as_ref().is_some_and(|head| head.admitted());
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
            let head = self.head.as_ref().and_then(|head| head.quantiles(t));
            let origin = Origin { index: origin, awake, jump, scale, head, admitted };
            point.1 = track.forecast(origin, points);
        }
    }
}

/// On grids of seconds the bins that are looked at would be minutes, too few for a timer to be seen.
fn has_regime(grid: Grid) -> bool {
    grid.step_seconds >= 60
}
