//! Weights fitted anew on the history of many workloads, and whether they are better than those that run.
//!
//! Pure and in small pieces: the caller gives one history at a time, decides how often [`Retraining::step`] is called, and
//! may stop after any. Each step is some milliseconds at most, and what is held does not grow with the number of
//! workloads: some 25 MB. How a kind of weights learns and is judged is its own ([`Learner`], [`Judge`]); when, on what, and what
//! a verdict is are the same for all.

use crate::admission::{Verdict, interval};
use crate::forecast::{Grid, Target};
use crate::neural::lesson::STRIDE;
use crate::neural::retraining as networks;
use crate::nn::Random;
use crate::trees::retraining as boosted;
use crate::weights::Weights;

/// The newest bins are kept from the training and judge it: a day of minutes, so that every hour has its say. Weights
/// that last night's training made have not seen them either.
pub const JUDGED_BINS: usize = 1440;

/// A workload teaches with a day at least, gaps not counted: less knows no hour twice.
const LEAST_BINS: usize = 1440;

/// Records that a verdict wants, of the 206 that a day has: below that a block is no longer an hour.
const LEAST_RECORDS: usize = 100;

/// Bins that a step reads at most.
pub(crate) const BINS_PER_STEP: usize = 60;

/// What a retraining is about.
#[derive(Clone, Debug, PartialEq)]
pub struct RetrainingSettings {
    /// The bins' grid.
    pub grid: Grid,
    /// What is learned to be forecast. Trees learn no maxima.
    pub targets: Vec<Target>,
    /// Workloads that there are; they are asked for by number.
    pub workloads: usize,
    /// No bin from this index on is read: the retraining is about what is known when it begins.
    pub end: i64,
    /// Start of everything random.
    pub seed: u64,
}

impl RetrainingSettings {
    /// The first bin that the training does not see and the judging does.
    pub fn split(&self) -> i64 {
        self.end - JUDGED_BINS as i64
    }
}

/// One workload's load.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Index of the first bin.
    pub first: i64,
    /// Mean load of each bin, requests/s; NaN for a gap, and for what is only a lower bound: it teaches nothing.
    pub rates: Vec<f64>,
}

/// What a step has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing goes on until the history of this workload is given ([`Retraining::give`]).
    Wants(usize),
    /// A piece of work was done.
    Worked,
    /// All is done: [`Retraining::finish`].
    Done,
}

/// What became of a challenger.
#[derive(Clone, Debug, PartialEq)]
pub struct Challenge {
    /// The challenger.
    pub weights: Weights,
    /// Whether it is better: its loss on later data is lower, the whole 90 % interval of the difference on one side.
    pub admitted: bool,
    /// What it gained on the champion, in shares of the champion's loss; `None` when too little was known to judge by.
    pub verdict: Option<Verdict>,
    /// Workloads that taught.
    pub taught: usize,
    /// Workloads that judged.
    pub judged: usize,
    /// Records that the verdict is made of, each the mean over all workloads.
    pub records: usize,
    /// Updates of a network, or trees.
    pub updates: usize,
}

/// Makes a challenger.
pub(crate) trait Learner {
    /// Takes the next workload's history, which ends at the split and has a day of known bins.
    fn give(&mut self, history: History, random: &mut Random);

    /// Does a piece of work, `given` workloads having had their turn; false when the next one's may come.
    fn work(&mut self, given: usize) -> bool;

    /// What was learned of all of them, and by how many updates; `None` where none has taught.
    fn challenger(&self) -> Option<(Weights, usize)>;
}

/// Has champion and challenger forecast the same bins.
pub(crate) trait Judge {
    /// Takes the next workload's history. It counts from bin `from` on, and what is usual for it is judged by those before.
    fn give(&mut self, history: History, from: usize);

    /// Reads a bin: its index, and both losses where it is one that counts; `None` at the end.
    fn read(&mut self) -> Option<(i64, Option<[f64; 2]>)>;
}

/// A retraining in progress.
///
/// A challenger is made of every workload's history before the [`RetrainingSettings::split`]; then it and the champion forecast
/// every workload's bins from there on. The split is one instant for all workloads: what came later in one teaches nothing
/// about another. Records are means over the workloads at one time, since what errs together is no evidence twice; the
/// interval is the head's own (`admission.rs`), with blocks of twice the longest target.
pub struct Retraining {
    settings: RetrainingSettings,
    champion: Weights,
    /// Workloads in the order in which they are asked for.
    order: Vec<usize>,
    /// How many of them are done, in this pass.
    at: usize,
    random: Random,
    learner: Box<dyn Learner>,
    taught: usize,
    judging: Option<Judging>,
    done: bool,
}

struct Judging {
    judge: Box<dyn Judge>,
    challenger: Weights,
    updates: usize,
    /// Per record: the two losses, and the workloads in it.
    records: Vec<([f64; 2], u32)>,
    judged: usize,
    reads: bool,
    /// Whether the workload under way has counted.
    spoke: bool,
}

impl Retraining {
    /// A retraining of these weights.
    pub fn new(champion: Weights, settings: RetrainingSettings) -> Self {
        let mut random = Random::new(settings.seed);
        let mut order: Vec<usize> = (0..settings.workloads).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, random.below(i + 1));
        }
        let learner: Box<dyn Learner> = match &champion {
            Weights::Network(network) => Box::new(networks::Student::new(network.clone(), settings.clone())),
            Weights::Trees(_) => Box::new(boosted::Student::new(settings.clone())),
        };
        Self { settings, champion, order, at: 0, random, learner, taught: 0, judging: None, done: false }
    }

    /// Does a piece of work.
    pub fn step(&mut self) -> Step {
        if self.done {
            return Step::Done;
        }
        let worked = match &mut self.judging {
            Some(judging) => judging.work(&self.settings),
            None => self.learner.work(self.at),
        };
        if worked {
            return Step::Worked;
        }
        if let Some(workload) = self.order.get(self.at) {
            return Step::Wants(*workload);
        }
        let challenger = if self.judging.is_some() { None } else { self.learner.challenger() };
        match challenger {
            Some((challenger, updates)) => {
                self.judging = Some(Judging::new(&self.champion, challenger, updates, &self.settings));
                self.at = 0;
                Step::Worked
            }
            None => {
                self.done = true;
                Step::Done
            }
        }
    }

    /// Gives the history that [`Step::Wants`] asked for; `None` when that workload has gone.
    pub fn give(&mut self, history: Option<History>) {
        self.at += 1;
        let Some(History { mut first, mut rates }) = history else { return };
        let gaps = rates.iter().take_while(|rate| !rate.is_finite()).count();
        rates.drain(..gaps);
        first += gaps as i64;
        let bins = |until: i64| usize::try_from(until.saturating_sub(first)).unwrap_or(0);
        rates.truncate(bins(self.settings.end));
        let split = bins(self.settings.split()).min(rates.len());
        match &mut self.judging {
            Some(judging) => {
                (judging.reads, judging.spoke) = (split < rates.len(), false);
                if judging.reads {
                    judging.judge.give(History { first, rates }, split);
                }
            }
            None if rates[..split].iter().filter(|rate| rate.is_finite()).count() < LEAST_BINS => {}
            None => {
                // Who learns is never given what comes later.
                rates.truncate(split);
                self.learner.give(History { first, rates }, &mut self.random);
                self.taught += 1;
            }
        }
    }

    /// How much of the work is done, 0 to 1, about: reading twice takes most of it.
    pub fn progress(&self) -> f64 {
        let pass = self.at as f64 / self.order.len().max(1) as f64;
        if self.done { 1.0 } else { 0.5 * (pass + if self.judging.is_some() { 1.0 } else { 0.0 }) }
    }

    /// What came of it; `None` when no workload has history enough to learn from, or before it is done.
    pub fn finish(self) -> Option<Challenge> {
        let judging = self.judging.filter(|_| self.done)?;
        let known: Vec<[f64; 2]> = judging
            .records
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(losses, count)| losses.map(|loss| loss / f64::from(*count)))
            .collect();
        let usual = known.iter().map(|[champion, _]| champion).sum::<f64>() / known.len().max(1) as f64;
        let mut sums = vec![0.0];
        for [champion, challenger] in &known {
            sums.push(sums[sums.len() - 1] + (champion - challenger) / usual.max(f64::MIN_POSITIVE));
        }
        let steps = self.settings.targets.iter().map(|t| t.steps() as usize).max().unwrap_or(1);
        let block = (2 * steps.div_ceil(STRIDE)).clamp(5, LEAST_RECORDS / 5);
        let mut random = Random::new(self.settings.seed);
        let verdict = (known.len() >= LEAST_RECORDS).then(|| interval(&sums, block, &mut random));
        Some(Challenge {
            weights: judging.challenger,
            admitted: verdict.is_some_and(|verdict| verdict.low > 0.0),
            verdict,
            taught: self.taught,
            judged: judging.judged,
            records: known.len(),
            updates: judging.updates,
        })
    }
}

impl Judging {
    fn new(champion: &Weights, challenger: Weights, updates: usize, settings: &RetrainingSettings) -> Self {
        let judge: Box<dyn Judge> = match (champion, &challenger) {
            (Weights::Network(one), Weights::Network(other)) => {
                Box::new(networks::Duel::new([one.clone(), other.clone()], settings))
            }
            (Weights::Trees(one), Weights::Trees(other)) => {
                Box::new(boosted::Duel::new([one.clone(), other.clone()], settings))
            }
            _ => unreachable!("a challenger is of its champion's kind"),
        };
        let records = vec![([0.0; 2], 0); JUDGED_BINS.div_ceil(STRIDE) + 1];
        Self { judge, challenger, updates, records, judged: 0, reads: false, spoke: false }
    }

    /// Reads some bins; false when the workload's have been read.
    fn work(&mut self, settings: &RetrainingSettings) -> bool {
        if !self.reads {
            return false;
        }
        let split = settings.split().div_euclid(STRIDE as i64);
        for _ in 0..BINS_PER_STEP {
            let Some((index, losses)) = self.judge.read() else {
                self.judged += usize::from(self.spoke);
                self.reads = false;
                break;
            };
            let record = index.div_euclid(STRIDE as i64) - split;
            if let Some(losses) = losses
                && let Some((sums, count)) =
                    usize::try_from(record).ok().and_then(|at| self.records.get_mut(at))
            {
                sums.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += loss);
                *count += 1;
                self.spoke = true;
            }
        }
        true
    }
}

/// Both kinds' tests run a whole retraining.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    pub(crate) const GRID: Grid = Grid { step_seconds: 60 };
    pub(crate) const BINS: usize = 3 * 1440;
    const END: i64 = 1_000_000 + BINS as i64;

    fn settings(workloads: usize) -> RetrainingSettings {
        let targets = vec![Target::At { steps: 5 }, Target::MaxOver { steps: 15 }];
        RetrainingSettings { grid: GRID, targets, workloads, end: END, seed: 1 }
    }

    /// Noise, and a spike every 23 minutes, which nothing that ships knows.
    pub(crate) fn timer(seed: u64) -> Vec<f64> {
        let mut random = Random::new(seed);
        let spike = |i: usize| if (i + seed as usize * 5).is_multiple_of(23) { 20.0 } else { 0.0 };
        (0..BINS).map(|i| 1.0 + random.unit() + spike(i)).collect()
    }

    /// The outcome, and the steps that it took; `tell` gives each workload's rates up to the end.
    pub(crate) fn run_with(
        champion: impl Into<Weights>,
        workloads: usize,
        tell: impl Fn(usize) -> Option<Vec<f64>>,
    ) -> (Option<Challenge>, usize) {
        let mut retraining = Retraining::new(champion.into(), settings(workloads));
        for steps in 0.. {
            match retraining.step() {
                Step::Wants(workload) => {
                    let history = |rates: Vec<f64>| History { first: END - rates.len() as i64, rates };
                    retraining.give(tell(workload).map(history));
                }
                Step::Worked => {}
                Step::Done => return (retraining.finish(), steps),
            }
        }
        unreachable!("it ends")
    }

    pub(crate) fn run(champion: impl Into<Weights>, histories: &[Vec<f64>]) -> (Option<Challenge>, usize) {
        run_with(champion, histories.len(), |workload| Some(histories[workload].clone()))
    }

    /// The same bins before the split, in no order.
    pub(crate) fn shuffled(mut rates: Vec<f64>, random: &mut Random) -> Vec<f64> {
        for i in (1..BINS - JUDGED_BINS).rev() {
            rates.swap(i, random.below(i + 1));
        }
        rates
    }
}
