//! How long to wait after a failure: exponential, with jitter that a seed decides.

use std::time::Duration;

/// Doubles from `first` to `most`; each wait is drawn from the upper half of its step, so that agents which lost the
/// same aggregator together don't come back together, and two runs with one seed wait alike.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
    state: u64,
}

impl Backoff {
    /// `name` seeds the jitter: take something that differs between the callers, such as node and address.
    pub fn new(first: Duration, most: Duration, name: &str) -> Self {
        // FNV-1a: any spread-out function of the name does.
        let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self { first, most, failures: 0, state: seed }
    }

    /// The wait after one more failure.
    pub fn wait(&mut self) -> Duration {
        // 2^20 times any first step is beyond any cap in use.
        let step = self.first.saturating_mul(1 << self.failures.min(20)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        // Upper 53 bits of splitmix64 as a number in [0, 1).
        let share = (self.draw() >> 11) as f64 / (1u64 << 53) as f64;
        step.mul_f64(0.5 + share / 2.0)
    }

    /// It worked: the next failure waits for `first` again.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff(name: &str) -> Backoff {
        Backoff::new(Duration::from_millis(100), Duration::from_secs(10), name)
    }

    #[test]
    fn doubles_up_to_its_cap_within_the_upper_half_of_each_step() {
        let mut it = backoff("node-1");
        for failure in 0..40u32 {
            let step = Duration::from_millis(100 << failure.min(10)).min(Duration::from_secs(10));
            let wait = it.wait();
            assert!(wait >= step / 2 && wait <= step, "failure {failure}: {wait:?}");
        }
        it.succeeded();
        assert!(it.wait() <= Duration::from_millis(100));
    }

    #[test]
    fn one_seed_waits_alike_and_two_do_not() {
        let waits = |name| {
            let mut it = backoff(name);
            (0..8).map(|_| it.wait()).collect::<Vec<_>>()
        };
        assert_eq!(waits("node-1"), waits("node-1"));
        assert_ne!(waits("node-1"), waits("node-2"));
    }
}
