//! What a night's training costs: `cargo run --release -p prescale-models --example retraining [WORKLOADS] [gru|lstm|cnn|trees]`.
//!
//! Workloads of 15 days of minutes, each with its own day, noise and timer; the cost depends on their number and length only.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::time::{Duration, Instant};

use prescale_models::nn::Random;
use prescale_models::retraining::{History, Retraining, RetrainingSettings, Step};
use prescale_models::{Grid, Target, WeightsKind};

const BINS: usize = 15 * 1440;

fn history(workload: usize) -> History {
    let mut random = Random::new(workload as u64);
    let (level, timer) = (1.0 + 50.0 * random.unit(), 5 + random.below(55));
    let rate = |i: usize| {
        let phase = (i % 1440) as f64 / 1440.0;
        let spike = if i.is_multiple_of(timer) { level } else { 0.0 };
        level * (0.2 + 4.0 * phase * (1.0 - phase)) * (0.7 + 0.6 * random.unit()) + spike
    };
    History { first: 1_000_000, rates: (0..BINS).map(rate).collect() }
}

fn main() {
    let workloads = std::env::args().nth(1).map_or(50, |it| it.parse().expect("a number of workloads"));
    let kind = std::env::args().nth(2).unwrap_or_else(|| "gru".to_owned());
    let kind = WeightsKind::of(&kind).expect("one of gru, lstm, cnn, trees");
    let maxima = [5, 15, 60].map(|steps| Target::MaxOver { steps });
    let targets = [5, 15, 60].map(|steps| Target::At { steps }).into_iter().chain(maxima).collect();
    let end = 1_000_000 + BINS as i64;
    let grid = Grid { step_seconds: 60 };
    let settings = RetrainingSettings { grid, targets, workloads, end, seed: 1 };
    let mut retraining = Retraining::new(kind.shipped(), settings);
    let (mut worked, mut longest, mut steps) = (Duration::ZERO, Duration::ZERO, 0_u64);
    loop {
        let began = Instant::now();
        let step = retraining.step();
        let took = began.elapsed();
        (worked, longest, steps) = (worked + took, longest.max(took), steps + 1);
        match step {
            Step::Wants(workload) => {
                let history = history(workload);
                let began = Instant::now();
                retraining.give(Some(history));
                worked += began.elapsed();
            }
            Step::Worked => {}
            Step::Done => break,
        }
    }
    let Some(challenge) = retraining.finish() else { return println!("too little history") };
    let seconds = worked.as_secs_f64();
    println!(
        "{}, {workloads} workloads: {seconds:.1} s of one core in {steps} steps, the longest {:.1} ms; {} updates",
        kind.name(),
        longest.as_secs_f64() * 1000.0,
        challenge.updates
    );
    println!(
        "{:.2} s per workload; admitted: {}, {:?}",
        seconds / workloads as f64,
        challenge.admitted,
        challenge.verdict
    );
}
