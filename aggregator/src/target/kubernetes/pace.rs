//! Our share of the API server: a token bucket for our calls, and a pause for all of them when it says that it is full.
//!
//! Pure in time: the caller passes the instant, so that tests need no clock.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prescale_shell::backoff::Backoff;
use tokio::time::Instant;

use super::shared::CallError;

/// Calls per second and at once. client-go's default for a controller is 20 and 30; a burst of 60 lets a spike of fifty
/// workloads be written within the second that it is decided in.
const PER_SECOND: f64 = 20.0;
const AT_ONCE: f64 = 60.0;
/// First and longest pause after 429 or 5xx without a `Retry-After`, or no answer.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// Decides when a call may go.
#[derive(Debug)]
pub(super) struct Pace(Mutex<State>);

#[derive(Debug)]
struct State {
    tokens: f64,
    filled: Instant,
    paused_until: Instant,
    backoff: Backoff,
}

impl State {
    fn refill(&mut self, now: Instant) {
        let refill = now.saturating_duration_since(self.filled).as_secs_f64() * PER_SECOND;
        self.tokens = (self.tokens + refill).min(AT_ONCE);
        self.filled = now;
    }
}

impl Pace {
    pub(super) fn new(now: Instant, name: &str) -> Self {
        let backoff = Backoff::new(PAUSE.0, PAUSE.1, name);
        Self(Mutex::new(State { tokens: AT_ONCE, filled: now, paused_until: now, backoff }))
    }

    /// When a call that is asked for at `now` may go; it is counted already.
    fn reserve(&self, now: Instant) -> Instant {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.refill(now);
        state.tokens -= 1.0;
        // Below 0 the call waits for its own token, behind those that came before.
        let wait = Duration::from_secs_f64((-state.tokens).max(0.0) / PER_SECOND);
        (now + wait).max(state.paused_until)
    }

    /// Whether a call may go at once that can as well come later: not while the API server wants a pause, and only from the
    /// fuller half of the bucket, so that writes of replicas find the other half. It is not counted yet.
    pub(super) fn spare(&self, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.refill(now);
        state.tokens > AT_ONCE / 2.0 && now >= state.paused_until
    }

    /// Waits for this call's turn.
    pub(super) async fn turn(&self) {
        tokio::time::sleep_until(self.reserve(Instant::now())).await;
    }

    /// What became of a call. Every caller pauses after 429, 5xx and an answer that never came: the server has more to do than
    /// it can. Conflicts and refusals are answers like others.
    pub(super) fn heard(&self, now: Instant, result: Result<(), &CallError>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stated = match result {
            Ok(()) => {
                state.backoff.succeeded();
                return;
            }
            Err(CallError::Late) => None,
            Err(CallError::Api(kube::Error::Api(status))) if status.code == 429 || status.code >= 500 => {
                let seconds = status.details.as_ref().map_or(0, |it| it.retry_after_seconds);
                (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
            }
            Err(_) => return,
        };
        let wait = state.backoff.wait();
        // A server that asks for an hour means a minute at most: demand changes meanwhile.
        let wait = stated.map_or(wait, |it| it.min(Duration::from_secs(60)).max(wait));
        state.paused_until = state.paused_until.max(now + wait);
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn answer(code: u16) -> CallError {
        CallError::Api(kube::Error::Api(Box::new(Status::failure("", "").with_code(code))))
    }

    #[test]
    fn a_burst_goes_at_once_and_then_at_the_rate() {
        let now = Instant::now();
        let pace = Pace::new(now, "test");
        let waits: Vec<f64> = (0..100).map(|_| (pace.reserve(now) - now).as_secs_f64()).collect();
        assert!(waits[..60].iter().all(|wait| *wait == 0.0));
        assert!((waits[99] - 40.0 / PER_SECOND).abs() < 1e-6, "{}", waits[99]);
        let later = now + Duration::from_secs(10);
        assert_eq!(pace.reserve(later), later);
    }

    #[test]
    fn what_can_wait_leaves_half_of_the_bucket_to_what_can_not() {
        let now = Instant::now();
        let pace = Pace::new(now, "test");
        let mut spared = 0;
        while pace.spare(now) {
            pace.reserve(now);
            spared += 1;
        }
        assert_eq!(f64::from(spared), AT_ONCE / 2.0);
        assert!((0..30).all(|_| pace.reserve(now) == now), "a write of replicas had to wait");
        let full = now + Duration::from_secs(10);
        assert!(pace.spare(full));
        pace.heard(full, Err(&answer(429)));
        assert!(!pace.spare(full), "the API server wants a pause");
    }

    #[test]
    fn a_full_server_pauses_every_call_longer_each_time_and_an_answer_ends_it() {
        let now = Instant::now();
        let pace = Pace::new(now, "test");
        let mut last = Duration::ZERO;
        for full in [answer(429), answer(500), CallError::Late, answer(503), CallError::Late, answer(504)] {
            pace.heard(now, Err(&full));
            let wait = pace.reserve(now) - now;
            assert!(wait > last && wait <= PAUSE.1, "{full}: {wait:?} after {last:?}");
            last = wait;
        }
        pace.heard(now, Ok(()));
        let later = now + PAUSE.1;
        pace.heard(later, Err(&answer(429)));
        assert!(pace.reserve(later) - later <= PAUSE.0);
        for code in [400, 403, 404, 409, 422] {
            let later = now + Duration::from_secs(100);
            pace.heard(later, Err(&answer(code)));
            assert_eq!(pace.reserve(later), later, "{code}");
        }
    }
}
