//! The open-loop load generator: requests leave when the schedule says, however slow the answers are.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::balancer::Balancer;

/// A client of the demo gives up after this, real time. Browsers wait longer, gateways 30 to 60 s.
pub const CLIENT_LIMIT: Duration = Duration::from_secs(30);
/// Requests under way at most. Each has a connection, so this stays below the limit of open files that
/// [`super::machine::prepare`] asks for; the arrival that finds it reached fails and counts as slow.
const IN_FLIGHT_LIMIT: usize = 16_000;

/// What became of the requests of one run.
#[derive(Debug, Default)]
pub struct Tally {
    arrivals: AtomicU64,
    sent: AtomicU64,
    aborted: AtomicU64,
    refused: AtomicU64,
    no_worker: AtomicU64,
    in_flight: AtomicUsize,
    // One per arrival that has ended, by end.
    answers: Mutex<Vec<Answer>>,
    late: AtomicU64,
}

/// One arrival's end.
#[derive(Clone, Copy, Debug)]
struct Answer {
    /// As long as its client would have waited, if it failed.
    latency_ms: f32,
    failed: bool,
    at: Instant,
}

/// A summary of a [`Tally`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Scheduled arrivals that came due.
    pub arrivals: u64,
    /// Requests written whole to an established connection.
    pub sent: u64,
    /// Of those, without a whole answer.
    pub aborted: u64,
    /// Arrivals that were never sent: no worker, no connection, or too many under way.
    pub unsent: u64,
    /// Of those, because no worker was ready.
    pub no_worker: u64,
    /// Share of arrivals over the objective or failed.
    pub slow_share: f64,
    /// Median over all arrivals; a failed one counts as long as its client would have waited.
    pub p50_ms: f64,
    /// As the median, 99 %.
    pub p99_ms: f64,
    /// The latest that the generator was with a send, ms: part of the latencies.
    pub latest_ms: f64,
}

impl Tally {
    /// Requests under way now.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Requests written whole so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Arrivals that ended within the last `window`: how many, and their median and 99 % in ms.
    pub fn recent(&self, window: Duration) -> (usize, f64, f64) {
        let answers = self.answers();
        let Some(since) = Instant::now().checked_sub(window) else { return (0, 0.0, 0.0) };
        // Ends are all but in order; a few ms of disorder don't matter for a line of progress.
        let mut latencies: Vec<f32> = answers
            .iter()
            .rev()
            .take_while(|answer| answer.at >= since)
            .map(|answer| answer.latency_ms)
            .collect();
        drop(answers);
        (latencies.len(), quantile(&mut latencies, 0.5), quantile(&mut latencies, 0.99))
    }

    /// Everything so far, against an objective.
    pub fn totals(&self, objective: Duration) -> Totals {
        let answers = self.answers();
        let objective_ms = objective.as_secs_f64() * 1e3;
        let slow = |answer: &&Answer| answer.failed || f64::from(answer.latency_ms) > objective_ms;
        let slow_share = answers.iter().filter(slow).count() as f64 / answers.len().max(1) as f64;
        let mut latencies: Vec<f32> = answers.iter().map(|answer| answer.latency_ms).collect();
        drop(answers);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            arrivals: count(&self.arrivals),
            sent: count(&self.sent),
            aborted: count(&self.aborted),
            unsent: count(&self.refused) + count(&self.no_worker),
            no_worker: count(&self.no_worker),
            slow_share,
            p50_ms: quantile(&mut latencies, 0.5),
            p99_ms: quantile(&mut latencies, 0.99),
            latest_ms: count(&self.late) as f64 / 1e3,
        }
    }

    fn answers(&self) -> MutexGuard<'_, Vec<Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The smallest value that at least `share` of them don't exceed; 0 of none.
fn quantile(values: &mut [f32], share: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let rank = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len()) - 1;
    f64::from(*values.select_nth_unstable_by(rank, f32::total_cmp).1)
}

/// Sends one request per arrival (offsets from `starts`) to the workers of `balancer`; returns when the last has ended. A client
/// gives up after `patience`, real time; it then counts as aborted.
pub async fn play(
    arrivals: &[Duration],
    starts: Instant,
    patience: Duration,
    balancer: &Arc<Balancer>,
    tally: &Arc<Tally>,
) {
    let mut under_way = tokio::task::JoinSet::new();
    let mut next = 0;
    while next < arrivals.len() {
        tokio::time::sleep_until((starts + arrivals[next]).into()).await;
        let now = Instant::now();
        while next < arrivals.len() && starts + arrivals[next] <= now {
            let due = starts + arrivals[next];
            next += 1;
            tally.arrivals.fetch_add(1, Ordering::Relaxed);
            tally.late.fetch_max((now - due).as_micros() as u64, Ordering::Relaxed);
            under_way.spawn(request(due, patience, Arc::clone(balancer), Arc::clone(tally)));
        }
        // Reaps what has ended, so that the set stays as large as what is under way.
        while under_way.try_join_next().is_some() {}
    }
    while under_way.join_next().await.is_some() {}
}

async fn request(due: Instant, patience: Duration, balancer: Arc<Balancer>, tally: Arc<Tally>) {
    let answered = if tally.in_flight.fetch_add(1, Ordering::Relaxed) < IN_FLIGHT_LIMIT {
        exchange(patience, &balancer, &tally).await
    } else {
        tally.refused.fetch_add(1, Ordering::Relaxed);
        false
    };
    tally.in_flight.fetch_sub(1, Ordering::Relaxed);
    let at = Instant::now();
    let took = if answered { at - due } else { patience };
    tally.answers().push(Answer { latency_ms: took.as_secs_f32() * 1e3, failed: !answered, at });
}

// Whether it was answered with 200.
async fn exchange(patience: Duration, balancer: &Balancer, tally: &Tally) -> bool {
    let Some(lease) = balancer.pick() else {
        tally.no_worker.fetch_add(1, Ordering::Relaxed);
        return false;
    };
    let mut sent = false;
    let answered = tokio::time::timeout(patience, async {
        let mut connection = lease.connection().await?;
        connection.send().await?;
        sent = true;
        tally.sent.fetch_add(1, Ordering::Relaxed);
        let response = connection.receive().await?;
        if !response.closes {
            lease.keep(connection);
        }
        anyhow::Ok(response.status == 200)
    });
    match answered.await {
        Ok(Ok(well)) => well,
        Ok(Err(_)) | Err(_) => {
            let count = if sent { &tally.aborted } else { &tally.refused };
            count.fetch_add(1, Ordering::Relaxed);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let mut values: Vec<f32> = (1..=100).rev().map(|v| v as f32).collect();
        assert_eq!(quantile(&mut values, 0.99), 99.0);
        assert_eq!(quantile(&mut values, 0.5), 50.0);
        assert_eq!(quantile(&mut values, 1.0), 100.0);
        assert_eq!(quantile(&mut [], 0.5), 0.0);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_arrival_that_finds_no_worker_is_slow_and_not_sent() {
        let (balancer, tally) = (Arc::new(Balancer::default()), Arc::new(Tally::default()));
        let arrivals: Vec<Duration> = (0..10).map(Duration::from_millis).collect();
        play(&arrivals, Instant::now(), CLIENT_LIMIT, &balancer, &tally).await;
        let totals = tally.totals(Duration::from_millis(200));
        assert_eq!((totals.arrivals, totals.sent, totals.no_worker, totals.unsent), (10, 0, 10, 10));
        assert_eq!(totals.slow_share, 1.0);
    }
}
