//! What one bin of one workload costs: run under callgrind by `cargo xtask cost`, which counts `measured` alone.
//!
//! `cargo run --release -p prescale-models --example cost -- six time` prints times instead: median and 99th percentile.

use std::time::Instant;

use prescale_models::neural::{Pooled, shipped};
use prescale_models::nn::Random;
use prescale_models::{Bin, Ensemble, Forecaster as _, Grid, Target};

/// Two days: every season is awake, and half a day beyond them.
const WARM_UP_SECONDS: i64 = 2 * 86_400 + 43_200;

/// A multiple of every stride and of the records between two verdicts of the head, so that all that comes now and then
/// has its share.
const BINS: i64 = 500;

/// Bins whose times are taken: enough for a 99th percentile.
const TIMED: i64 = 5000;

/// What `core` asks of the two grids.
const FAST: [u32; 4] = [3, 6, 12, 30];
const SLOW: [u32; 6] = [1, 2, 5, 15, 30, 60];

/// What an agent asks of its grid of 5 s.
const NODE: [u32; 6] = [1, 2, 3, 6, 12, 24];

fn at(steps: &[u32]) -> Vec<Target> {
    steps.iter().map(|&steps| Target::At { steps }).collect()
}

fn max_over(steps: &[u32]) -> Vec<Target> {
    steps.iter().map(|&steps| Target::MaxOver { steps }).collect()
}

/// The only part that is counted.
#[inline(never)]
fn measured(observe: &mut dyn FnMut(Bin), bins: &[Bin]) {
    for bin in bins {
        observe(*bin);
    }
}

/// The same bin by bin, with a clock.
#[allow(clippy::print_stdout, reason = "the times are what was asked for")]
fn timed(which: &str, observe: &mut dyn FnMut(Bin), bins: &[Bin]) {
    let mut times: Vec<f64> = bins
        .iter()
        .map(|bin| {
            let begin = Instant::now();
            observe(*bin);
            begin.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_unstable_by(f64::total_cmp);
    let at = |share: usize| times[times.len() * share / 100];
    println!("{which}: median {:.1} µs, p99 {:.1} µs a bin, over {} bins", at(50), at(99), times.len());
}

fn main() {
    let which = std::env::args().nth(1).unwrap_or_default();
    let (minute, fast, node) =
        (Grid { step_seconds: 60 }, Grid { step_seconds: 10 }, Grid { step_seconds: 5 });
    let (grid, mut observe): (Grid, Box<dyn FnMut(Bin)>) = match which.as_str() {
        "minute" => {
            let mut ensemble = Ensemble::cluster(minute, &[max_over(&SLOW[1..]), at(&SLOW)].concat());
            (minute, Box::new(move |bin| ensemble.observe(bin)))
        }
        "six" => {
            let mut ensemble = Ensemble::cluster(minute, &at(&SLOW));
            (minute, Box::new(move |bin| ensemble.observe(bin)))
        }
        "ten-seconds" => {
            let mut ensemble = Ensemble::cluster(fast, &max_over(&FAST));
            (fast, Box::new(move |bin| ensemble.observe(bin)))
        }
        "node" => {
            let mut ensemble = Ensemble::node(node, &[at(&NODE), max_over(&[12, 24])].concat());
            (node, Box::new(move |bin| ensemble.observe(bin)))
        }
        "gru" => {
            let mut pooled = Pooled::new(shipped(), minute, &at(&SLOW));
            (minute, Box::new(move |bin| pooled.observe(bin)))
        }
        other => panic!("no {other:?}: minute, six, ten-seconds, node or gru"),
    };
    let mut random = Random::new(1);
    // A daily wave with bursts and noise, so that no branch is always the same.
    let step = i64::from(grid.step_seconds);
    let warm_up = WARM_UP_SECONDS / step;
    let bins: Vec<Bin> = (0..warm_up + TIMED)
        .map(|index| {
            let phase = (index * step % 86_400) as f64 / 86_400.0;
            let burst = if random.unit() < 0.01 { 50.0 } else { 0.0 };
            Bin::new(index, 20.0 + 200.0 * phase * (1.0 - phase) + 10.0 * random.unit() + burst)
        })
        .collect();
    let (before, counted) = bins.split_at(warm_up as usize);
    before.iter().for_each(|bin| observe(*bin));
    if std::env::args().nth(2).is_some_and(|what| what == "time") {
        timed(&which, &mut observe, counted);
    } else {
        measured(&mut observe, &counted[..BINS as usize]);
    }
}
