//! One target of an ensemble: residual quantiles, weights, tracking, and the forecasts that are not yet due.

use crate::combiner::Combiner;
use crate::drift::excess;
use crate::expert::VALUE_LIMIT;
use crate::forecast::{LEVELS, Level, Quantiles, Target};
use crate::mixture::Mixture;
use crate::residual::Residuals;
use crate::score::{LastValue, Movement, Record, Score, loss, pinball};
use crate::state::state;
use crate::tracking::Tracker;
use crate::window::{Outcome, Window};

/// About so many forecasts of a target are kept until they are due: of longer targets only every so many-th origin is
/// settled. Their windows overlap almost wholly, so little is lost but memory and work: fifteen instead of eight gained
/// 0.4 % on FORECAST.md's traces and cost 5 KB a workload.
const MAX_PENDING: u32 = 8;

/// Every so many-th origin's forecast of a target is kept and settled. Above one it shares no factor with a day of bins,
/// so that every minute of the hour comes in turn: with every third, a timer that strikes each quarter-hour was always
/// or never among the settled, and one of FORECAST.md's traces scored three times as badly.
pub(crate) fn stride(target: Target) -> u32 {
    let least = target.steps().div_ceil(MAX_PENDING);
    // A day is 2^a 3^b 5^c bins on every grid that divides it.
    (least..).find(|n| n % 2 > 0 && n % 3 > 0 && n % 5 > 0).unwrap_or(least)
}

/// Experts are counted in the bits of a `u32`.
pub(crate) const MAX_EXPERTS: usize = 30;

/// The bits beside them that say that the season announced a jump, and that the head took part in what was issued.
const JUMP: u32 = 1 << 31;
const HEADED: u32 = 1 << 30;

/// How many settled forecasts the weights remember, about: two days of minutes, so that
/// weights have seen every hour of the day and still follow a changed workload within days.
const MEMORY: f64 = 3000.0;

/// What pods are sized by are the upper quantiles; at the lower ones a separate weighting of jumps cost 0.5 %.
const JUMP_LEVEL: f64 = 0.9;

/// Jumps remembered, in bins: a burst of ten minutes a day makes 50 days of it, an hourly one two days.
const JUMP_MEMORY: f64 = 500.0;

/// The combiner's game that takes the upper levels' place while the season announces a jump.
const JUMPS: usize = 5;

/// Everything that belongs to one target.
pub(crate) struct Track {
    target: Target,
    stride: i64,
    members: Box<[Member]>,
    /// A game per level, and [`JUMPS`].
    combiner: Combiner,
    trackers: [Tracker; 5],
    /// Forecasts that are not yet due, a ring by origin.
    pending: Box<[Pending]>,
    /// The experts' points beside them, row by row.
    points: Box<[f32]>,
    /// What the head makes of it, if there is one.
    mixture: Option<Box<Mixture>>,
    /// How what was issued has done, and the last value beside it.
    issued: Record,
    last: LastValue,
    settled: u32,
    covered: [u32; 5],
}
state!(Track { members, combiner, trackers, pending, points, issued, last, settled, covered }
    given { mixture }
    fixed { target, stride });

/// One expert's part in a target.
#[derive(Clone, Debug, Default)]
struct Member {
    /// How far it is usually off.
    residuals: Residuals,
    /// How its quantiles have done.
    record: Record,
}
state!(Member { residuals, record });

/// What a track is told of one origin, beside the experts' points.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    /// The newest bin.
    pub(crate) index: i64,
    /// A bit per expert.
    pub(crate) awake: u32,
    /// Whether the season announces a jump.
    pub(crate) jump: bool,
    /// The local scale.
    pub(crate) scale: f64,
    /// The head's quantiles, unless it sleeps.
    pub(crate) head: Option<[f64; 5]>,
    /// Whether what is issued is the mixture with the head.
    pub(crate) admitted: bool,
}

/// What one settled forecast says of the head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gain {
    /// How much less was lost with it than without it, relative to the usual loss.
    pub(crate) of_usual: f64,
    /// How much more, from −1 to 1: see [`excess`].
    pub(crate) excess: f64,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    /// The index's low half: rows are reused within the longest target, far sooner than it repeats.
    origin: u32,
    /// A bit per expert, [`JUMP`] and [`HEADED`].
    awake: u32,
    scale: f32,
    /// What was forecast, before the levels were put in order.
    tracked: [f32; 5],
}
state!(Pending { origin, awake, scale, tracked });

impl Track {
    pub(crate) fn new(target: Target, prior: &[f64]) -> Self {
        let stride = stride(target);
        let rows = target.steps().div_ceil(stride) as usize;
        let empty = Pending { origin: 0, awake: 0, scale: 1.0, tracked: [0.0; 5] };
        Self {
            target,
            stride: i64::from(stride),
            members: vec![Member::default(); prior.len()].into(),
            combiner: Combiner::new(prior, LEVELS.len() + 1),
            trackers: [Tracker::default(); 5],
            pending: vec![empty; rows].into(),
            points: vec![0.0; rows * prior.len()].into(),
            mixture: None,
            issued: Record::default(),
            last: LastValue::default(),
            settled: 0,
            covered: [0; 5],
        }
    }

    /// From now on what a head says is mixed in.
    pub(crate) fn add_head(&mut self) {
        self.mixture = Some(Box::new(Mixture::new(self.pending.len())));
    }

    /// What a game forgets with each settled forecast, to remember so many bins.
    fn forget(&self, memory: f64) -> f32 {
        (self.stride as f64 / memory) as f32
    }

    /// Multiplies the experts' starting weights.
    pub(crate) fn lean(&mut self, factors: impl Iterator<Item = f64>) {
        self.combiner.lean(factors);
    }

    fn row(&self, origin: i64) -> usize {
        origin.div_euclid(self.stride).rem_euclid(self.pending.len() as i64) as usize
    }

    /// Forecasts from `origin`, where the experts say `points`.
    pub(crate) fn forecast(
        &mut self,
        origin: Origin,
        points: impl Iterator<Item = f32> + Clone,
    ) -> Quantiles {
        let Origin { index, awake, jump, scale, head, admitted } = origin;
        let mut tracked = [0.0; 5];
        for (l, tracked) in tracked.iter_mut().enumerate() {
            let quantiles = points.clone().zip(&self.members).map(|(p, m)| quantile(p, scale, m, l));
            let game = if jump && LEVELS[l] >= JUMP_LEVEL { JUMPS } else { l };
            let mixed = self.combiner.combine(game, quantiles, awake).unwrap_or(0.0);
            *tracked = (mixed + scale * self.trackers[l].correction()).clamp(0.0, VALUE_LIMIT);
        }
        let row = (index.rem_euclid(self.stride) == 0).then(|| self.row(index));
        if let Some(row) = row {
            for (kept, point) in self.points[row * self.members.len()..].iter_mut().zip(points) {
                *kept = point;
            }
            // Each tracker is settled on its own value: on a sorted one it would be steered by its neighbour's.
            self.pending[row] = Pending {
                origin: index as u32,
                awake: awake | if jump { JUMP } else { 0 } | if admitted { HEADED } else { 0 },
                scale: scale as f32,
                tracked: tracked.map(|q| q as f32),
            };
        }
        // Crossing quantiles are put in order (Chernozhukov, Fernández-Val, Galichon: Quantile and Probability Curves
        // Without Crossing, Econometrica 2010: sorting never worsens the loss).
        tracked.sort_unstable_by(f64::total_cmp);
        if let Some(mixture) = &mut self.mixture {
            let mut mixed = mixture.forecast(row, tracked, head, scale);
            if admitted {
                mixed.sort_unstable_by(f64::total_cmp);
                tracked = mixed;
            }
        }
        Quantiles::new(tracked).expect("clamped values are finite")
    }

    /// Settles the forecast that bin `now` makes due, if it was kept and its outcome is known; `losses` is scratch of
    /// one entry per expert. Returns what the head would have gained on the ensemble alone.
    pub(crate) fn settle(&mut self, now: i64, window: &Window, losses: &mut [f64]) -> Option<Gain> {
        let origin = now - i64::from(self.target.steps());
        let row = self.row(origin);
        let pending = self.pending[row];
        if origin.rem_euclid(self.stride) != 0 {
            return None;
        }
        // A row that was never written has nobody awake.
        if pending.origin != origin as u32 || pending.awake == 0 {
            return None;
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
                        tracker.settle(LEVELS[l], false, u64::from(self.settled));
                    }
                }
                if let Some(mixture) = &mut self.mixture {
                    mixture.settle_bound(bound, row);
                }
                return None;
            }
            Outcome::Unknown => return None,
        };
        let scale = f64::from(pending.scale);
        let experts = self.members.len();
        let (forget, forget_jumps) = (self.forget(MEMORY), self.forget(JUMP_MEMORY));
        let points = &self.points[row * experts..][..experts];
        if pending.awake & JUMP > 0 {
            for (i, loss) in losses.iter_mut().enumerate() {
                // By the levels that these weights serve: over all of them a burst that comes in one of four announced
                // bins would be a false alarm, though nine in ten of what an upper quantile loses is lost by missing it.
                let served = (0..5).filter(|&l| LEVELS[l] >= JUMP_LEVEL);
                let quantiles = served.map(|l| (l, quantile(points[i], scale, &self.members[i], l)));
                *loss = quantiles.map(|(l, q)| pinball(truth, q, LEVELS[l])).sum();
            }
            self.combiner.update(JUMPS, losses, pending.awake, forget_jumps);
        }
        for (l, level) in LEVELS.into_iter().enumerate() {
            let quantiles = || points.iter().zip(&self.members).map(|(p, m)| quantile(*p, scale, m, l));
            let mixed = self.combiner.combine(l, quantiles(), pending.awake).unwrap_or(0.0);
            let slope = if truth > mixed {
                -level
            } else if truth < mixed {
                1.0 - level
            } else {
                0.0
            };
            // The gradient trick (Cesa-Bianchi & Lugosi, Prediction, Learning, and Games, 2006, §2.5): charged with
            // the loss's slope at the combination instead of their own loss, the experts are weighted towards the
            // best mixture of them, not only the best one.
            for (loss, quantile) in losses.iter_mut().zip(quantiles()) {
                *loss = slope * (quantile - mixed);
            }
            self.combiner.update(l, losses, pending.awake, forget);
        }
        let mut alone = pending.tracked;
        alone.sort_unstable_by(f32::total_cmp);
        let without = loss(truth, &alone.map(f64::from));
        let with = self.mixture.as_mut().and_then(|mixture| mixture.settle(truth, row, alone, forget));
        // Where the ensemble was never wrong there is nothing to gain.
        let usual = self.mixture.as_ref().map_or(0.0, |it| it.usual.loss()).max(f64::MIN_POSITIVE);
        let gain = with.map(|with| Gain {
            of_usual: if without == with { 0.0 } else { (without - with) / usual },
            excess: excess(with, without, usual),
        });
        let issued = match &self.mixture {
            Some(mixture) if pending.awake & HEADED > 0 => mixture.issued(row),
            _ => alone,
        };
        for l in 0..5 {
            // Values are kept as f32; equality is meant at that precision. Where they are equal (idle hours, exact
            // repetition) the quantile is right as it is: counting them as covered would wind the correction up.
            let truth = truth as f32;
            if truth != pending.tracked[l] {
                let covered = truth < pending.tracked[l];
                self.trackers[l].settle(LEVELS[l], covered, u64::from(self.settled));
            }
            self.covered[l] += u32::from(truth <= issued[l]);
        }
        // What the last value would have lost is known only where there was one.
        let measured = match window.get(origin) {
            Outcome::Known(last) | Outcome::AtLeast(last) => Some(last),
            Outcome::Unknown => None,
        };
        if let Some(last) = measured {
            self.issued.add(truth, &issued.map(f64::from));
            self.last.add(truth, last, &self.issued);
            if let Some(mixture) = &mut self.mixture {
                mixture.without.add(truth, &alone.map(f64::from));
                let mixed = mixture.issued(row);
                mixture.with.add(truth, &mixed.map(f64::from));
                mixture.usual.add(loss(truth, &issued.map(f64::from)));
            }
        }
        self.settled += 1;
        for (i, member) in self.members.iter_mut().enumerate() {
            if pending.awake >> i & 1 == 1 {
                if measured.is_some() {
                    let quantiles = std::array::from_fn(|l| quantile(points[i], scale, member, l));
                    member.record.add(truth, &quantiles);
                }
                member.residuals.add((truth - f64::from(points[i])) / scale);
            }
        }
        gain
    }

    /// What it forecasts.
    pub(crate) fn target(&self) -> Target {
        self.target
    }

    /// The experts' weights at a level, as if all were awake.
    pub(crate) fn weights(&self, level: Level) -> impl Iterator<Item = f64> + '_ {
        self.combiner.weights(level as usize)
    }

    /// How its forecasts have done, where the series moves by so much from a bin to the next.
    pub(crate) fn score(&self, movement: Movement) -> Score {
        let mixture = self.mixture.as_ref();
        Score {
            target: self.target,
            settled: u64::from(self.settled),
            covered: self.covered.map(u64::from),
            issued: self.issued.errors(movement),
            without_head: mixture.map(|mixture| mixture.without.errors(movement)),
            with_head: mixture.map(|mixture| mixture.with.errors(movement)),
            loss_of_last_value: self.last.loss.into(),
            error_of_last_value: self.last.absolute.into(),
        }
    }

    /// How each expert's have done.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.members.iter().map(|member| &member.record)
    }

    /// The head's share of the mixture per level, if there is a head.
    pub(crate) fn head_shares(&self) -> Option<[f64; 5]> {
        self.mixture.as_ref().map(|mixture| mixture.shares())
    }

    /// Bytes that it holds, itself included.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.members.len() * size_of::<Member>()
            + self.combiner.heap_bytes()
            + self.mixture.as_ref().map_or(0, |mixture| size_of::<Mixture>() + mixture.heap_bytes())
            + self.pending.len() * size_of::<Pending>()
            + self.points.len() * 4
    }
}

fn quantile(point: f32, scale: f64, of: &Member, level: usize) -> f64 {
    (f64::from(point) + scale * of.residuals.quantile(level)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expert::Bin;

    #[test]
    fn the_mixture_has_the_errors_of_what_it_said_admitted_or_not_and_the_experts_those_of_theirs() {
        let mut track = Track::new(Target::At { steps: 1 }, &[1.0]);
        track.add_head();
        let mut window = Window::new(2);
        let mut said: Option<[[f32; 5]; 2]> = None;
        let (mut absolute, mut loss, count) = ([0.0; 2], [0.0; 2], 1000);
        for index in 0..=count {
            let truth = (100 + index * 7919 % 31) as f64;
            window.push(Bin::new(index, truth));
            track.settle(index, &window, &mut [0.0]);
            for (i, said) in said.iter().flatten().enumerate() {
                absolute[i] += (truth - f64::from(said[Level::P50 as usize])).abs();
                loss[i] += super::loss(truth, &said.map(f64::from));
            }
            // It sleeps every tenth time; where it is admitted the mixture is what is issued.
            let admitted = index % 3 == 0;
            let head = (index % 10 > 0).then_some([100.0, 112.0, 126.0, 128.0, 130.0]);
            let origin = Origin { index, awake: 1, jump: false, scale: 5.0, head, admitted };
            let issued = track.forecast(origin, [110.0].into_iter()).values().map(|q| q as f32);
            let mixed = track.mixture.as_ref().unwrap().issued(0);
            let mut alone = track.pending[0].tracked;
            alone.sort_unstable_by(f32::total_cmp);
            assert_eq!(issued, if admitted { mixed } else { alone });
            said = Some([mixed, alone]);
        }
        let score = track.score(Movement::default());
        let errors = [score.with_head.unwrap(), score.without_head.unwrap()];
        assert!(errors[0].loss < errors[1].loss, "the head knows more: {errors:?}");
        for (i, errors) in errors.into_iter().enumerate() {
            assert_eq!(errors.settled, count as u64);
            for (mean, sum) in [(errors.mae, absolute[i]), (errors.loss, loss[i])] {
                assert!((mean - sum / count as f64).abs() < 1e-4 * mean, "{mean} for {sum}/{count}");
            }
        }
    }

    #[test]
    fn settled_origins_reach_every_minute_of_the_hour() {
        for steps in 1..=crate::ensemble::MAX_STEPS {
            let stride = stride(Target::At { steps });
            assert!(stride >= steps.div_ceil(MAX_PENDING) && stride < 64, "{steps}: {stride}");
            assert!(
                (1..60).all(|turns| !(turns * stride).is_multiple_of(60)),
                "{steps}: every {stride}th comes back too early"
            );
        }
        assert_eq!([1, 5, 15, 60].map(|steps| stride(Target::MaxOver { steps })), [1, 1, 7, 11]);
    }
}
