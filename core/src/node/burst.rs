//! The burst flag: a jump in a request rate that chance does not explain, at second grain.
//!
//! The rule compares the count `x` of the last `w` seconds (the last one, two and five polls) with the count `b` of up
//! to 60 polls before them, `B` seconds. If the rate had not changed and requests came as a Poisson process of
//! *unknown* rate, then given `n = x + b`, `x` would be binomial with share `p = w/(w+B)`, and Chernoff's bound says
//! `P(x/n ≥ p̂) ≤ exp(−n·KL(p̂ ‖ p))`. The flag rises when that bound falls below `exp(−THRESHOLD)`. The bound holds for
//! every rate, also for a few requests a minute, and needs no estimate of the rate itself. Real traffic is burstier
//! than Poisson, so the exponent is divided by the baseline's dispersion (variance over mean, at least 1), as in
//! quasi-likelihood.
//!
//! False alarms: three tests a poll, 86,400 polls a day, `3 · 86,400 · exp(−15.5) = 0.05` a day at most on Poisson
//! noise; `node::tests` counts them over simulated days. Sensitivity: from 50 to 100 requests/s the first whole second
//! suffices (exponent 19); from 20 to 40 two or three seconds.

use std::collections::VecDeque;

use crate::time::{Now, Wall};
use crate::wire::Burst;

/// Minus the logarithm of the false-alarm bound of one test; see the head of the file.
const THRESHOLD: f64 = 15.5;
/// Smaller jumps are left to the forecast and the planner's headroom, however certain they are: at thousands of
/// requests a second chance explains next to nothing, and a few per cent more need no alarm.
const MIN_RATIO: f64 = 1.25;
/// Polls that are tested, newest first.
const TESTED: [usize; 3] = [1, 2, 5];
/// Polls of the baseline: long enough for a rate of some per minute, short enough to follow a morning.
const BASELINE: usize = 60;
/// Polls in which requests may have been held up, and come all at once after: what they lacked of the baseline is taken off
/// the count that follows, since a pause's arrears are no jump.
const LULL: usize = 5;
/// Polls below which the baseline says nothing: ten seconds after a start, a membership change or a burst.
const MIN_BASELINE: usize = 10;
/// How long a flag stays up, seconds: long enough to reach an aggregator whatever report is lost.
const HOLD_SECONDS: f64 = 10.0;

/// The burst detector of one workload on one node.
#[derive(Clone, Debug, Default)]
pub(super) struct Detector {
    /// Count and length in seconds of the newest polls, oldest first.
    polls: VecDeque<(u64, f64)>,
    flag: Option<(Burst, Now)>,
}

impl Detector {
    /// Takes one poll's count and its length in seconds of the kernel's clock. True when a flag rises with it.
    pub(super) fn observe(&mut self, now: Now, count: u64, seconds: f64) -> bool {
        let longest = TESTED[TESTED.len() - 1];
        self.polls.push_back((count, seconds));
        while self.polls.len() > BASELINE + longest {
            self.polls.pop_front();
        }
        if let Some((flag, raised)) = &mut self.flag {
            if now.mono.seconds_since(raised.mono) >= HOLD_SECONDS {
                self.flag = None;
            } else if seconds > 0.0 {
                flag.rate = count as f64 / seconds;
            }
        }
        let Some((rate, baseline, tested)) = TESTED.into_iter().find_map(|w| self.jump(w)) else {
            return false;
        };
        let since = Wall(now.wall.0 - (1000.0 * self.seconds(tested)) as i64);
        self.flag = Some((Burst { since, rate, baseline }, now));
        // What comes next is compared with what is now, not with what was before the jump.
        self.polls.drain(..self.polls.len() - tested);
        true
    }

    /// Forgets the past: the pods that are counted have changed.
    pub(super) fn reset(&mut self) {
        self.polls.clear();
    }

    /// The flag, while it is up.
    pub(super) fn flag(&self) -> Option<Burst> {
        self.flag.map(|(burst, _)| burst)
    }

    fn seconds(&self, newest: usize) -> f64 {
        self.polls.iter().rev().take(newest).map(|(_, s)| s).sum()
    }

    /// The rate of the newest `tested` polls, the rate before and `tested`, if the rule says that they differ.
    fn jump(&self, tested: usize) -> Option<(f64, f64, usize)> {
        let base = self.polls.len().checked_sub(tested).filter(|n| *n >= MIN_BASELINE)?;
        let base = base.min(BASELINE);
        let newest = self.polls.iter().rev();
        let (x, w) = sums(newest.clone().take(tested));
        let before = newest.clone().skip(tested).take(base);
        // A load that has begun within the baseline is compared with itself, less the poll in whose midst it began.
        let idle = before.clone().rev().take_while(|(count, _)| *count == 0).count();
        let began = if idle == 0 || idle == base { 0 } else { idle + 1 };
        let base = base.checked_sub(began).filter(|n| *n >= MIN_BASELINE)?;
        let before = newest.skip(tested).take(base);
        let (b, long) = sums(before.clone());
        if long <= 0.0 {
            return None;
        }
        let lacked = |(count, seconds): &(u64, f64)| b / long * seconds - *count as f64;
        let lull = before.clone().take(LULL).take_while(|poll| lacked(poll) > b / long * poll.1 / 2.0);
        let x = (x - lull.map(lacked).sum::<f64>()).max(0.0);
        if w <= 0.0 || x / w < MIN_RATIO * b / long || x == 0.0 {
            return None;
        }
        let (n, p) = (x + b, w / (w + long));
        let share = x / n;
        let mut divergence = share * libm::log(share / p);
        if share < 1.0 {
            divergence += (1.0 - share) * libm::log((1.0 - share) / (1.0 - p));
        }
        let evidence = n * divergence / dispersion(before, b / long);
        (evidence > THRESHOLD).then_some((x / w, b / long, tested))
    }
}

fn sums<'a>(polls: impl Iterator<Item = &'a (u64, f64)>) -> (f64, f64) {
    polls.fold((0.0, 0.0), |(count, seconds), (c, s)| (count + *c as f64, seconds + s))
}

/// Variance over mean of the counts, at least 1 (Poisson).
fn dispersion<'a>(polls: impl Iterator<Item = &'a (u64, f64)>, rate: f64) -> f64 {
    let (mut sum, mut n) = (0.0, 0.0);
    for (count, seconds) in polls {
        let expected = rate * seconds;
        if expected > 0.0 {
            sum += (*count as f64 - expected) * (*count as f64 - expected) / expected;
            n += 1.0;
        }
    }
    if n > 1.0 { (sum / (n - 1.0)).max(1.0) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Mono;

    /// Whether a flag rises while these counts come, one a second after a minute of a hundred a second.
    fn raises(counts: &[u64]) -> bool {
        let mut detector = Detector::default();
        let all = [100; 60].iter().chain(counts).enumerate();
        all.fold(false, |raised, (second, count)| {
            let now = Now { mono: Mono(second as u64 * 1_000_000_000), wall: Wall(second as i64 * 1000) };
            detector.observe(now, *count, 1.0) || raised
        })
    }

    #[test]
    fn a_load_that_begins_is_no_burst_and_a_jump_after_that_is() {
        for idle in [1, 4, 9, 20] {
            let raised = |counts: &[u64]| {
                let mut detector = Detector::default();
                let all = std::iter::repeat_n(&0, idle).chain(counts).enumerate();
                let flags = all.filter(|(second, count)| {
                    let now =
                        Now { mono: Mono(*second as u64 * 1_000_000_000), wall: Wall(*second as i64 * 1000) };
                    detector.observe(now, **count, 1.0)
                });
                flags.map(|(second, _)| second - idle).collect::<Vec<_>>()
            };
            let first = raised(&[[25].as_slice(), &[50; 40]].concat());
            // After ten idle polls a load is a burst when it comes: what was before is known to be nothing.
            let expected: &[usize] = if idle >= MIN_BASELINE { &[0] } else { &[] };
            assert_eq!(first, expected, "after {idle} idle polls");
            let then = raised(&[[25].as_slice(), &[50; 40], &[150; 5]].concat());
            assert_eq!(then.last(), Some(&41), "after {idle} idle polls");
        }
    }

    #[test]
    fn the_arrears_of_a_pause_are_no_burst_and_a_jump_after_one_is() {
        assert!(!raises(&[0, 0, 300, 100, 100, 100]));
        assert!(!raises(&[10, 0, 20, 20, 450, 100, 100]));
        assert!(raises(&[0, 0, 300, 200, 200, 200]));
        assert!(raises(&[100, 200]));
    }
}
