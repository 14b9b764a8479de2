//! Fits the residual network to the pooled history of many workloads. Pure, as [`crate::neural::training`].

use crate::expert::{Bin, Expert};
use crate::forecast::{Grid, Target};
use crate::nn::{Adam, AdamSettings, Parameters, Random};

use super::frame::{Frame, INPUTS, View};
use super::network::{HIDDEN, Network, Scratch};

/// Steps that the gradient flows back through, and as many before them that fill the state.
const CHUNK: usize = 60;

/// One step in this many is asked for a forecast, as in [`crate::neural::training`].
const STRIDE: usize = 7;

/// Chunks per update.
const BATCH: usize = 16;

/// Start of the learning rate, which falls along a half cosine: those of the pooled network.
const LEARNING_RATE: f64 = 3e-3;
const WEIGHT_DECAY: f64 = 0.01;

/// One workload's residuals, and what became of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Lesson {
    targets: usize,
    inputs: Vec<f32>,
    /// Per target of each [`STRIDE`]th bin: what the head reads; the residual that came, in local scales, where it is known;
    /// a local scale in the workload's usual residual.
    rows: Vec<(View, Option<f32>, f32)>,
}

impl Lesson {
    /// Reads a history in requests/s from bin `first` on; nothing later than its last bin is looked at. The lesson begins
    /// with Prophet's first fit.
    pub fn new(grid: Grid, targets: &[Target], first: i64, rates: &[f64]) -> Self {
        let mut frame = Frame::new(grid);
        let mut lesson = Self { targets: targets.len(), inputs: Vec::new(), rows: Vec::new() };
        let mut residuals = Vec::new();
        let mut curves = vec![0.0; targets.len()];
        for (t, rate) in rates.iter().enumerate() {
            if !frame.observe(Bin::new(first + t as i64, *rate).sane()) {
                continue;
            }
            let asked = (lesson.inputs.len() / INPUTS).is_multiple_of(STRIDE);
            lesson.inputs.extend_from_slice(frame.inputs());
            if !asked {
                continue;
            }
            frame.prophet().predict(targets, &mut curves);
            let scale = frame.scale();
            for (target, curve) in targets.iter().zip(&curves) {
                let residual = outcome(*target, t, rates).map(|truth| truth - curve);
                residuals.extend(residual.map(f64::abs));
                lesson.rows.push((frame.view(*target), residual.map(|r| (r / scale) as f32), scale as f32));
            }
        }
        // Each workload weighs the same, whatever its size.
        let usual = (residuals.iter().sum::<f64>() / residuals.len().max(1) as f64).max(1e-6) as f32;
        lesson.rows.iter_mut().for_each(|row| row.2 /= usual);
        lesson
    }

    /// Bins with a residual.
    pub fn len(&self) -> usize {
        self.inputs.len() / INPUTS
    }

    /// Whether there is nothing to learn from.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }
}

/// What came of `target` from bin `t`, if it is known.
fn outcome(target: Target, t: usize, rates: &[f64]) -> Option<f64> {
    let ahead = rates.get(t + 1..=t + target.steps() as usize)?;
    let value = match target {
        Target::At { .. } => *ahead.last()?,
        Target::MaxOver { .. } => {
            ahead.iter().fold(0.0, |a: f64, b| if *b > a || b.is_nan() { *b } else { a })
        }
    };
    value.is_finite().then_some(value)
}

/// The network's mean absolute error from bin `from` of a lesson on, in that of Prophet's curve alone; its state is carried on
/// from the first bin. `None` where no outcome is known.
pub fn score(network: &Network<f32>, lesson: &Lesson, from: usize) -> Option<f64> {
    let mut state = [0.0; 2 * HIDDEN];
    let (mut inner, mut scratch) = (vec![0.0; network.core.scratch()], Scratch::new());
    let (mut own, mut curve) = (0.0, 0.0);
    for t in 0..lesson.len() {
        network.core.step(&lesson.inputs[t * INPUTS..][..INPUTS], &mut state, &mut inner);
        if t < from || t % STRIDE != 0 {
            continue;
        }
        for (view, truth, weight) in &lesson.rows[t / STRIDE * lesson.targets..][..lesson.targets] {
            let Some(truth) = truth else { continue };
            let residual = network.residual(&state[..HIDDEN], view, &mut scratch);
            own += f64::from((residual - truth).abs() * weight);
            curve += f64::from(truth.abs() * weight);
        }
    }
    (curve > 0.0).then(|| own / curve)
}

/// A training in progress.
pub struct Training<'a> {
    /// Those that are long enough.
    lessons: Vec<&'a Lesson>,
    network: Network<f32>,
    gradient: Network<f32>,
    adam: Adam<f32>,
    random: Random,
    scratch: Scratch<f32>,
}

impl<'a> Training<'a> {
    /// Starts from an untrained network.
    ///
    /// # Panics
    /// If no lesson has two chunks.
    pub fn new(lessons: &'a [Lesson], seed: u64) -> Self {
        let lessons: Vec<&Lesson> = lessons.iter().filter(|lesson| lesson.len() >= 2 * CHUNK).collect();
        assert!(!lessons.is_empty(), "no history of at least {} residuals", 2 * CHUNK);
        let mut random = Random::new(seed);
        let network = Network::random(&mut random);
        let settings = AdamSettings { weight_decay: WEIGHT_DECAY, ..AdamSettings::default() };
        let adam = Adam::new(network.count(), settings);
        Self { lessons, gradient: Network::zeros(), network, adam, random, scratch: Scratch::new() }
    }

    /// One update; `progress` in 0..=1 sets the learning rate. Returns the mean loss of its forecasts.
    pub fn update(&mut self, progress: f64) -> f64 {
        self.gradient.fill(0.0);
        let (mut sum, mut count) = (0.0, 0);
        for _ in 0..BATCH {
            let lesson = self.lessons[self.random.below(self.lessons.len())];
            let at = self.random.below(lesson.len() - 2 * CHUNK + 1) + CHUNK;
            let (s, c) = self.read(lesson, at);
            sum += s;
            count += c;
        }
        let share = 1.0 / count.max(1) as f32;
        self.gradient.visit_mut("", &mut |_, _, values| values.iter_mut().for_each(|g| *g *= share));
        let cosine = 0.5 * (1.0 + libm::cos(std::f64::consts::PI * progress.clamp(0.0, 1.0)));
        self.adam.step(&mut self.network, &self.gradient, LEARNING_RATE * (0.02 + 0.98 * cosine));
        sum / f64::from(count.max(1))
    }

    /// The network as trained so far.
    pub fn network(&self) -> &Network<f32> {
        &self.network
    }

    fn read(&mut self, lesson: &Lesson, at: usize) -> (f64, u32) {
        let network = &self.network;
        let xs = |from: usize| &lesson.inputs[from * INPUTS..][..CHUNK * INPUTS];
        let mut tape = Network::tape();
        network.core.forward(xs(at - CHUNK), &mut tape);
        network.core.forward(xs(at), &mut tape);
        let mut dstates = vec![0.0; CHUNK * HIDDEN];
        let (mut sum, mut count) = (0.0, 0);
        for step in (at.next_multiple_of(STRIDE) - at..CHUNK).step_by(STRIDE) {
            for row in &lesson.rows[(at + step) / STRIDE * lesson.targets..][..lesson.targets] {
                let (view, Some(truth), weight) = row else { continue };
                let residual = network.residual(tape.state(step + 1), view, &mut self.scratch);
                // Huber's loss (Annals of Mathematical Statistics 35, 1964): squared within a usual residual, for it is the
                // squared error that is scored, and linear beyond, or one burst would be the lesson.
                let error = (residual - truth) * weight;
                let slope = error.clamp(-1.0, 1.0);
                sum += f64::from(slope * (error - 0.5 * slope));
                count += 1;
                let dstate = &mut dstates[step * HIDDEN..][..HIDDEN];
                network.backward(view, slope * weight, &self.scratch, &mut self.gradient, dstate);
            }
        }
        network.core.backward(xs(at), &mut tape, &mut dstates, &mut self.gradient.core, None);
        (sum, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid { step_seconds: 600 };
    const TARGETS: [Target; 2] = [Target::At { steps: 3 }, Target::MaxOver { steps: 6 }];

    /// A daily wave under a slow walk, which a curve can't know and its residuals do.
    fn rates(seed: u64) -> Vec<f64> {
        let (mut random, mut walk) = (Random::new(seed), 0.0);
        (0..10 * 144)
            .map(|i| {
                walk = 0.98 * walk + 8.0 * (random.unit() - 0.5);
                200.0 - 80.0 * libm::cos(std::f64::consts::TAU * f64::from(i % 144) / 144.0) + walk
            })
            .collect()
    }

    #[test]
    fn training_helps_and_a_seed_gives_the_same_bytes() {
        let lessons: Vec<Lesson> = (0..2).map(|seed| Lesson::new(GRID, &TARGETS, 0, &rates(seed))).collect();
        let train = || {
            let mut training = Training::new(&lessons, 1);
            let losses: Vec<f64> = (0..60).map(|i| training.update(f64::from(i) / 60.0)).collect();
            (losses, training.network().save())
        };
        let (losses, bytes) = train();
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        let (first, last) = (mean(&losses[..10]), mean(&losses[50..]));
        assert!(last < 0.8 * first, "{first} at first, {last} at last");
        assert_eq!(bytes, train().1);
        let (later, trained) = (Lesson::new(GRID, &TARGETS, 0, &rates(7)), Network::load(&bytes).unwrap());
        let scores =
            [&Network::random(&mut Random::new(1)), &trained].map(|it| score(it, &later, 500).unwrap());
        assert!(scores[1] < scores[0] && scores[1] < 0.9, "on what it never saw: {scores:?}");
        assert_eq!(score(&trained, &later, later.len()), None);
    }

    #[test]
    fn a_lesson_ends_with_its_history() {
        let rates = rates(3);
        let lesson = Lesson::new(GRID, &TARGETS, 0, &rates);
        let rows = lesson.rows.len();
        assert_eq!(lesson.len(), rates.len() - 2 * 144, "it begins with Prophet's first fit");
        assert!(lesson.rows[..4].iter().all(|row| row.1.is_some()));
        assert!(lesson.rows[rows - 2..].iter().any(|row| row.1.is_none()), "its outcome lies beyond the end");
    }
}
