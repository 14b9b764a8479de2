//! A head's network as it is trained anew: from the one that runs, on pieces of every workload's history, which are read into
//! lessons block by block; and both of them on the same later bins.

use std::ops::Range;
use std::sync::Arc;

use crate::nn::Random;
use crate::retraining::{BINS_PER_STEP, History, Judge, Learner, RetrainingSettings};
use crate::weights::Weights;

use super::head::Scratch;
use super::lesson::{Lesson, Reader, STRIDE};
use super::network::Network;
use super::training::{CHUNK, Training, TrainingSettings, pinball};

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

/// Bins that fill a network's state before it is judged: as a stream of the training, and as much again.
const WARM_UP_BINS: usize = 2 * CHUNK;

/// Trains a challenger, from the champion (warm start).
pub(crate) struct Student {
    settings: RetrainingSettings,
    champion: Arc<Network<f32>>,
    reading: Option<Reading>,
    lessons: Vec<Lesson>,
    training: Option<Training<'static>>,
    /// Updates done, and those that are due before the next workload is read.
    updates: usize,
    due: usize,
}

struct Reading {
    reader: Reader,
    /// Pieces of the history that become lessons, by bins.
    pieces: Vec<Range<usize>>,
}

impl Student {
    pub(crate) fn new(champion: Arc<Network<f32>>, settings: RetrainingSettings) -> Self {
        let (reading, lessons, training) = (None, Vec::new(), None);
        Self { settings, champion, reading, lessons, training, updates: 0, due: 0 }
    }

    fn planned(&self) -> usize {
        let pass = UPDATES_PER_WORKLOAD * self.settings.workloads;
        pass.max(UPDATES.start.min(MOST_PASSES * pass)).min(UPDATES.end)
    }

    /// Begins to learn from the lessons that have been read, of the first `given` workloads.
    fn learn(&mut self, given: usize) {
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
        self.due = self.planned() * given / self.settings.workloads;
    }
}

impl Learner for Student {
    fn give(&mut self, History { first, rates }: History, random: &mut Random) {
        let RetrainingSettings { grid, targets, .. } = &self.settings;
        let (bins, pieces) = (rates.len(), pieces(rates.len(), random));
        self.reading = Some(Reading { reader: Reader::new(*grid, targets, first, rates, bins), pieces });
    }

    fn work(&mut self, given: usize) -> bool {
        if let Some(reading) = &mut self.reading {
            if !read(reading, &mut self.lessons, &self.settings) {
                self.reading = None;
            }
            return true;
        }
        if self.updates < self.due {
            let total = self.planned();
            if let Some(training) = &mut self.training
                && training.work(self.updates as f64 / total as f64).is_some()
            {
                self.updates += 1;
            }
            return true;
        }
        let block_is_full = given.is_multiple_of(BLOCK) || given == self.settings.workloads;
        if block_is_full && !self.lessons.is_empty() {
            self.learn(given);
            return true;
        }
        false
    }

    fn challenger(&self) -> Option<(Weights, usize)> {
        let training = self.training.as_ref()?;
        Some((Arc::new(training.network().clone()).into(), self.updates))
    }
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

/// Two networks over the same bins.
pub(crate) struct Duel {
    settings: RetrainingSettings,
    networks: [Side; 2],
    reader: Option<Reader>,
    /// Where the workload under way begins to count, in bins of its history.
    from: usize,
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

impl Duel {
    pub(crate) fn new(networks: [Arc<Network<f32>>; 2], settings: &RetrainingSettings) -> Self {
        Self { settings: settings.clone(), networks: networks.map(Side::new), reader: None, from: 0 }
    }
}

impl Judge for Duel {
    fn give(&mut self, History { first, rates }: History, from: usize) {
        for side in &mut self.networks {
            side.state.fill(0.0);
        }
        let RetrainingSettings { grid, targets, .. } = &self.settings;
        (self.reader, self.from) = (Some(Reader::new(*grid, targets, first, rates, from)), from);
    }

    fn read(&mut self) -> Option<(i64, Option<[f64; 2]>)> {
        let reader = self.reader.as_mut()?;
        if !reader.read() {
            self.reader = None;
            return None;
        }
        Some((reader.index(), compare(reader, &mut self.networks, self.from)))
    }
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
    use crate::retraining::JUDGED_BINS;
    use crate::retraining::testing::{BINS, run, run_with, shuffled, timer};

    fn small() -> Arc<Network<f32>> {
        let settings = NetworkSettings { core: CoreKind::Gru, hidden: 8, head: 8 };
        Arc::new(Network::random(settings, &mut Random::new(1)))
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
        assert_eq!(run(small(), &histories).0.unwrap().weights.save(), challenge.weights.save());
    }

    #[test]
    fn what_comes_after_the_split_teaches_nothing() {
        let histories: Vec<Vec<f64>> = (0..2).map(timer).collect();
        let mut changed = histories.clone();
        for rates in &mut changed {
            rates[BINS - JUDGED_BINS..].iter_mut().for_each(|rate| *rate = 500.0 - *rate);
        }
        let (one, other) = (run(small(), &histories).0.unwrap(), run(small(), &changed).0.unwrap());
        assert_eq!(one.weights.save(), other.weights.save());
        assert_ne!(one.verdict, other.verdict, "the later bins judge, or this test would not");
    }

    #[test]
    fn a_challenger_that_learned_from_shuffled_bins_is_refused() {
        // The champion knows the timer; the challenger is shown the same bins in no order and judged by the timer.
        let histories: Vec<Vec<f64>> = (0..2).map(timer).collect();
        let champion = run(small(), &histories).0.unwrap().weights;
        let mut random = Random::new(5);
        let shuffled: Vec<Vec<f64>> =
            histories.into_iter().map(|rates| shuffled(rates, &mut random)).collect();
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
        for bins in [1440, 2000, PIECES * PIECE_BINS, PIECES * PIECE_BINS + 1, 20_160] {
            let pieces = pieces(bins, &mut random);
            assert!(pieces.windows(2).all(|pair| pair[0].end <= pair[1].start), "{bins}: {pieces:?}");
            assert!(pieces.iter().all(|p| p.start % STRIDE == 0 && p.end <= bins), "{bins}: {pieces:?}");
            assert!(pieces.iter().any(|p| p.len() >= 2 * CHUNK), "{bins}: {pieces:?}");
        }
    }
}
