//! Fits one network to the pooled history of many workloads.
//!
//! Pure: the caller owns the clock, says how far along training is, and may stop after any update.

use std::borrow::Cow;

use crate::forecast::{Grid, LEVELS, Target};
use crate::nn::{Adam, AdamSettings, Parameters, Random, loss};

use super::core::{CoreKind, Tape};
use super::frame::{INPUTS, View};
use super::head::Scratch;
pub use super::lesson::Lesson;
use super::lesson::STRIDE;
use super::network::{Network, NetworkSettings};

/// Steps that the gradient flows back through: an hour of minutes.
pub const CHUNK: usize = 60;

/// A stream reads this many chunks of one workload, then jumps to another.
const CHUNKS_PER_VISIT: usize = 8;

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
    lessons: Cow<'a, [Lesson]>,
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
    /// Of the update under way: streams that have been read, the sum of their losses, and how many those are.
    read: usize,
    sum: f64,
    count: usize,
}

impl<'a> Training<'a> {
    /// Starts from `network`. Workloads shorter than two chunks are left out.
    ///
    /// # Panics
    /// If none is long enough.
    pub fn new(
        lessons: impl Into<Cow<'a, [Lesson]>>,
        network: Network<f32>,
        settings: TrainingSettings,
    ) -> Self {
        let lessons = lessons.into();
        let adam = AdamSettings { weight_decay: settings.weight_decay, ..AdamSettings::default() };
        let mut training = Self {
            settings,
            gradient: Network::zeros(network.settings()),
            adam: Adam::new(network.count(), adam),
            random: Random::new(settings.seed),
            streams: Vec::new(),
            scratch: network.head.scratch(),
            dstates: Vec::new(),
            shares: shares(&lessons),
            lessons,
            network,
            read: 0,
            sum: 0.0,
            count: 0,
        };
        for _ in 0..settings.batch {
            let stream = Stream { lesson: 0, at: 0, left: 0, tape: training.network.core.tape() };
            training.streams.push(stream);
        }
        training
    }

    /// Goes on with other lessons, as if it had jumped there.
    ///
    /// # Panics
    /// If none is long enough.
    pub(super) fn go_on_with(&mut self, lessons: Vec<Lesson>) {
        self.shares = shares(&lessons);
        self.lessons = Cow::Owned(lessons);
        self.streams.iter_mut().for_each(|stream| stream.left = 0);
    }

    /// One update; `progress` in 0..=1 sets the learning rate. Returns the mean loss of its forecasts.
    pub fn update(&mut self, progress: f64) -> f64 {
        loop {
            if let Some(loss) = self.work(progress) {
                return loss;
            }
        }
    }

    /// A part of an update, one stream's chunk: a few milliseconds at most. Returns the mean loss of the update's
    /// forecasts when that was its last part.
    pub fn work(&mut self, progress: f64) -> Option<f64> {
        if self.read == 0 {
            self.gradient.fill(0.0);
            (self.sum, self.count) = (0.0, 0);
        }
        let mut streams = std::mem::take(&mut self.streams);
        let (sum, count) = self.read(&mut streams[self.read]);
        self.streams = streams;
        self.sum += sum;
        self.count += count;
        self.read += 1;
        if self.read < self.streams.len() {
            return None;
        }
        self.read = 0;
        if self.count == 0 {
            return Some(f64::NAN);
        }
        let share = 1.0 / self.count as f32;
        self.gradient.visit_mut("", &mut |_, _, values| values.iter_mut().for_each(|g| *g *= share));
        let cosine = 0.5 * (1.0 + libm::cos(std::f64::consts::PI * progress.clamp(0.0, 1.0)));
        let rate = self.settings.learning_rate * (0.02 + 0.98 * cosine);
        self.adam.step(&mut self.network, &self.gradient, rate);
        Some(self.sum / self.count as f64)
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

fn shares(lessons: &[Lesson]) -> Vec<f64> {
    let mut total = 0.0;
    let shares = lessons.iter().map(|lesson| {
        // Between one voice per workload and one per bin: a short history repeats itself sooner.
        total += if lesson.len() >= 2 * CHUNK { (lesson.len() as f64).sqrt() } else { 0.0 };
        total
    });
    let shares: Vec<f64> = shares.collect();
    assert!(total > 0.0, "no history of at least {} bins", 2 * CHUNK);
    shares
}

/// The weighted mean pinball loss over the levels, and its gradient by the quantiles.
pub(super) fn pinball(view: &View, truth: f32, weight: f32, quantiles: [f32; 5]) -> (f32, [f32; 5]) {
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
    use super::super::testing::{GRID, TARGETS, rates};
    use super::*;

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
}
