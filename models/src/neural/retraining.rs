//! A network trained anew on the history of many workloads, and whether it is better than the one that runs.
//!
//! Pure and in small pieces: the caller gives one history at a time, decides how often [`Retraining::step`] is called, and
//! may stop after any. Each step is a few milliseconds at most, and what is held does not grow with the number of
//! workloads: some 25 MB.

use std::ops::Range;
use std::sync::Arc;

use crate::admission::{Verdict, interval};
use crate::forecast::{Grid, Target};
use crate::nn::Random;

use super::head::Scratch;
use super::lesson::{Lesson, Reader, STRIDE};
use super::network::Network;
use super::training::{CHUNK, Training, TrainingSettings, pinball};

/// The newest bins are kept from the training and judge it: a day of minutes, so that every hour has its say. A network
/// that last night's training made has not seen them either.
pub const JUDGED_BINS: usize = 1440;

/// A workload teaches with a day at least, gaps not counted: less knows no hour twice.
const LEAST_BINS: usize = 1440;

/// Records that a verdict wants, of the 206 that a day has: below that a block is no longer an hour.
const LEAST_RECORDS: usize = 100;

/// Workloads whose lessons are in memory together. They come in random order, so that a block is a sample of all.
const BLOCK: usize = 16;

/// A workload teaches with as many pieces of its history, spread over all of it, of half a day each: 1.4 MB with six targets.
const PIECES: usize = 4;
const PIECE_BINS: usize = 12 * CHUNK;

/// Updates per workload: one for each sixteen chunks of its pieces.
const UPDATES_PER_WORKLOAD: usize = 3;

/// Updates that few workloads have at least, unless the same pieces would be read more than [`MOST_PASSES`] times; and updates
/// at most, as the shipped weights took from nothing.
const UPDATES: Range<usize> = 200..3000;
const MOST_PASSES: usize = 10;

/// Bins that a step reads at most.
const BINS_PER_STEP: usize = CHUNK;

/// Bins that fill a network's state before it is judged: as a stream of the training, and as much again.
const WARM_UP_BINS: usize = 2 * CHUNK;

/// What a retraining is about.
#[derive(Clone, Debug, PartialEq)]
pub struct RetrainingSettings {
    /// The bins' grid.
    pub grid: Grid,
    /// What the network learns to forecast.
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
    pub network: Network<f32>,
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
    /// Updates.
    pub updates: usize,
}

/// A retraining in progress.
///
/// It starts from the champion (warm start) and trains a challenger on pieces of every workload's history before the
/// [`RetrainingSettings::split`]; then both forecast every workload's bins from there on. The split is one instant for
/// all workloads: what came later in one teaches nothing about another. Records are means over the workloads at one time,
/// since what errs together is no evidence twice; the interval is the head's own (`admission.rs`), with blocks of twice the
/// longest target.
pub struct Retraining {
    settings: RetrainingSettings,
    champion: Arc<Network<f32>>,
    /// Workloads in the order in which they are asked for.
    order: Vec<usize>,
    /// How many of them are done, in this pass.
    at: usize,
    random: Random,
    reading: Option<Reading>,
    lessons: Vec<Lesson>,
    training: Option<Training<'static>>,
    /// Updates done, and those that are due before the next workload is read.
    updates: usize,
    due: usize,
    taught: usize,
    judging: Option<Judging>,
    done: bool,
}

struct Reading {
    reader: Reader,
    /// Pieces of the history that become lessons, by bins.
    pieces: Vec<Range<usize>>,
}

struct Judging {
    reader: Option<Reader>,
    networks: [Side; 2],
    /// Per record: the two networks' losses, and the workloads in it.
    records: Vec<([f64; 2], u32)>,
    /// Where the workload under way begins to count, in bins of its history.
    from: usize,
    judged: usize,
    spoke: bool,
}

struct Side {
    network: Arc<Network<f32>>,
    state: Vec<f32>,
    core: Vec<f32>,
    head: Scratch<f32>,
}

impl Side {
    fn new(network: Arc<Network<f32>>) -> Self {
        Self {
            state: vec![0.0; network.core.state_len()],
            core: vec![0.0; network.core.scratch()],
            head: network.head.scratch(),
            network,
        }
    }
}

impl Retraining {
    /// A retraining that starts from `champion`.
    pub fn new(champion: Arc<Network<f32>>, settings: RetrainingSettings) -> Self {
        let mut random = Random::new(settings.seed);
        let mut order: Vec<usize> = (0..settings.workloads).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, random.below(i + 1));
        }
        Self {
            settings,
            champion,
            order,
            at: 0,
            random,
            reading: None,
            lessons: Vec::new(),
            training: None,
            updates: 0,
            due: 0,
            taught: 0,
            judging: None,
            done: false,
        }
    }

    /// Does a piece of work.
    pub fn step(&mut self) -> Step {
        if self.done {
            return Step::Done;
        }
        if self.judging.is_some() {
            return self.judge();
        }
        if let Some(reading) = &mut self.reading {
            if !read(reading, &mut self.lessons, &self.settings) {
                self.reading = None;
            }
            return Step::Worked;
        }
        if self.updates < self.due {
            let total = self.planned();
            if let Some(training) = &mut self.training
                && training.work(self.updates as f64 / total as f64).is_some()
            {
                self.updates += 1;
            }
            return Step::Worked;
        }
        let block_is_full = self.at.is_multiple_of(BLOCK) || self.at == self.order.len();
        if block_is_full && !self.lessons.is_empty() {
            self.learn();
            return Step::Worked;
        }
        if let Some(workload) = self.order.get(self.at) {
            return Step::Wants(*workload);
        }
        let Some(training) = &self.training else {
            self.done = true;
            return Step::Done;
        };
        let challenger = Arc::new(training.network().clone());
        let records = JUDGED_BINS.div_ceil(STRIDE) + 1;
        self.judging = Some(Judging {
            reader: None,
            networks: [Arc::clone(&self.champion), challenger].map(Side::new),
            records: vec![([0.0; 2], 0); records],
            from: 0,
            judged: 0,
            spoke: false,
        });
        self.at = 0;
        Step::Worked
    }

    /// Gives the history that [`Step::Wants`] asked for; `None` when that workload has gone.
    pub fn give(&mut self, history: Option<History>) {
        let (grid, targets) = (self.settings.grid, &self.settings.targets);
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
                judging.from = split;
                judging.spoke = false;
                for side in &mut judging.networks {
                    side.state.fill(0.0);
                }
                judging.reader =
                    (split < rates.len()).then(|| Reader::new(grid, targets, first, rates, split));
            }
            None if known(&rates[..split]) < LEAST_BINS => {}
            None => {
                // The reader of the training is never given what comes later.
                rates.truncate(split);
                let pieces = pieces(split, &mut self.random);
                let reader = Reader::new(grid, targets, first, rates, split);
                self.reading = Some(Reading { reader, pieces });
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
        let [_, challenger] = judging.networks;
        Some(Challenge {
            network: Arc::unwrap_or_clone(challenger.network),
            admitted: verdict.is_some_and(|verdict| verdict.low > 0.0),
            verdict,
            taught: self.taught,
            judged: judging.judged,
            records: known.len(),
            updates: self.updates,
        })
    }

    fn planned(&self) -> usize {
        let pass = UPDATES_PER_WORKLOAD * self.settings.workloads;
        pass.max(UPDATES.start.min(MOST_PASSES * pass)).min(UPDATES.end)
    }

    /// Begins to learn from the lessons that have been read.
    fn learn(&mut self) {
        let lessons = std::mem::take(&mut self.lessons);
        match &mut self.training {
            Some(training) => training.go_on_with(lessons),
            None => {
                // A third of the rate that the shipped weights began with: they are a start, not noise.
                let settings =
                    TrainingSettings { learning_rate: 1e-3, seed: self.settings.seed, ..Default::default() };
                self.training = Some(Training::new(lessons, (*self.champion).clone(), settings));
            }
        }
        self.due = self.planned() * self.at / self.order.len();
    }

    fn judge(&mut self) -> Step {
        let Some(judging) = &mut self.judging else { return Step::Done };
        if let Some(reader) = &mut judging.reader {
            let split = self.settings.split().div_euclid(STRIDE as i64);
            for _ in 0..BINS_PER_STEP {
                if !reader.read() {
                    judging.judged += usize::from(judging.spoke);
                    judging.reader = None;
                    break;
                }
                let record = reader.index().div_euclid(STRIDE as i64) - split;
                judging.spoke |= compare(reader, &mut judging.networks, judging.from)
                    .zip(usize::try_from(record).ok().and_then(|at| judging.records.get_mut(at)))
                    .map(|(losses, (sums, count))| {
                        sums.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += loss);
                        *count += 1;
                    })
                    .is_some();
            }
            return Step::Worked;
        }
        match self.order.get(self.at) {
            Some(workload) => Step::Wants(*workload),
            None => {
                self.done = true;
                Step::Done
            }
        }
    }
}

fn known(rates: &[f64]) -> usize {
    rates.iter().filter(|rate| rate.is_finite()).count()
}

/// Where the pieces of a history of so many bins lie: one at random in each of equal parts, or all of it where it is short.
fn pieces(bins: usize, random: &mut Random) -> Vec<Range<usize>> {
    if bins <= PIECES * PIECE_BINS {
        return (0..bins)
            .step_by(PIECE_BINS.next_multiple_of(STRIDE))
            .map(|from| from..(from + PIECE_BINS).min(bins))
            .collect();
    }
    let part = bins / PIECES;
    // Rows of views begin at multiples of the stride.
    let start = |i: usize, random: &mut Random| {
        (i * part + random.below(part - PIECE_BINS + 1)).next_multiple_of(STRIDE)
    };
    (0..PIECES).map(|i| start(i, random)).map(|from| from..(from + PIECE_BINS).min(bins)).collect()
}

/// Reads some bins of a history into lessons; false when it is read.
fn read(reading: &mut Reading, lessons: &mut Vec<Lesson>, settings: &RetrainingSettings) -> bool {
    let Reading { reader, pieces } = reading;
    for _ in 0..BINS_PER_STEP {
        if !reader.read() {
            lessons.retain(|lesson| lesson.len() >= 2 * CHUNK);
            return false;
        }
        let t = reader.position() - 1;
        if pieces.first().is_some_and(|piece| piece.end == t) {
            pieces.remove(0);
        }
        match pieces.first() {
            Some(piece) if piece.contains(&t) => {
                if piece.start == t {
                    lessons.push(Lesson::empty(&settings.targets, piece.len()));
                }
                let lesson = lessons.last_mut().expect("a piece begins with its lesson");
                reader.note(lesson);
            }
            _ => reader.ask(|_| {}),
        }
    }
    true
}

/// The losses of both networks at the newest bin, mean over the targets whose outcome is known; `None` where nothing is
/// asked, or before bin `from`.
fn compare(reader: &mut Reader, networks: &mut [Side; 2], from: usize) -> Option<[f64; 2]> {
    let t = reader.position() - 1;
    if t + WARM_UP_BINS >= from {
        for Side { network, state, core, .. } in &mut *networks {
            network.core.step(reader.inputs(), state, core);
        }
    }
    let (mut losses, mut count) = ([0.0; 2], 0_u32);
    reader.ask(|(view, truth, weight)| {
        let Some(truth) = truth.filter(|_| t >= from) else { return };
        count += 1;
        for (loss, Side { network, state, head, .. }) in losses.iter_mut().zip(&mut *networks) {
            let output = &state[..network.settings().hidden];
            let quantiles = network.head.forward(output, &view, head);
            *loss += f64::from(pinball(&view, truth, weight, quantiles).0);
        }
    });
    (count > 0).then(|| losses.map(|loss| loss / f64::from(count)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neural::{CoreKind, NetworkSettings};

    const GRID: Grid = Grid { step_seconds: 60 };
    const BINS: usize = 3 * 1440;
    const END: i64 = 1_000_000 + BINS as i64;

    fn settings(workloads: usize) -> RetrainingSettings {
        let targets = vec![Target::At { steps: 5 }, Target::MaxOver { steps: 15 }];
        RetrainingSettings { grid: GRID, targets, workloads, end: END, seed: 1 }
    }

    fn small() -> Arc<Network<f32>> {
        let settings = NetworkSettings { core: CoreKind::Gru, hidden: 8, head: 8 };
        Arc::new(Network::random(settings, &mut Random::new(1)))
    }

    /// Noise, and a spike every 23 minutes, which no candidate knows.
    fn timer(seed: u64) -> Vec<f64> {
        let mut random = Random::new(seed);
        let spike = |i: usize| if (i + seed as usize * 5).is_multiple_of(23) { 20.0 } else { 0.0 };
        (0..BINS).map(|i| 1.0 + random.unit() + spike(i)).collect()
    }

    /// The outcome, and the steps that it took; `tell` gives each workload's rates up to the end.
    fn run_with(
        champion: Arc<Network<f32>>,
        workloads: usize,
        tell: impl Fn(usize) -> Option<Vec<f64>>,
    ) -> (Option<Challenge>, usize) {
        let mut retraining = Retraining::new(champion, settings(workloads));
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

    fn run(champion: Arc<Network<f32>>, histories: &[Vec<f64>]) -> (Option<Challenge>, usize) {
        run_with(champion, histories.len(), |workload| Some(histories[workload].clone()))
    }

    #[test]
    fn what_the_champion_never_saw_admits_a_challenger_and_a_seed_gives_the_same_bytes() {
        let histories: Vec<Vec<f64>> = (0..4).map(timer).collect();
        let (challenge, steps) = run(small(), &histories);
        let challenge = challenge.unwrap();
        assert!(challenge.admitted, "{:?}", challenge.verdict);
        assert_eq!((challenge.taught, challenge.judged), (4, 4));
        assert!(challenge.records >= 190, "{}", challenge.records);
        // A step is 60 bins or one stream's chunk: reading twice, ten passes of updates of 16 chunks, some to change over.
        let updates = MOST_PASSES * UPDATES_PER_WORKLOAD * 4;
        assert_eq!(challenge.updates, updates);
        let most = 2 * 4 * (BINS / BINS_PER_STEP + 2) + updates * 16 + 10;
        assert!(steps <= most, "{steps} steps, at most {most}");
        assert_eq!(run(small(), &histories).0.unwrap().network.save(), challenge.network.save());
    }

    #[test]
    fn what_comes_after_the_split_teaches_nothing() {
        let histories: Vec<Vec<f64>> = (0..2).map(timer).collect();
        let mut changed = histories.clone();
        for rates in &mut changed {
            rates[BINS - JUDGED_BINS..].iter_mut().for_each(|rate| *rate = 500.0 - *rate);
        }
        let (one, other) = (run(small(), &histories).0.unwrap(), run(small(), &changed).0.unwrap());
        assert_eq!(one.network.save(), other.network.save());
        assert_ne!(one.verdict, other.verdict, "the later bins judge, or this test would not");
    }

    #[test]
    fn a_challenger_that_learned_from_shuffled_bins_is_refused() {
        // The champion knows the timer; the challenger is shown the same bins in no order and judged by the timer.
        let histories: Vec<Vec<f64>> = (0..2).map(timer).collect();
        let champion = Arc::new(run(small(), &histories).0.unwrap().network);
        let mut random = Random::new(5);
        let shuffled: Vec<Vec<f64>> = histories
            .into_iter()
            .map(|mut rates| {
                for i in (1..BINS - JUDGED_BINS).rev() {
                    rates.swap(i, random.below(i + 1));
                }
                rates
            })
            .collect();
        let challenge = run(champion, &shuffled).0.unwrap();
        assert!(!challenge.admitted && challenge.verdict.unwrap().mean < 0.0, "{:?}", challenge.verdict);
    }

    #[test]
    fn who_has_no_day_before_the_split_teaches_nothing_and_gaps_are_no_lessons() {
        let short = timer(1).split_off(BINS - JUDGED_BINS - 100);
        let (outcome, _) = run_with(small(), 2, |workload| (workload == 0).then(|| short.clone()));
        assert_eq!(outcome, None);
        // Nothing but gaps on the last day: the challenger can't be judged, and does not come in.
        let mut gaps = timer(1);
        gaps[BINS - JUDGED_BINS..].fill(f64::NAN);
        let challenge = run(small(), &[gaps]).0.unwrap();
        assert_eq!((challenge.admitted, challenge.verdict, challenge.judged), (false, None, 0));
    }

    #[test]
    fn pieces_lie_in_the_history_and_begin_where_views_do() {
        let mut random = Random::new(1);
        for bins in [LEAST_BINS, 2000, PIECES * PIECE_BINS, PIECES * PIECE_BINS + 1, 20_160] {
            let pieces = pieces(bins, &mut random);
            assert!(pieces.windows(2).all(|pair| pair[0].end <= pair[1].start), "{bins}: {pieces:?}");
            assert!(pieces.iter().all(|p| p.start % STRIDE == 0 && p.end <= bins), "{bins}: {pieces:?}");
            assert!(pieces.iter().any(|p| p.len() >= 2 * CHUNK), "{bins}: {pieces:?}");
        }
    }
}
