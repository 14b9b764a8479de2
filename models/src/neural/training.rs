//! Fits one network to the pooled history of many workloads.
//!
//! Pure: the caller owns the clock, says how far along training is, and may stop after any update.

use crate::expert::Bin;
use crate::forecast::{Grid, LEVELS, Target};
use crate::nn::{Adam, AdamSettings, Parameters, Random, loss};

use super::core::{CoreKind, Tape};
use super::frame::{Frame, INPUTS, View};
use super::head::Scratch;
use super::network::{Network, NetworkSettings};

/// Steps that the gradient flows back through: an hour of minutes.
pub const CHUNK: usize = 60;

/// A stream reads this many chunks of one workload, then jumps to another.
const CHUNKS_PER_VISIT: usize = 8;

/// One step in this many is asked for a forecast: neighbours would say almost the same. It shares no factor with a day
/// in any grid, so that every minute of the hour is asked in turn.
const STRIDE: usize = 7;

/// A step whose scale is this many times the workload's usual error weighs no more: one burst must not be the lesson.
const LARGEST_WEIGHT: f64 = 10.0;

/// One workload's history as a network reads it; made from its own past alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Lesson {
    targets: Vec<Target>,
    inputs: Vec<f32>,
    /// One per target for each [`STRIDE`]th bin, and so on.
    views: Vec<View>,
    /// The outcome in the view's scales, where it is known.
    truths: Vec<Option<f32>>,
    /// Scale over the workload's usual movement at this horizon.
    weights: Vec<f32>,
}

impl Lesson {
    /// Reads a history of counts in requests/s from bin `first` on. Later bins than the last are not looked at: a
    /// forecast whose outcome lies beyond it teaches nothing.
    ///
    /// Each workload weighs the same, whatever its size: errors count relative to the mean |y(t + h) − y(t)|, which
    /// is what relWQL divides by.
    pub fn new(grid: Grid, targets: &[Target], first: i64, rates: &[f64]) -> Self {
        let seconds = f64::from(grid.step_seconds);
        let mut frame = Frame::new(grid, targets);
        let mut lesson = Self {
            targets: targets.to_vec(),
            inputs: Vec::with_capacity(rates.len() * INPUTS),
            views: Vec::new(),
            truths: Vec::new(),
            weights: Vec::new(),
        };
        let outcome = |t: usize, target: Target| -> Option<f64> {
            let window = rates.get(t + 1..=t + target.steps() as usize)?;
            let value = match target {
                Target::At { .. } => *window.last()?,
                // A missing bin may have held the largest value: NaN then, which `max` would hide.
                Target::MaxOver { .. } => {
                    window.iter().fold(0.0, |a: f64, b| if *b > a || b.is_nan() { *b } else { a })
                }
            };
            value.is_finite().then_some(value * seconds)
        };
        let usual: Vec<f64> = targets
            .iter()
            .map(|target| {
                let moves: Vec<f64> = (0..rates.len())
                    .filter_map(|t| Some((outcome(t, *target)? - rates[t] * seconds).abs()))
                    .filter(|movement| movement.is_finite())
                    .collect();
                // A workload that never moves would weigh without end: a tenth of a request is movement enough.
                (moves.iter().sum::<f64>() / moves.len().max(1) as f64).max(0.1)
            })
            .collect();
        for (t, rate) in rates.iter().enumerate() {
            frame.observe(Bin::new(first + t as i64, *rate).sane());
            lesson.inputs.extend_from_slice(frame.inputs());
            for ((i, target), usual) in targets.iter().enumerate().zip(&usual) {
                let outlook = frame.look(i);
                if t % STRIDE != 0 {
                    continue;
                }
                let view = frame.view(i, &outlook);
                let truth = outcome(t, *target).map(|y| ((y - view.base) / view.scale) as f32);
                lesson.views.push(view);
                lesson.truths.push(truth);
                lesson.weights.push((view.scale / usual).min(LARGEST_WEIGHT) as f32);
            }
        }
        lesson
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

/// How a network is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingSettings {
    /// Chunks per update, each from another stream.
    pub batch: usize,
    /// Learning rate at the start, from which it falls to a fiftieth along a half cosine.
    pub learning_rate: f64,
    /// Share of each weight that decays per update, times the learning rate.
    pub weight_decay: f64,
    /// Start of everything random.
    pub seed: u64,
}

impl Default for TrainingSettings {
    fn default() -> Self {
        Self { batch: 16, learning_rate: 3e-3, weight_decay: 0.01, seed: 1 }
    }
}

struct Stream {
    lesson: usize,
    at: usize,
    left: usize,
    tape: Tape<f32>,
}

/// A training in progress.
pub struct Training<'a> {
    lessons: &'a [Lesson],
    settings: TrainingSettings,
    network: Network<f32>,
    gradient: Network<f32>,
    adam: Adam<f32>,
    random: Random,
    streams: Vec<Stream>,
    scratch: Scratch<f32>,
    dstates: Vec<f32>,
    /// Running sum of √length, for choosing workloads.
    shares: Vec<f64>,
}

impl<'a> Training<'a> {
    /// Starts from `network`. Workloads shorter than two chunks are left out.
    ///
    /// # Panics
    /// If none is long enough.
    pub fn new(lessons: &'a [Lesson], network: Network<f32>, settings: TrainingSettings) -> Self {
        let mut total = 0.0;
        let shares: Vec<f64> = lessons
            .iter()
            .map(|lesson| {
                // Between one voice per workload and one per bin: a short history repeats itself sooner.
                total += if lesson.len() >= 2 * CHUNK { (lesson.len() as f64).sqrt() } else { 0.0 };
                total
            })
            .collect();
        assert!(total > 0.0, "no history of at least {} bins", 2 * CHUNK);
        let adam = AdamSettings { weight_decay: settings.weight_decay, ..AdamSettings::default() };
        let mut training = Self {
            lessons,
            settings,
            gradient: Network::zeros(network.settings()),
            adam: Adam::new(network.count(), adam),
            random: Random::new(settings.seed),
            streams: Vec::new(),
            scratch: network.head.scratch(),
            dstates: Vec::new(),
            shares,
            network,
        };
        for _ in 0..settings.batch {
            let stream = Stream { lesson: 0, at: 0, left: 0, tape: training.network.core.tape() };
            training.streams.push(stream);
        }
        training
    }

    /// One update; `progress` in 0..=1 sets the learning rate. Returns the mean loss of its forecasts.
    pub fn update(&mut self, progress: f64) -> f64 {
        self.gradient.fill(0.0);
        let (mut sum, mut count) = (0.0, 0);
        let mut streams = std::mem::take(&mut self.streams);
        for stream in &mut streams {
            let (s, c) = self.read(stream);
            sum += s;
            count += c;
        }
        self.streams = streams;
        if count == 0 {
            return f64::NAN;
        }
        let share = 1.0 / count as f32;
        self.gradient.visit_mut("", &mut |_, _, values| values.iter_mut().for_each(|g| *g *= share));
        let cosine = 0.5 * (1.0 + libm::cos(std::f64::consts::PI * progress.clamp(0.0, 1.0)));
        let rate = self.settings.learning_rate * (0.02 + 0.98 * cosine);
        self.adam.step(&mut self.network, &self.gradient, rate);
        sum / count as f64
    }

    /// The network as trained so far.
    pub fn network(&self) -> &Network<f32> {
        &self.network
    }

    fn read(&mut self, stream: &mut Stream) -> (f64, usize) {
        if stream.left == 0 || stream.at + CHUNK > self.lessons[stream.lesson].len() {
            self.jump(stream);
        }
        let lesson = &self.lessons[stream.lesson];
        let hidden = self.network.settings().hidden;
        let xs = &lesson.inputs[stream.at * INPUTS..][..CHUNK * INPUTS];
        self.network.core.forward(xs, &mut stream.tape);
        self.dstates.clear();
        self.dstates.resize(CHUNK * hidden, 0.0);
        let (mut sum, mut count) = (0.0, 0);
        for step in (stream.at.next_multiple_of(STRIDE) - stream.at..CHUNK).step_by(STRIDE) {
            let state = stream.tape.state(step + 1);
            for target in 0..lesson.targets.len() {
                let at = (stream.at + step) / STRIDE * lesson.targets.len() + target;
                let Some(truth) = lesson.truths[at] else { continue };
                let view = &lesson.views[at];
                let quantiles = self.network.head.forward(state, view, &mut self.scratch);
                let weight = lesson.weights[at];
                let (loss, dq) = pinball(view, truth, weight, quantiles);
                sum += f64::from(loss);
                count += 1;
                let dstate = &mut self.dstates[step * hidden..][..hidden];
                self.network.head.backward(view, dq, &mut self.scratch, &mut self.gradient.head, dstate);
            }
        }
        self.network.core.backward(xs, &mut stream.tape, &mut self.dstates, &mut self.gradient.core);
        stream.at += CHUNK;
        stream.left -= 1;
        (sum, count)
    }

    /// Moves a stream to a random place of a random workload and reads one chunk to warm its state up.
    fn jump(&mut self, stream: &mut Stream) {
        let total = self.shares[self.shares.len() - 1];
        let drawn = self.random.unit() * total;
        stream.lesson = self.shares.partition_point(|share| *share <= drawn).min(self.lessons.len() - 1);
        let lesson = &self.lessons[stream.lesson];
        stream.at = self.random.below(lesson.len() - 2 * CHUNK + 1);
        stream.left = CHUNKS_PER_VISIT;
        stream.tape = self.network.core.tape();
        let xs = &lesson.inputs[stream.at * INPUTS..][..CHUNK * INPUTS];
        self.network.core.forward(xs, &mut stream.tape);
        stream.at += CHUNK;
    }
}

/// The weighted mean pinball loss over the levels, and its gradient by the quantiles.
fn pinball(view: &View, truth: f32, weight: f32, quantiles: [f32; 5]) -> (f32, [f32; 5]) {
    // A forecast below zero requests counts as zero, whatever the network says.
    let floor = (-view.base / view.scale) as f32;
    let (mut sum, mut dq) = (0.0, [0.0; 5]);
    for (l, level) in LEVELS.iter().enumerate() {
        let clamped = quantiles[l] < floor;
        let (loss, slope) = loss::pinball(*level as f32, truth, quantiles[l].max(floor));
        sum += loss * weight / 5.0;
        // Below the floor only a push upwards is heard.
        dq[l] = if clamped && slope > 0.0 { 0.0 } else { slope * weight / 5.0 };
    }
    (sum, dq)
}

/// The mean loss of `network` on the bins `from..` of a lesson, its state carried on from the first bin; `None` where
/// no outcome is known.
pub fn score(network: &Network<f32>, lesson: &Lesson, from: usize) -> Option<f64> {
    let mut state = vec![0.0; network.core.state_len()];
    let mut scratch = vec![0.0; network.core.scratch()];
    let mut head = network.head.scratch();
    let (mut sum, mut count) = (0.0, 0_u32);
    for t in 0..lesson.len() {
        network.core.step(&lesson.inputs[t * INPUTS..][..INPUTS], &mut state, &mut scratch);
        if t < from || t % STRIDE != 0 {
            continue;
        }
        let row = t / STRIDE * lesson.targets.len();
        for at in row..row + lesson.targets.len() {
            let Some(truth) = lesson.truths[at] else { continue };
            let view = &lesson.views[at];
            let quantiles = network.head.forward(&state[..network.settings().hidden], view, &mut head);
            sum += f64::from(pinball(view, truth, lesson.weights[at], quantiles).0);
            count += 1;
        }
    }
    (count > 0).then(|| sum / f64::from(count))
}

/// What features and training make of a fixed series: FNV-1a over the bits of a small lesson on either kind of grid and
/// of a network that was trained on them for a few updates. Weights belong to the code that gives the same number.
pub fn fingerprint(core: CoreKind) -> u64 {
    let mut random = Random::new(1);
    let lessons = [10, 60].map(|step_seconds| {
        let targets = [Target::At { steps: 15 }, Target::MaxOver { steps: 5 }, Target::At { steps: 60 }];
        let rate = |i: u32| 5.0 + f64::from(i % 60) / 6.0 + f64::from(i / 1440) + 3.0 * random.unit();
        let rates: Vec<f64> = (0..4000).map(rate).collect();
        Lesson::new(Grid { step_seconds }, &targets, 100_000, &rates)
    });
    let network = Network::random(NetworkSettings::of(core), &mut Random::new(1));
    let mut training = Training::new(&lessons, network, TrainingSettings::default());
    for update in 0..3 {
        training.update(f64::from(update) / 3.0);
    }
    let mut hash = FNV_START;
    for lesson in &lessons {
        let features = lesson.views.iter().flat_map(|v| v.features.iter().chain(&v.spread));
        let values = lesson.inputs.iter().chain(features).chain(&lesson.weights);
        hash = values.fold(hash, |hash, value| fnv(hash, &value.to_le_bytes()));
    }
    training.network().visit("", &mut |_, _, values| {
        hash = values.iter().fold(hash, |hash, value| fnv(hash, &value.to_le_bytes()));
    });
    hash
}

/// FNV-1a of bytes: to tell weights files apart, not to protect them.
pub fn hash(bytes: &[u8]) -> u64 {
    fnv(FNV_START, bytes)
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid { step_seconds: 60 };
    const TARGETS: [Target; 2] = [Target::At { steps: 5 }, Target::MaxOver { steps: 3 }];

    /// A timer's spike every quarter-hour over noise: what the last value can't forecast.
    fn rates(seed: u64, bins: usize) -> Vec<f64> {
        let mut random = Random::new(seed);
        (0..bins)
            .map(|i| random.unit() + if (i as u64 + seed).is_multiple_of(15) { 20.0 } else { 0.0 })
            .collect()
    }

    fn lessons() -> Vec<Lesson> {
        (0..3).map(|seed| Lesson::new(GRID, &TARGETS, 1_000, &rates(seed, 1500))).collect()
    }

    fn trained(core: CoreKind, lessons: &[Lesson]) -> Network<f32> {
        let settings = NetworkSettings { core, hidden: 8, head: 8 };
        let network = Network::random(settings, &mut Random::new(1));
        let mut training =
            Training::new(lessons, network, TrainingSettings { batch: 4, ..Default::default() });
        for update in 0..60 {
            let loss = training.update(f64::from(update) / 60.0);
            assert!(loss.is_finite());
        }
        training.network().clone()
    }

    #[test]
    fn training_helps_on_a_workload_it_never_saw_and_a_seed_gives_the_same_bytes() {
        let lessons = lessons();
        let unseen = Lesson::new(GRID, &TARGETS, 1_000, &rates(9, 1500));
        for core in CoreKind::ALL {
            let settings = NetworkSettings { core, hidden: 8, head: 8 };
            let before = score(&Network::random(settings, &mut Random::new(1)), &unseen, 300).unwrap();
            let network = trained(core, &lessons);
            let after = score(&network, &unseen, 300).unwrap();
            assert!(after < 0.97 * before, "{core:?}: {before} before training, {after} after");
            assert_eq!(network.save(), trained(core, &lessons).save());
        }
    }

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
