//! One workload's history as a network learns from it.

use crate::expert::Bin;
use crate::forecast::{Grid, Target};

use super::frame::{Frame, INPUTS, View};

/// One step in this many is asked for a forecast: neighbours would say almost the same. It shares no factor with a day
/// in any grid, so that every minute of the hour is asked in turn.
pub(crate) const STRIDE: usize = 7;

/// A step whose scale is this many times the workload's usual error weighs no more: one burst must not be the lesson.
pub(crate) const LARGEST_WEIGHT: f64 = 10.0;

/// One workload's history as a network reads it; made from its own past alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Lesson {
    pub(super) targets: Vec<Target>,
    pub(super) inputs: Vec<f32>,
    /// One per target for each [`STRIDE`]th bin, and so on.
    pub(super) views: Vec<View>,
    /// The outcome in the view's scales, where it is known.
    pub(super) truths: Vec<Option<f32>>,
    /// Scale over the workload's usual movement at this horizon.
    pub(super) weights: Vec<f32>,
}

impl Lesson {
    /// Reads a history of counts in requests/s from bin `first` on. Later bins than the last are not looked at: a
    /// forecast whose outcome lies beyond it teaches nothing.
    ///
    /// Each workload weighs the same, whatever its size: errors count relative to the mean |y(t + h) − y(t)|, which
    /// is what relWQL divides by.
    pub fn new(grid: Grid, targets: &[Target], first: i64, rates: &[f64]) -> Self {
        let mut reader = Reader::new(grid, targets, first, rates.to_vec(), rates.len());
        let mut lesson = Self::empty(targets, rates.len());
        while reader.read() {
            reader.note(&mut lesson);
        }
        lesson
    }

    /// Nothing yet, with room for so many bins.
    pub(super) fn empty(targets: &[Target], bins: usize) -> Self {
        let rows = bins.div_ceil(STRIDE) * targets.len();
        Self {
            targets: targets.to_vec(),
            inputs: Vec::with_capacity(bins * INPUTS),
            views: Vec::with_capacity(rows),
            truths: Vec::with_capacity(rows),
            weights: Vec::with_capacity(rows),
        }
    }

    /// The same lesson without what needs a bin from `bins` on.
    pub fn until(&self, bins: usize) -> Self {
        let bins = bins.min(self.len());
        let (rows, reaches) = (bins.div_ceil(STRIDE) * self.targets.len(), &self.targets);
        let mut cut = Self {
            targets: reaches.clone(),
            inputs: self.inputs[..bins * INPUTS].to_vec(),
            views: self.views[..rows].to_vec(),
            truths: self.truths[..rows].to_vec(),
            weights: self.weights[..rows].to_vec(),
        };
        for t in (0..bins).step_by(STRIDE) {
            for (i, target) in reaches.iter().enumerate() {
                if t + target.steps() as usize >= bins {
                    cut.truths[t / STRIDE * reaches.len() + i] = None;
                }
            }
        }
        cut
    }

    /// Bins.
    pub fn len(&self) -> usize {
        self.inputs.len() / INPUTS
    }

    /// Whether there is nothing to learn from.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }
}

/// Goes through a history bin by bin.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    frame: Frame,
    targets: Vec<Target>,
    first: i64,
    rates: Vec<f64>,
    seconds: f64,
    /// The workload's usual movement, per target.
    usual: Vec<f64>,
    at: usize,
}

/// What a network is asked at a bin: a view, the outcome in its scales if it is known, and what an error weighs.
pub(super) type Question = (View, Option<f32>, f32);

impl Reader {
    /// For counts in requests/s from bin `first` on; NaN is a gap. What is usual is judged by the bins before `until`
    /// alone.
    pub(super) fn new(grid: Grid, targets: &[Target], first: i64, rates: Vec<f64>, until: usize) -> Self {
        let seconds = f64::from(grid.step_seconds);
        let frame = Frame::new(grid, targets);
        let targets = targets.to_vec();
        let known = &rates[..until.min(rates.len())];
        let usual = targets.iter().map(|target| usual(known, *target, seconds)).collect();
        Self { frame, targets, first, rates, seconds, usual, at: 0 }
    }

    /// Takes the next bin; false at the end.
    pub(super) fn read(&mut self) -> bool {
        let Some(rate) = self.rates.get(self.at) else { return false };
        self.frame.observe(Bin::new(self.first + self.at as i64, *rate).sane());
        self.at += 1;
        true
    }

    /// Bins that have been taken.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The newest bin's index.
    pub(super) fn index(&self) -> i64 {
        self.first + self.at as i64 - 1
    }

    /// The newest bin's inputs.
    pub(super) fn inputs(&self) -> &[f32; INPUTS] {
        self.frame.inputs()
    }

    /// Asks `each` about every target, if the newest bin is one that is asked at. To be called once a bin.
    pub(super) fn ask(&mut self, mut each: impl FnMut(Question)) {
        let t = self.at - 1;
        for (i, target) in self.targets.iter().enumerate() {
            let outlook = self.frame.look(i);
            if !t.is_multiple_of(STRIDE) {
                continue;
            }
            let view = self.frame.view(i, &outlook);
            let truth = outcome(&self.rates, t, *target, self.seconds);
            let truth = truth.map(|y| ((y - view.base) / view.scale) as f32);
            each((view, truth, (view.scale / self.usual[i]).min(LARGEST_WEIGHT) as f32));
        }
    }

    /// Adds the newest bin to a lesson. To be called once a bin, in place of [`Reader::ask`].
    pub(super) fn note(&mut self, lesson: &mut Lesson) {
        lesson.inputs.extend_from_slice(self.frame.inputs());
        self.ask(|(view, truth, weight)| {
            lesson.views.push(view);
            lesson.truths.push(truth);
            lesson.weights.push(weight);
        });
    }
}

/// How far a workload's count usually moves until a target, by these bins.
pub(crate) fn usual(known: &[f64], target: Target, seconds: f64) -> f64 {
    let moves: Vec<f64> = (0..known.len())
        .filter_map(|t| Some((outcome(known, t, target, seconds)? - known[t] * seconds).abs()))
        .filter(|movement| movement.is_finite())
        .collect();
    // A workload that never moves would weigh without end: a tenth of a request is movement enough.
    (moves.iter().sum::<f64>() / moves.len().max(1) as f64).max(0.1)
}

/// What came of a target asked for at bin `t`, as a count; `None` if that is not known.
pub(crate) fn outcome(rates: &[f64], t: usize, target: Target, seconds: f64) -> Option<f64> {
    let window = rates.get(t + 1..=t + target.steps() as usize)?;
    let value = match target {
        Target::At { .. } => *window.last()?,
        // A missing bin may have held the largest value: NaN then, which `max` would hide.
        Target::MaxOver { .. } => {
            window.iter().fold(0.0, |a: f64, b| if *b > a || b.is_nan() { *b } else { a })
        }
    };
    value.is_finite().then_some(value * seconds)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{GRID, TARGETS, rates};
    use super::*;

    #[test]
    fn a_lesson_knows_nothing_of_later_bins() {
        let rates = rates(1, 400);
        let mut changed = rates.clone();
        changed[250..].fill(1e6);
        let cut = Lesson::new(GRID, &TARGETS, 0, &rates).until(250);
        let other = Lesson::new(GRID, &TARGETS, 0, &changed).until(250);
        // What a lesson's errors are relative to is a mean over the whole history that it was made of, so the weights
        // alone may differ.
        assert_eq!((cut.inputs, cut.views), (other.inputs, other.views));
        assert_eq!(cut.truths, other.truths);
        assert!(other.truths.iter().any(Option::is_none) && other.truths.iter().any(Option::is_some));
    }

    #[test]
    fn a_missing_outcome_teaches_nothing() {
        let mut rates = rates(1, 200);
        rates[50..60].fill(f64::NAN);
        let lesson = Lesson::new(GRID, &TARGETS, 0, &rates);
        let at = 49 / STRIDE * 2;
        assert_eq!(lesson.truths[at..at + 2], [None, None]);
        assert!(lesson.inputs.iter().all(|x| x.is_finite()));
        assert!(lesson.weights.iter().all(|w| w.is_finite()));
    }
}
