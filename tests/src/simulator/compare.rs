//! Prescale beside its rivals: every policy on the same loads, several shapes and seeds, summed up in one table.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;

use super::run::{Policy, Scenario, run};
use super::{Outcome, Shape};

/// What one policy did on one shape, the mean over the seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The load's shape.
    pub shape: &'static str,
    /// Who scaled.
    pub policy: String,
    /// Share of requests over the objective or failed.
    pub slow_share: f64,
    /// Pod-hours per hour: the mean number of pods that existed.
    pub mean_pods: f64,
    /// Changes of `spec.replicas` per hour.
    pub changes_per_hour: f64,
}

/// The hours in which a shape shows itself: a morning and both bursts of a day, a climb, some bursts, the change.
pub fn scenario(seed: u64, shape: Shape) -> Scenario {
    let (from, to) = match shape {
        Shape::Day => (7, 17),
        Shape::Diurnal => (5, 13),
        Shape::Bursts => (8, 20),
        Shape::Step | Shape::Ramp => (10, 13),
        Shape::Steady => (8, 14),
    };
    Scenario { shape, start_seconds: from * 3600, seconds: (to - from) * 3600, ..Scenario::day(seed) }
}

/// Runs all policies on all of `shapes` with each of `seeds`, on every core; rows by shape, then policy.
pub fn compare(shapes: &[Shape], seeds: &[u64], planned_rps: f64) -> Vec<Row> {
    let worlds: Vec<(Shape, Scenario)> = shapes
        .iter()
        .flat_map(|&shape| {
            seeds
                .iter()
                .map(move |&seed| (shape, Scenario { rps_per_pod: planned_rps, ..scenario(seed, shape) }))
        })
        .collect();
    let outcomes = on_every_core(&worlds, |(_, scenario)| policies(scenario));
    let mut rows = Vec::new();
    for shape in shapes {
        let of_shape: Vec<&(Scenario, Vec<Outcome>)> = worlds
            .iter()
            .zip(&outcomes)
            .filter(|((s, _), _)| s == shape)
            .map(|(_, outcome)| outcome)
            .collect();
        let policies = of_shape.first().map_or(0, |(_, runs)| runs.len());
        rows.extend((0..policies).map(|policy| row(*shape, policy, &of_shape)));
    }
    rows
}

/// Prescale first; a fixed number last, because it is Prescale's mean.
fn policies(scenario: &Scenario) -> (Scenario, Vec<Outcome>) {
    let mut runs = vec![run(scenario, Policy::Prescale)];
    for policy in [Policy::Hpa(0.5), Policy::Hpa(0.65), Policy::Hpa(0.8), Policy::Linear, Policy::Oracle] {
        runs.push(run(scenario, policy));
    }
    let mean = (runs[0].pod_seconds / scenario.seconds as f64).round() as u32;
    runs.push(run(scenario, Policy::Static(mean.max(1))));
    (scenario.clone(), runs)
}

fn row(shape: Shape, policy: usize, worlds: &[&(Scenario, Vec<Outcome>)]) -> Row {
    let mean = |of: &dyn Fn(&Scenario, &Outcome) -> f64| {
        worlds.iter().map(|(scenario, runs)| of(scenario, &runs[policy])).sum::<f64>() / worlds.len() as f64
    };
    let name = &worlds[0].1[policy].policy;
    Row {
        shape: shape.name(),
        policy: if name.starts_with("static") { "static".to_owned() } else { name.clone() },
        slow_share: mean(&|_, o| o.slow_share),
        mean_pods: mean(&|s, o| o.pod_seconds / s.seconds as f64),
        changes_per_hour: mean(&|s, o| o.scale_events as f64 * 3600.0 / s.seconds as f64),
    }
}

/// `work` on each item, results in the items' order.
fn on_every_core<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let worker = || {
        let mut done = Vec::new();
        while let Some((index, item)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            items.get(index).map(|item| (index, item))
        } {
            done.push((index, work(item)));
        }
        done
    };
    let mut all: Vec<(usize, R)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores.min(items.len())).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|w| w.join().expect("a simulation does not panic")).collect()
    });
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, result)| result).collect()
}

/// The rows as a Markdown table.
pub fn table(rows: &[Row]) -> String {
    let mut out = String::from("| load | policy | slow share | mean pods | changes an hour |\n");
    out.push_str("| --- | --- | --- | --- | --- |\n");
    for r in rows {
        out.push_str(&format!(
            "| {} | {} | {:.3} % | {:.2} | {:.1} |\n",
            r.shape,
            r.policy,
            r.slow_share * 100.0,
            r.mean_pods,
            r.changes_per_hour
        ));
    }
    out
}
