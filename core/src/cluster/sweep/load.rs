//! Seeded weeks of load: six days of history and one that counts, with the forecasts along it.

use std::f64::consts::TAU;

use super::Variant;
use crate::cluster::forecasts::{Chance, Forecasts};
use crate::merge::Second;
use crate::plan::Upper;
use crate::series::Series;
use crate::time::Wall;
use crate::units::{Concurrency, RequestsPerSecond};

pub(super) const DAY: usize = 86_400;
const POISSON: Chance = Chance { dispersion: 1.0, second: 1.0 };
/// A midnight.
const START: i64 = 1_700_006_400;

/// What a week looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A day's shape, one burst at the same time each day, six a day at random (+40 to +140 % within 10 to 120 s).
    Bursty,
    /// The same, and +80 % for four minutes at every full hour.
    Cron,
    /// A steady Poisson load.
    Noise,
}

/// One week.
pub(super) struct World {
    pub(super) start_up: usize,
    /// Requests of each second of the last day.
    pub(super) counts: Vec<f64>,
    /// Per horizon and level, every ten seconds of the last day.
    uppers: Vec<(f64, [Vec<Option<Upper>>; 5])>,
}

impl World {
    pub(super) fn new(seed: u64, kind: Kind, start_up: usize, variants: &[Variant]) -> Self {
        let mut random = Random::new(seed);
        let rates = rates(&mut random, kind);
        let counts: Vec<f64> = rates.iter().map(|mean| random.poisson(*mean)).collect();
        let lead = lead_seconds(start_up);
        let mut horizons = vec![lead];
        horizons.extend(variants.iter().map(|v| lead + v.rules.look_ahead_seconds));
        horizons.sort_by(f64::total_cmp);
        horizons.dedup();
        let (history, day) = counts.split_at(6 * DAY);
        let history: Vec<f64> = history.chunks(10).map(|bin| bin.iter().sum::<f64>() / 10.0).collect();
        let uppers = forecast(&history, 10, day, &horizons);
        Self { start_up, counts: day.to_vec(), uppers }
    }

    /// A steady Poisson load; of the days before only minutes are known, as from a Prometheus.
    pub(super) fn steady(seed: u64, mean: f64, start_up: usize, horizons: &[f64]) -> Self {
        let mut random = Random::new(seed);
        let history: Vec<f64> = (0..6 * 1440).map(|_| random.poisson(60.0 * mean) / 60.0).collect();
        let counts: Vec<f64> = (0..DAY).map(|_| random.poisson(mean)).collect();
        let uppers = forecast(&history, 60, &counts, horizons);
        Self { start_up, counts, uppers }
    }

    pub(super) fn upper(&self, seconds: f64, level: prescale_models::Level, second: usize) -> Option<Upper> {
        let (_, levels) = self.uppers.iter().find(|(h, _)| *h == seconds).expect("a horizon of a variant");
        levels[level as usize][second / 10]
    }
}

/// From decision to first response: a tick, and the start.
pub(super) fn lead_seconds(start_up: usize) -> f64 {
    start_up as f64 + 1.0
}

/// `history` is the six days before, in bins of `step` seconds.
fn forecast(
    history: &[f64],
    step: i64,
    day: &[f64],
    horizons: &[f64],
) -> Vec<(f64, [Vec<Option<Upper>>; 5])> {
    let bin = |(i, mean): (usize, &f64)| {
        (Wall((START + step * i as i64) * 1000), RequestsPerSecond::new(*mean).unwrap())
    };
    let history: Vec<_> = history.iter().enumerate().map(bin).collect();
    let (choice, weights) = (prescale_models::Choice::default(), prescale_models::AllWeights::shipped());
    let (mut forecasts, mut series) = (Forecasts::new(&choice, &weights), Series::new());
    forecasts.replay(&history, &series, &weights);
    let mut uppers: Vec<(f64, [Vec<Option<Upper>>; 5])> =
        horizons.iter().map(|h| (*h, std::array::from_fn(|_| Vec::new()))).collect();
    for (second, count) in day.iter().enumerate() {
        series.push(&Second {
            unix_seconds: START + (6 * DAY + second) as i64,
            load: RequestsPerSecond::new(*count).ok(),
            concurrency: Some(Concurrency::ZERO),
            censored: false,
        });
        forecasts.follow(&series);
        if second % 10 == 0 {
            for (horizon, levels) in &mut uppers {
                for (level, values) in prescale_models::Level::ALL.into_iter().zip(levels) {
                    values.push(forecasts.upper(*horizon, level, POISSON));
                }
            }
        }
    }
    uppers
}

/// Mean load of each second of a week, requests/s.
fn rates(random: &mut Random, kind: Kind) -> Vec<f64> {
    if kind == Kind::Noise {
        return vec![400.0; 7 * DAY];
    }
    let (phase, peak) = (random.unit(), 400.0 + 400.0 * random.unit());
    let bursts = bursts(random, kind);
    let mut wander = 0.0;
    let rate = |(t, burst): (usize, &f64)| {
        if t % 10 == 0 {
            wander = 0.98 * wander + 0.02 * random.normal();
        }
        let x = (t as f64 / DAY as f64 + phase) * TAU;
        let day = (0.5 - 0.5 * libm::cos(x) + 0.12 * libm::sin(2.0 * x)).max(0.0);
        (peak * (0.15 + 0.85 * day) * (1.0 + wander) * (1.0 + burst)).max(0.0)
    };
    bursts.iter().enumerate().map(rate).collect()
}

/// By how much each second of a week is above its day's shape, as a share.
fn bursts(random: &mut Random, kind: Kind) -> Vec<f64> {
    let mut extra = vec![0.0; 7 * DAY];
    let mut add = |at: usize, ramp: usize, length: usize, size: f64| {
        for (k, second) in extra.iter_mut().skip(at).take(length).enumerate() {
            let up = (k + 1).min(length - k) as f64 / ramp as f64;
            *second += size * up.min(1.0);
        }
    };
    let daily = random.below(DAY);
    for day in 0..7 {
        add(day * DAY + daily, 60, 900, 0.8);
        for _ in 0..6 {
            let ramp = 10 + random.below(110);
            let length = 2 * ramp + 180 + random.below(600);
            add(day * DAY + random.below(DAY), ramp, length, 0.4 + random.unit());
        }
        for hour in (0..24).filter(|_| kind == Kind::Cron) {
            add(day * DAY + hour * 3600, 10, 240, 0.8);
        }
    }
    extra
}

/// xorshift64*: any generator would do, it must only be the same everywhere.
pub(in crate::cluster) struct Random(u64);

impl Random {
    pub(in crate::cluster) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, end: usize) -> usize {
        (self.unit() * end as f64) as usize
    }

    /// Twelve uniform numbers: near enough to normal within three deviations.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// Knuth's product of uniform numbers; above a mean of 100, where it is slow, the normal law.
    pub(in crate::cluster) fn poisson(&mut self, mean: f64) -> f64 {
        if mean <= 100.0 {
            let (least, mut product, mut count) = (libm::exp(-mean), self.unit(), 0.0);
            while product > least {
                product *= self.unit();
                count += 1.0;
            }
            return count;
        }
        (mean + mean.sqrt() * self.normal()).round().max(0.0)
    }
}
