//! A series as a network sees it: normalised inputs per bin, an outlook per target, each from the past alone.

use crate::expert::Bin;
use crate::forecast::{Grid, Target};
use crate::scale::LocalScale;
use crate::state::state;

use super::candidates::{CANDIDATES, Outlook, Sources, Track};

/// What the recurrent part reads per bin.
pub const INPUTS: usize = 26;

/// What the head reads per target, beside the recurrent state.
pub const FEATURES: usize = 3 * CANDIDATES + 5 + 5 + 6;

/// What a network knows of one target at one origin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// The head's inputs.
    pub features: [f32; FEATURES],
    /// The candidates, in scales from the base.
    pub candidates: [f32; CANDIDATES],
    /// ln of the candidates' long and recent errors in scales; both +∞ where a candidate isn't ready.
    pub errors: [[f32; CANDIDATES]; 2],
    /// What the quantiles' distances are at first: softplus⁻¹ of those of the base's residuals.
    pub spread: [f32; 5],
    /// Counts per bin that the values above are relative to.
    pub base: f64,
    /// Counts per bin that make one scale.
    pub scale: f64,
}

impl View {
    /// Nothing known.
    pub const EMPTY: Self = Self {
        features: [0.0; FEATURES],
        candidates: [0.0; CANDIDATES],
        errors: [[0.0; CANDIDATES]; 2],
        spread: [0.0; 5],
        base: 0.0,
        scale: 1.0,
    };
}

/// A series' state, moved on bin by bin.
#[derive(Clone, Debug)]
pub struct Frame {
    grid: Grid,
    targets: Vec<Target>,
    sources: Sources,
    tracks: Vec<Track>,
    movement: LocalScale,
    before: f64,
    newest: Option<i64>,
    age: u32,
    inputs: [f32; INPUTS],
}
state!(Frame { sources, tracks, movement, before, newest, age } fixed { grid, targets, inputs });

impl Frame {
    /// For these targets, before the first bin.
    pub fn new(grid: Grid, targets: &[Target]) -> Self {
        Self {
            grid,
            targets: targets.to_vec(),
            sources: Sources::new(grid),
            tracks: targets.iter().map(|t| Track::new(*t, grid)).collect(),
            movement: LocalScale::new(Grid { step_seconds: 1 }),
            before: 0.0,
            newest: None,
            age: 0,
            inputs: [0.0; INPUTS],
        }
    }

    /// Takes the next bin; returns whether there is anything to forecast from yet.
    pub fn observe(&mut self, bin: Bin) -> bool {
        let expected = self.sources.five_minutes.value();
        // Files and agents speak of requests/s; a count knows how noisy it must be.
        let seconds = f64::from(self.grid.step_seconds);
        let known = bin.learnable(expected / seconds).map(|rate| rate * seconds);
        if self.newest.is_none() && known.is_none() {
            return false;
        }
        if let Some(newest) = self.newest {
            // A gap is filled with what was expected, as far as anything looks back: two days at most.
            let first = (newest + 1).max(bin.index - 2 * self.grid.bins_per_day() as i64);
            for index in first..bin.index {
                self.sources.day.add(index, expected);
            }
        }
        match known {
            Some(value) => {
                self.sources.add(bin.index, value);
                // The truth of a censored bin isn't known: nothing is judged by it.
                if !bin.censored {
                    for track in &mut self.tracks {
                        track.settle(bin.index, &self.sources.day);
                    }
                }
                self.movement.observe(Bin::new(bin.index, value));
            }
            None => self.sources.day.add(bin.index, expected),
        }
        self.newest = Some(bin.index);
        self.age = self.age.saturating_add(1);
        self.read(bin.index, known);
        self.before = known.unwrap_or(expected);
        true
    }

    /// The recurrent part's inputs at the newest bin.
    pub fn inputs(&self) -> &[f32; INPUTS] {
        &self.inputs
    }

    /// What the candidates say of target number `target` at the newest bin. To be asked once a bin: the answer is kept
    /// until it is due.
    ///
    /// # Panics
    /// If there is no such target.
    pub fn look(&mut self, target: usize) -> Outlook {
        self.tracks[target].look(self.newest.unwrap_or(0), &self.sources, self.movement.value())
    }

    /// The same as a network reads it.
    ///
    /// # Panics
    /// If there is no such target.
    pub fn view(&self, target: usize, outlook: &Outlook) -> View {
        let (origin, movement) = (self.newest.unwrap_or(0), self.movement.value());
        self::view(outlook, self.targets[target], origin, self.grid, movement)
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.sources.heap_bytes()
            + self.tracks.iter().map(|t| t.heap_bytes() + size_of::<Track>()).sum::<usize>()
    }

    fn read(&mut self, index: i64, known: Option<f64>) {
        let sources = &self.sources;
        let (mean, scale) = (sources.hour.value(), self.movement.value());
        let relative = |value: f64| squash((value - mean) / scale);
        let value = known.unwrap_or(sources.five_minutes.value());
        let yesterday = sources.day.at(index - self.grid.bins_per_day() as i64).unwrap_or(value);
        let (hourly, daily) = (&sources.hourly, &sources.daily);
        let usual = if hourly.ready() { hourly.at(index) } else { mean };
        let soon = index + i64::from((1800 / self.grid.step_seconds).max(1));
        let rise = if daily.ready() { daily.at(soon) - daily.at(index) } else { 0.0 };
        let seconds = f64::from(self.grid.step_seconds);
        let time = index as f64 * seconds;
        let days = f64::from(self.age) * seconds / 86_400.0;
        let scalars = [
            relative(value),
            squash((value - self.before) / scale),
            relative(sources.pair.value()),
            relative(sources.five_minutes.value()),
            relative(sources.twenty_minutes.value()),
            relative(sources.six_hours.value()),
            relative(sources.trend.ahead(1)),
            squash((value - yesterday) / scale),
            squash(rise / scale),
            relative(usual),
            squash((value - usual) / scale),
            libm::log1p(mean) / 5.0 - 1.0,
            libm::log(scale / (mean + 1.0)) / 2.0,
            f64::from(u8::from(value == 0.0)),
            f64::from(u8::from(known.is_none())),
            libm::log(seconds / 60.0) / 2.0,
            libm::log1p(days) / 2.0,
            squash((value - yesterday) / (mean + 1.0)),
        ];
        let phases = [86_400.0, 3600.0, 900.0, 600.0].map(|period| phase(time, period));
        let all = scalars.into_iter().chain(phases.into_iter().flatten());
        for (input, value) in self.inputs.iter_mut().zip(all) {
            *input = value as f32;
        }
    }
}

/// Grows linearly near 0 and logarithmically far away, for values of any size.
fn squash(value: f64) -> f64 {
    libm::asinh(value)
}

/// Sine and cosine of the phase in a period.
fn phase(time: f64, period: f64) -> [f64; 2] {
    let turn = 2.0 * std::f64::consts::PI * (time / period - (time / period).floor());
    [libm::sin(turn), libm::cos(turn)]
}

fn view(outlook: &Outlook, target: Target, origin: i64, grid: Grid, movement: f64) -> View {
    let Outlook { base, scale, candidates, recent, long, ready, residuals } = *outlook;
    let mut view = View { base, scale, ..View::EMPTY };
    // A twentieth of a scale: below it, errors are as good as none.
    let logarithms = |errors: [f64; CANDIDATES]| errors.map(|e| libm::log(e / scale + 0.05) as f32);
    let (recent, long) = (logarithms(recent), logarithms(long));
    for (k, candidate) in candidates.into_iter().enumerate() {
        view.candidates[k] = ((candidate - base) / scale) as f32;
        let is_ready = ready >> k & 1 == 1;
        view.errors[0][k] = if is_ready { long[k] } else { f32::INFINITY };
        view.errors[1][k] = if is_ready { recent[k] } else { f32::INFINITY };
    }
    for l in 1..5 {
        // softplus⁻¹(d) = d + ln(1 − e⁻ᵈ). Equal quantiles still start a little apart, or they could never part.
        let distance = (residuals[l] - residuals[l - 1]).max(0.02);
        let raw = (distance + libm::log(-libm::expm1(-distance))) as f32;
        // Quantiles are built outwards from the median, which is the second.
        view.spread[if l == 1 { 0 } else { l }] = raw;
    }
    let seconds = f64::from(grid.step_seconds);
    let steps = f64::from(target.steps());
    let due = (origin + i64::from(target.steps())) as f64 * seconds;
    let is_max = matches!(target, Target::MaxOver { .. });
    let scalars = [
        libm::log(steps * seconds / 600.0) / 2.0,
        libm::log(steps) / 3.0,
        f64::from(u8::from(is_max)),
        libm::log1p(scale) / 3.0 - 1.0,
        libm::log(scale / movement),
    ];
    let phases = [3600.0, 900.0, 600.0].map(|period| phase(due, period));
    let all = (view.candidates.iter().map(|c| squash(f64::from(*c))))
        .chain(long.map(f64::from))
        .chain(recent.map(f64::from))
        .chain(residuals.map(squash))
        .chain(scalars)
        .chain(phases.into_iter().flatten());
    for (feature, value) in view.features.iter_mut().zip(all) {
        *feature = value as f32;
    }
    view
}
