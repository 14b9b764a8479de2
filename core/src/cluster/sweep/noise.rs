//! Chance alone: how often the plan scales up on a steady Poisson load, and what keeping still costs.
//!
//! A day at each load, its first half hour left aside, planned for as many pods as `PODS` says and with the forecast's
//! upper quantile at, and around, a whole number of them: that is where a plan wavers.

use std::collections::BTreeMap;

use prescale_models::Level;

use super::Variant;
use super::load::{DAY, World, lead_seconds};
use super::policies::{Steady, steady};
use crate::plan::Rules;

/// Requests/s over all pods.
const LOADS: [f64; 6] = [1.0, 5.0, 20.0, 75.0, 200.0, 600.0];
const PODS: [f64; 4] = [1.0, 3.0, 10.0, 20.0];
/// Requests/s that a pod is planned for; cells outside are left out.
const PER_POD: std::ops::RangeInclusive<f64> = 1.0..=40.0;
/// How far so many pods' capacity lies above the median upper quantile, in deviations of the mean over ten seconds.
const OFF: [f64; 5] = [-1.0, -0.5, 0.0, 0.5, 1.0];
const START_UP: usize = 30;
/// Days per load.
const SEEDS: u64 = 2;

/// A cell of the table: a load and how many pods it is planned for.
struct Cell {
    load: f64,
    pods: f64,
    days: Vec<Steady>,
}

fn worlds(seeds: u64) -> Vec<(f64, World)> {
    let lead = lead_seconds(START_UP);
    let horizons = [lead, lead + Rules::default().look_ahead_seconds];
    let seeded =
        |load: f64| (1..=seeds).map(move |seed| (load, World::steady(seed, load, START_UP, &horizons)));
    LOADS.into_iter().flat_map(seeded).collect()
}

fn median_upper(world: &World) -> f64 {
    let at = |i: usize| world.upper(lead_seconds(START_UP), Level::P95, i * 10);
    let mut uppers: Vec<f64> = (180..DAY / 10).filter_map(|i| Some(at(i)?.load.get())).collect();
    uppers.sort_by(f64::total_cmp);
    uppers[uppers.len() / 2]
}

fn cells(worlds: &[(f64, World)], variant: &Variant) -> Vec<Cell> {
    let mut cells = Vec::new();
    for pods in PODS {
        for (load, world) in worlds {
            let median = median_upper(world);
            if !PER_POD.contains(&(median / pods)) {
                continue;
            }
            let day = |off: &f64| {
                let capacity = median + off * (load / 10.0).sqrt();
                steady(world, &Variant { stated_rps: capacity / pods, ..variant.clone() })
            };
            cells.push(Cell { load: *load, pods, days: OFF.iter().map(day).collect() });
        }
    }
    cells
}

#[test]
#[ignore = "a sweep of minutes, not a check"]
fn noise() {
    let worlds = worlds(SEEDS);
    println!(
        "| grow, leave, reactive, burst sigmas | worst day | days over 1 | ups a day | pods | by reason |"
    );
    for (grow, leave, reactive, burst) in [
        (0.0, 0.0, 3.0, 4.5),
        (1.0, 0.5, 4.5, 4.5),
        (1.0, 0.5, 4.5, 5.0),
        (1.5, 0.5, 4.5, 5.0),
        (1.0, 1.0, 4.5, 5.0),
    ] {
        let mut variant = Variant::new("noise");
        variant.rules.grow_sigmas = grow;
        variant.rules.leave_sigmas = leave;
        variant.rules.reactive_sigmas = reactive;
        variant.rules.burst_sigmas = burst;
        let cells = cells(&worlds, &variant);
        let days = || cells.iter().flat_map(|c| c.days.iter().map(move |d| (c, d)));
        let n = days().count() as f64;
        let mut reasons = BTreeMap::new();
        for (reason, times) in days().flat_map(|(_, d)| &d.reasons) {
            *reasons.entry(*reason).or_insert(0) += times;
        }
        let worst = days().max_by_key(|(_, d)| d.ups).map(|(c, d)| (c.load, c.pods, d.ups));
        let over = days().filter(|(_, d)| d.ups > 1).count();
        let ups = days().map(|(_, d)| f64::from(d.ups)).sum::<f64>() / n;
        let pods = days().map(|(c, d)| d.mean_pods / c.pods).sum::<f64>() / n;
        println!(
            "| {grow} {leave} {reactive} {burst} | {worst:?} | {over} of {n} | {ups:.3} | {pods:.4} | {reasons:?} |"
        );
    }
}
