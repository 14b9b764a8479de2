//! A workload's two ensembles, what they may learn from, and which of their quantiles a plan uses.

use prescale_models::anomaly::{Filter, Reason};
use prescale_models::retraining::{History, RetrainingSettings};
use prescale_models::{
    AllWeights, Bin, Choice, Ensemble, Forecast, Grid, Level, Target, Unreadable, Weights,
};

use super::state::{SavedEnsemble, SavedForecasts};
use crate::plan::Upper;
use crate::series::{Point, Resolution, Series};
use crate::time::{Now, Wall};
use crate::units::RequestsPerSecond;

/// Steps of 10 s: half a minute to five minutes, the span of lead times.
const FAST_STEPS: [u32; 4] = [3, 6, 12, 30];
/// Steps of 60 s: a minute to an hour.
const SLOW_STEPS: [u32; 6] = [1, 2, 5, 15, 30, 60];
/// Those whose maxima are forecast too: of a single bin it is the bin itself.
const SLOW_MAXIMA: [u32; 5] = [2, 5, 15, 30, 60];

/// What weights are fitted to forecast of minutes, both a bin and, by a network, the maximum: the targets are an input, so that
/// those between are known too.
const LEARNED_STEPS: [u32; 3] = [5, 15, 60];

/// An ensemble that has seen less than this, seconds, can't tell a rise from its spread: on a ramp its upper quantile
/// asked for up to twice the pods that the load came to need (`docs/decisions/plan-constants.md`, "A young forecast").
const YOUNG_SECONDS: i64 = 1800;
/// Largest of six Poisson bins with a probability of 0.95, in deviations above the mean: what chance adds to a steady load
/// within the minute that lead times are about.
const YOUNG_SIGMAS: f64 = 2.4;

/// Bins of a grid that forecasters of another build's state learn anew from: two days of minutes start the daily season
/// and cost 0.1 s, all 15 would take a second of each workload.
const RETRAIN_BINS: i64 = 2 * 1440;

/// The ensembles of one workload: 10 s bins see a ramp begin, 60 s bins know the hour and the day.
pub(super) struct Forecasts {
    choice: Choice,
    fast: Side,
    slow: Side,
    /// Judges the minutes, whose ensemble remembers days. That of tens of seconds sees every bin as it was measured, so that
    /// pods follow what comes, whatever it is called.
    filter: Filter,
}

struct Side {
    resolution: Resolution,
    ensemble: Ensemble,
    seen: Option<i64>,
}

/// What a young ensemble's upper quantile is held to.
#[derive(Clone, Copy)]
pub(super) struct Chance {
    /// Variance of a second's count over its mean.
    pub(super) dispersion: f64,
    /// Seconds of the kernel's clock per second of the caller's.
    pub(super) second: f64,
}

impl Chance {
    /// The most that chance makes of `load` requests/s in a bin of `step` seconds.
    fn most(self, load: f64, step: u32) -> f64 {
        let seconds = f64::from(step) * self.second;
        load + YOUNG_SIGMAS * (load * self.dispersion / seconds).sqrt()
    }
}

impl Side {
    fn new(resolution: Resolution, choice: &Choice, weights: &AllWeights) -> Self {
        let grid = Grid { step_seconds: resolution.step_seconds() };
        let max_over =
            |steps: &[u32]| steps.iter().map(|&steps| Target::MaxOver { steps }).collect::<Vec<_>>();
        let targets = match resolution {
            Resolution::Minute => {
                let at = SLOW_STEPS.iter().map(|&steps| Target::At { steps });
                at.chain(max_over(&SLOW_MAXIMA)).collect()
            }
            _ => max_over(&FAST_STEPS),
        };
        let ensemble = Ensemble::chosen(grid, &targets, choice, weights);
        Self { resolution, ensemble, seen: None }
    }

    fn observe(&mut self, bin: Bin) {
        if self.has_seen(bin.index) {
            return;
        }
        self.seen = Some(bin.index);
        self.ensemble.observe(bin);
    }

    fn has_seen(&self, index: i64) -> bool {
        self.seen.is_some_and(|seen| index <= seen)
    }

    fn unseen<'a>(&self, series: &'a Series) -> impl Iterator<Item = Point> + use<'a> {
        series.after(self.resolution, self.seen.unwrap_or(i64::MIN))
    }

    /// The upper quantile of the largest load until `seconds` from now; the longest target if none reaches so far.
    fn upper(&self, seconds: f64, level: Level, most: Option<Chance>) -> Option<Upper> {
        let forecast = self.ensemble.forecast()?;
        let step = forecast.grid.step_seconds;
        // The newest bin may have begun two of its lengths ago; what is left of the target must still reach.
        let reach = seconds + f64::from(step);
        let maxima = || forecast.points.iter().filter(|(t, _)| matches!(t, Target::MaxOver { .. }));
        let enough = maxima().filter(|(t, _)| f64::from(t.steps() * step) >= reach);
        let (target, quantiles) =
            enough.min_by_key(|(t, _)| t.steps()).or_else(|| maxima().max_by_key(|(t, _)| t.steps()))?;
        let most = most.map_or(f64::INFINITY, |chance| chance.most(quantiles.at(Level::P50), step));
        let load = RequestsPerSecond::new(quantiles.at(level).min(most)).ok()?;
        Some(Upper { load, level, seconds: target.steps() * step, step_seconds: step })
    }

    fn reaches(&self, seconds: f64) -> bool {
        let step = self.resolution.step_seconds();
        let longest = if self.resolution == Resolution::Minute { SLOW_MAXIMA[4] } else { FAST_STEPS[3] };
        f64::from(longest * step) >= seconds + f64::from(step)
    }
}

impl Forecasts {
    /// New ones of these models, which run with these weights.
    pub(super) fn new(choice: &Choice, weights: &AllWeights) -> Self {
        let side = |resolution| Side::new(resolution, choice, weights);
        let (fast, slow) = (side(Resolution::TenSeconds), side(Resolution::Minute));
        let filter = Filter::new(slow.ensemble.grid());
        Self { choice: choice.clone(), fast, slow, filter }
    }

    /// Gives models of their kind other weights.
    pub(super) fn set_weights(&mut self, weights: &Weights) {
        self.fast.ensemble.set_weights(weights);
        self.slow.ensemble.set_weights(weights);
    }

    /// All of their state.
    pub(super) fn save(&self) -> SavedForecasts {
        let ensemble = |side: &Side| SavedEnsemble { seen: side.seen, bytes: side.ensemble.save() };
        let ensembles = [&self.fast, &self.slow].map(ensemble);
        SavedForecasts { ensembles, filter: self.filter.save() }
    }

    /// What [`Forecasts::save`] saved of the same models.
    pub(super) fn restored(
        saved: &SavedForecasts,
        choice: &Choice,
        weights: &AllWeights,
    ) -> Result<Self, Unreadable> {
        let Self { choice, fast, slow, filter } = Self::new(choice, weights);
        let restore = |side: Side, saved: &SavedEnsemble| {
            Ok(Side { ensemble: side.ensemble.restored(&saved.bytes)?, seen: saved.seen, ..side })
        };
        let [saved_fast, saved_slow] = &saved.ensembles;
        let (fast, slow) = (restore(fast, saved_fast)?, restore(slow, saved_slow)?);
        Ok(Self { choice, fast, slow, filter: filter.restored(&saved.filter)? })
    }

    /// New ones, shown the newest [`RETRAIN_BINS`] of each grid.
    pub(super) fn retrained(series: &Series, choice: &Choice, weights: &AllWeights) -> Self {
        let mut it = Self::new(choice, weights);
        for side in [&mut it.fast, &mut it.slow] {
            let newest = series.points(side.resolution).last().map(|point| point.index);
            side.seen = newest.map(|newest| newest.saturating_sub(RETRAIN_BINS));
        }
        it.follow(series);
        it
    }

    /// Takes what the nodes expect, merged: the grid of tens of seconds reaches no further than they do.
    pub(super) fn hear(&mut self, nodes: &Forecast) {
        self.fast.ensemble.hear(nodes);
    }

    /// Shows the ensembles what has been added to the series since the last call.
    pub(super) fn follow(&mut self, series: &Series) {
        self.fast.unseen(series).for_each(|point| self.fast.observe(bin(&point)));
        for minute in self.slow.unseen(series) {
            self.minute(&minute, |index| series.at(Resolution::Minute, index));
        }
    }

    /// Judges a minute, and shows it to its ensemble as far as it may be learned from.
    fn minute(&mut self, point: &Point, past: impl Fn(i64) -> Option<Point>) {
        if self.slow.has_seen(point.index) {
            return;
        }
        match known(point) {
            // The hold of the data and the saturation speak for themselves.
            None => self.filter.pass(point.index),
            Some(load) => {
                self.filter.judge(Bin::new(point.index, load), |index| known(&past(index)?));
            }
        }
        let shown = self.filter.doubt().map_or(bin(point), |reason| reason.shown(bin(point)));
        self.slow.observe(shown);
    }

    /// Why the newest minute is not what it seems, if so.
    pub(super) fn doubt(&self) -> Option<Reason> {
        self.filter.doubt()
    }

    /// Starts anew from history and what the series holds after it. History that is coarser than a grid is not shown
    /// to it: bins between its points would be free of noise, and teach a certainty that there is none.
    pub(super) fn replay(
        &mut self,
        history: &[(Wall, RequestsPerSecond)],
        series: &Series,
        weights: &AllWeights,
    ) {
        *self = Self::new(&self.choice, weights);
        let spacing = typical_spacing(history);
        let before = |resolution: Resolution| -> Vec<Point> {
            let step = i64::from(resolution.step_seconds());
            if spacing.is_none_or(|spacing| spacing > step) {
                return Vec::new();
            }
            let live = series.points(resolution).find(|p| p.concurrency.is_some()).map(|p| p.index);
            binned(history, step).filter(|point| live.is_none_or(|live| point.index < live)).collect()
        };
        before(Resolution::TenSeconds).iter().for_each(|point| self.fast.observe(bin(point)));
        let minutes = before(Resolution::Minute);
        let at = |index| minutes.binary_search_by_key(&index, |point| point.index).ok();
        for point in &minutes {
            self.minute(point, |index| Some(minutes[at(index)?]));
        }
        self.follow(series);
        // The series holds such points over its finer bins, for people to look at.
        for side in [&mut self.fast, &mut self.slow] {
            let step = i64::from(side.resolution.step_seconds());
            let end = history.last().map(|(at, _)| at.unix_seconds().div_euclid(step));
            side.seen = side.seen.max(end);
        }
    }

    /// The larger of the two grids' upper quantiles of the largest load until `seconds` from now. The fast grid sees
    /// what began a moment ago, the slow one what comes at this hour; each is blind to the other's, and being too
    /// small costs more than being too large. While both have [seen little](YOUNG_SECONDS) it is the median and what `chance`
    /// adds, at most: rises are then for those who look at the last minutes themselves.
    pub(super) fn upper(&self, seconds: f64, level: Level, chance: Chance) -> Option<Upper> {
        let young = self.ensembles().iter().all(|it| it.history_seconds() < YOUNG_SECONDS);
        let most = young.then_some(chance);
        // A flood that the minutes are spared must be planned for all the same, as far ahead as the fast grid sees.
        let spared = self.doubt().is_some_and(Reason::holds);
        let fast = self.fast.upper(seconds, level, most).filter(|_| spared || self.fast.reaches(seconds));
        let slow = self.slow.upper(seconds, level, most);
        match (fast, slow) {
            (Some(a), Some(b)) => Some(if a.load.get() >= b.load.get() { a } else { b }),
            (one, other) => one.or(other),
        }
    }

    /// Both ensembles, fast first.
    pub(super) fn ensembles(&self) -> [&Ensemble; 2] {
        [&self.fast.ensemble, &self.slow.ensemble]
    }

    /// Both forecasts, fast first.
    pub(super) fn current(&self) -> impl Iterator<Item = &Forecast> {
        self.ensembles().into_iter().filter_map(Ensemble::forecast)
    }
}

/// A bin's load, where it was measured whole.
fn known(point: &Point) -> Option<f64> {
    point.load.filter(|_| !point.censored).map(RequestsPerSecond::get)
}

/// As it was measured.
fn bin(point: &Point) -> Bin {
    Bin { index: point.index, value: point.load.map(RequestsPerSecond::get), censored: point.censored }
}

/// What a retraining on all these workloads is about, as of `now`.
pub(super) fn retraining(now: Now, workloads: usize, seed: u64) -> RetrainingSettings {
    let step_seconds = Resolution::Minute.step_seconds();
    let at = LEARNED_STEPS.map(|steps| Target::At { steps });
    let maxima = LEARNED_STEPS.map(|steps| Target::MaxOver { steps });
    RetrainingSettings {
        grid: Grid { step_seconds },
        targets: at.into_iter().chain(maxima).collect(),
        workloads,
        end: now.wall.unix_seconds().div_euclid(i64::from(step_seconds)),
        seed,
    }
}

/// The minutes of a workload, as they are learned from: lower bounds teach nothing.
pub(super) fn minutes(series: &Series) -> History {
    let points = || series.points(Resolution::Minute);
    let load = |point: Point| point.load.filter(|_| !point.censored).map_or(f64::NAN, RequestsPerSecond::get);
    History { first: points().next().map_or(0, |point| point.index), rates: points().map(load).collect() }
}

/// The median distance of neighbours, seconds.
fn typical_spacing(history: &[(Wall, RequestsPerSecond)]) -> Option<i64> {
    let mut spacings: Vec<i64> =
        history.windows(2).map(|pair| pair[1].0.unix_seconds() - pair[0].0.unix_seconds()).collect();
    spacings.sort_unstable();
    spacings.get(spacings.len() / 2).copied()
}

/// Means per bin, oldest first; bins without a point are left out (gaps).
fn binned(history: &[(Wall, RequestsPerSecond)], step: i64) -> impl Iterator<Item = Point> {
    let index = move |wall: Wall| wall.unix_seconds().div_euclid(step);
    history.chunk_by(move |a, b| index(a.0) == index(b.0)).filter_map(move |bin| {
        let mean = bin.iter().map(|(_, load)| load.get()).sum::<f64>() / bin.len() as f64;
        let load = Some(RequestsPerSecond::new(mean).ok()?);
        Some(Point { index: index(bin[0].0), load, concurrency: None, censored: false })
    })
}
