//! What the runs come to: the JSON line, the table, and who won, in a sentence that is computed.

use std::fmt::Write;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::load::Totals;
use super::machine::BUSY_LIMIT;
use super::options::Policy;

/// One finished run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Who decided.
    pub policy: Policy,
    /// The load generator's account.
    pub totals: Totals,
    /// Real seconds of all replicas from process start to exit.
    pub replica_seconds: f64,
    /// Over the time of the run.
    pub mean_replicas: f64,
    /// Writes that changed the number of replicas.
    pub scale_events: u64,
    /// Requests that the kernel saw start.
    pub counted: u64,
    /// From the aggregator's start to its first forecast, real seconds; its own in Prescale's run only.
    pub first_forecast_s: Option<f64>,
    /// CPU time of the agent, seconds.
    pub agent_cpu_s: f64,
    /// Peak of the agent's memory less inactive file pages, bytes.
    pub agent_memory_bytes: u64,
    /// Share of the machine's CPU time in use: the mean over the run and the busiest second.
    pub busy: (f64, f64),
}

/// The JSON line; docs/demo.md explains each field.
#[derive(Debug, Serialize)]
pub struct Line {
    seed: u64,
    compression: f64,
    requests_sent: u64,
    requests_counted: u64,
    requests_aborted: u64,
    runs: Vec<LineRun>,
    first_forecast_s: Option<f64>,
    agent_cpu_s: f64,
    agent_memory_bytes: u64,
}

#[derive(Debug, Serialize)]
struct LineRun {
    policy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<f64>,
    slow_share: f64,
    p99_ms: f64,
    replica_seconds: f64,
    scale_events: u64,
}

impl Line {
    /// Of the runs so far.
    pub fn new(seed: u64, compression: f64, runs: &[Run]) -> Self {
        let sum = |of: fn(&Run) -> u64| runs.iter().map(of).sum();
        Self {
            seed,
            compression,
            requests_sent: sum(|run| run.totals.sent),
            requests_counted: sum(|run| run.counted),
            requests_aborted: sum(|run| run.totals.aborted),
            runs: runs.iter().map(LineRun::new).collect(),
            first_forecast_s: runs.iter().find_map(|run| run.first_forecast_s).map(|s| rounded(s, 3)),
            agent_cpu_s: rounded(runs.iter().map(|run| run.agent_cpu_s).sum(), 3),
            agent_memory_bytes: runs.iter().map(|run| run.agent_memory_bytes).max().unwrap_or(0),
        }
    }

    /// As text.
    ///
    /// # Errors
    /// Never with finite numbers.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

impl LineRun {
    fn new(run: &Run) -> Self {
        let (policy, target) = match run.policy {
            Policy::Prescale => ("prescale", None),
            Policy::Hpa(percent) => ("hpa", Some(f64::from(percent) / 100.0)),
            Policy::Static => ("static", None),
        };
        Self {
            policy,
            target,
            slow_share: rounded(run.totals.slow_share, 6),
            p99_ms: rounded(run.totals.p99_ms, 1),
            replica_seconds: rounded(run.replica_seconds, 1),
            scale_events: run.scale_events,
        }
    }
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

/// What is said at the end: the table, who won, what to doubt.
pub fn closing(runs: &[Run]) -> Vec<String> {
    let mut paragraphs = vec![format!("\n{}", table(runs))];
    paragraphs.extend(verdicts(runs));
    paragraphs.extend(at_equal_cost(runs));
    paragraphs.extend(doubts(runs));
    paragraphs
}

/// Requests without a whole answer that a run may have: more, and the service or the demo drops them.
const ABORTED_LIMIT: f64 = 0.001;

/// Whether the runs mean what they say.
///
/// # Errors
/// One sentence: counts differ, requests were dropped, or Prescale did nothing.
pub fn check(runs: &[Run]) -> Result<()> {
    for run in runs {
        let (policy, sent) = (run.policy, run.totals.sent);
        ensure!(
            run.counted == sent,
            "{policy}: {sent} requests were sent and the kernel counted {}",
            run.counted
        );
        let aborted = run.totals.aborted as f64 / sent.max(1) as f64;
        ensure!(aborted <= ABORTED_LIMIT, "{policy}: {} of {sent} requests were aborted", run.totals.aborted);
        if policy == Policy::Prescale {
            ensure!(run.first_forecast_s.is_some(), "{policy}: the aggregator never showed a forecast");
            ensure!(run.scale_events > 0, "{policy}: the load has grown, and it changed nothing");
        }
    }
    Ok(())
}

// What a reader has to know before believing the table.
fn doubts(runs: &[Run]) -> Vec<String> {
    let mut doubts = Vec::new();
    for run in runs {
        let (mean, peak) = run.busy;
        if peak > BUSY_LIMIT {
            doubts.push(format!(
                "doubt: during {} the machine was {:.0} % busy in its busiest half second ({:.0} % on average): \
                 latency may come from its cores instead of from slots and queues",
                run.policy,
                peak * 100.0,
                mean * 100.0
            ));
        }
        if run.counted != run.totals.sent {
            doubts.push(format!(
                "doubt: under {} {} requests were sent and the kernel counted {}",
                run.policy, run.totals.sent, run.counted
            ));
        }
        if run.totals.aborted > 0 || run.totals.unsent > 0 {
            doubts.push(format!(
                "doubt: under {} {} requests got no whole answer and {} found no worker or no connection",
                run.policy, run.totals.aborted, run.totals.unsent
            ));
        }
    }
    doubts
}

/// The table for people.
fn table(runs: &[Run]) -> String {
    let mut text = String::new();
    let head = ["policy", "slow", "p50 ms", "p99 ms", "replica-s", "mean", "writes", "requests", "cpu"];
    let _ = writeln!(
        text,
        "{:<10} {:>8} {:>8} {:>8} {:>10} {:>6} {:>7} {:>9} {:>5}",
        head[0], head[1], head[2], head[3], head[4], head[5], head[6], head[7], head[8]
    );
    for run in runs {
        let _ = writeln!(
            text,
            "{:<10} {:>7.2}% {:>8.0} {:>8.0} {:>10.0} {:>6.1} {:>7} {:>9} {:>4.0}%",
            run.policy.to_string(),
            run.totals.slow_share * 100.0,
            run.totals.p50_ms,
            run.totals.p99_ms,
            run.replica_seconds,
            run.mean_replicas,
            run.scale_events,
            run.totals.arrivals,
            run.busy.0 * 100.0
        );
    }
    text
}

/// Differences below these don't count as a win: a repeat with the same seed moves by as much.
const SLOW_NOISE: f64 = 0.002;
const COST_NOISE: f64 = 0.01;

/// One sentence per rival: who was faster, who was cheaper, by how much.
fn verdicts(runs: &[Run]) -> Vec<String> {
    let Some(ours) = runs.iter().find(|run| run.policy == Policy::Prescale) else { return Vec::new() };
    runs.iter().filter(|run| run.policy != Policy::Prescale).map(|rival| verdict(ours, rival)).collect()
}

fn verdict(ours: &Run, rival: &Run) -> String {
    let slow = |run: &Run| format!("{:.2} %", run.totals.slow_share * 100.0);
    let (our_slow, their_slow) = (ours.totals.slow_share, rival.totals.slow_share);
    let cost = ours.replica_seconds / rival.replica_seconds - 1.0;
    let fewer = our_slow < their_slow - SLOW_NOISE;
    let more = our_slow > their_slow + SLOW_NOISE;
    let (cheaper, dearer) = (cost < -COST_NOISE, cost > COST_NOISE);
    let outcome = match (fewer, more, cheaper, dearer) {
        (true, _, _, false) | (false, false, true, _) => "Prescale wins".to_owned(),
        (_, true, false, _) | (false, false, _, true) => format!("{} wins", rival.policy),
        (true, _, _, true) => "Prescale is faster and costs more".to_owned(),
        (_, true, true, _) => format!("{} is faster and costs more", rival.policy),
        (false, false, false, false) => "no difference beyond noise".to_owned(),
    };
    let than = if cost < 0.0 { "fewer" } else { "more" };
    format!(
        "against {}: {outcome} ({} of requests slow against {}, {:.0} % {than} replica-seconds)",
        rival.policy,
        slow(ours),
        slow(rival),
        cost.abs() * 100.0
    )
}

/// Shares below this are one and the same on a logarithmic line: a handful of requests in a run.
const LEAST_SHARE: f64 = 1e-4;

/// What the HPA has at Prescale's cost, on the line between the two of its targets that lie to either side: slow shares
/// differ by factors, so the line is straight in their logarithm. Nothing where Prescale lies beyond the tried targets.
fn at_equal_cost(runs: &[Run]) -> Option<String> {
    let ours = runs.iter().find(|run| run.policy == Policy::Prescale)?;
    let mut rivals: Vec<&Run> = runs.iter().filter(|run| matches!(run.policy, Policy::Hpa(_))).collect();
    rivals.sort_by(|a, b| a.replica_seconds.total_cmp(&b.replica_seconds));
    let between =
        |pair: &&[&Run]| (pair[0].replica_seconds..pair[1].replica_seconds).contains(&ours.replica_seconds);
    let pair = rivals.windows(2).find(between)?;
    let (cheap, dear) = (pair[0], pair[1]);
    let share = |run: &Run| run.totals.slow_share.max(LEAST_SHARE);
    let way = (ours.replica_seconds - cheap.replica_seconds) / (dear.replica_seconds - cheap.replica_seconds);
    let theirs = share(cheap) * (share(dear) / share(cheap)).powf(way);
    Some(format!(
        "at Prescale's cost the HPA's line from {} to {} has {:.2} % of requests slow, Prescale {:.2} %: {}{:.1} times as many",
        cheap.policy,
        dear.policy,
        theirs * 100.0,
        ours.totals.slow_share * 100.0,
        if ours.totals.slow_share < LEAST_SHARE { "at least " } else { "" },
        theirs / share(ours)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(policy: Policy, slow_share: f64, replica_seconds: f64) -> Run {
        Run {
            policy,
            totals: Totals { slow_share, sent: 10, ..Totals::default() },
            replica_seconds,
            mean_replicas: 1.0,
            scale_events: 2,
            counted: 10,
            first_forecast_s: None,
            agent_cpu_s: 0.5,
            agent_memory_bytes: 1,
            busy: (0.1, 0.2),
        }
    }

    #[test]
    fn the_rival_wins_where_it_is_better_in_one_and_not_worse_in_the_other() {
        let says = |ours: (f64, f64), theirs: (f64, f64)| {
            verdict(&run(Policy::Prescale, ours.0, ours.1), &run(Policy::Hpa(65), theirs.0, theirs.1))
        };
        assert!(says((0.02, 1000.0), (0.01, 1000.0)).contains("HPA 65 % wins"));
        assert!(says((0.01, 1100.0), (0.01, 1000.0)).contains("HPA 65 % wins"));
        assert!(says((0.02, 1100.0), (0.01, 1000.0)).contains("HPA 65 % wins"));
        assert!(says((0.02, 900.0), (0.01, 1000.0)).contains("HPA 65 % is faster and costs more"));
        assert!(says((0.01, 900.0), (0.02, 1000.0)).contains("Prescale wins"));
        assert!(says((0.01, 1100.0), (0.02, 1000.0)).contains("Prescale is faster and costs more"));
        assert!(says((0.01, 1000.0), (0.011, 1005.0)).contains("no difference"));
    }

    #[test]
    fn equal_cost_is_compared_on_the_line_between_two_targets() {
        let says = |cost: f64, slow: f64| {
            at_equal_cost(&[
                run(Policy::Prescale, slow, cost),
                run(Policy::Hpa(50), 0.0001, 1500.0),
                run(Policy::Hpa(80), 0.01, 1000.0),
            ])
        };
        assert!(
            says(1250.0, 0.002).unwrap().contains("has 0.10 % of requests slow, Prescale 0.20 %: 0.5 times")
        );
        assert!(
            says(1000.0, 0.005).unwrap().contains("has 1.00 % of requests slow, Prescale 0.50 %: 2.0 times")
        );
        assert_eq!(says(1600.0, 0.0), None);
        assert_eq!(says(900.0, 0.0), None);
    }

    #[test]
    fn runs_that_mean_nothing_are_refused() {
        let fine = Run { first_forecast_s: Some(1.0), ..run(Policy::Prescale, 0.0, 1.0) };
        assert!(check(&[fine.clone(), run(Policy::Static, 0.0, 1.0)]).is_ok());
        let aborted = Totals { aborted: 1, ..fine.totals };
        for wrong in [
            Run { counted: 9, ..fine.clone() },
            Run { totals: aborted, ..fine.clone() },
            Run { first_forecast_s: None, ..fine.clone() },
            Run { scale_events: 0, ..fine.clone() },
        ] {
            assert!(check(std::slice::from_ref(&wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_line_has_the_fields_of_the_contract() {
        let mut ours = run(Policy::Prescale, 0.01, 1000.0);
        ours.first_forecast_s = Some(1.5);
        let line = Line::new(7, 30.0, &[ours, run(Policy::Hpa(50), 0.0, 2000.0)]).json().unwrap();
        assert_eq!(
            line,
            "{\"seed\":7,\"compression\":30.0,\"requests_sent\":20,\"requests_counted\":20,\"requests_aborted\":0,\
             \"runs\":[{\"policy\":\"prescale\",\"slow_share\":0.01,\"p99_ms\":0.0,\"replica_seconds\":1000.0,\
             \"scale_events\":2},{\"policy\":\"hpa\",\"target\":0.5,\"slow_share\":0.0,\"p99_ms\":0.0,\
             \"replica_seconds\":2000.0,\"scale_events\":2}],\"first_forecast_s\":1.5,\"agent_cpu_s\":1.0,\
             \"agent_memory_bytes\":1}"
        );
    }
}
