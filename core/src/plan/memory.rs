//! What a plan remembers of a workload: recent needs (stabilisation) and recent replicas (ramp budgets).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::time::Mono;

/// Recent needs and replicas of one workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    // Strictly decreasing, oldest first: an entry that a later one reaches can never be a maximum again. So it holds
    // at most max-replicas entries, whatever the window.
    needs: VecDeque<(Mono, u32)>,
    // One entry per change; older ones than the longest period are dropped, but the one in force then stays.
    replicas: VecDeque<(Mono, u32)>,
}

// Longer than any window of the rules; checked by `Rules::assert_valid`.
pub(super) const KEPT_SECONDS: f64 = 3600.0;
// One change a second over the longest period is more than any target allows; beyond it the oldest go.
const MOST_CHANGES: usize = 4096;

impl Memory {
    /// Remembers what was needed.
    pub fn record_need(&mut self, at: Mono, need: u32) {
        while self.needs.back().is_some_and(|(_, n)| *n <= need) {
            self.needs.pop_back();
        }
        self.needs.push_back((at, need));
        while self.needs.front().is_some_and(|(t, _)| at.seconds_since(*t) > KEPT_SECONDS) {
            self.needs.pop_front();
        }
    }

    /// Remembers what `spec.replicas` is.
    pub fn record_replicas(&mut self, at: Mono, replicas: u32) {
        if self.replicas.back().is_some_and(|(_, r)| *r == replicas) {
            return;
        }
        self.replicas.push_back((at, replicas));
        while self.replicas.len() > MOST_CHANGES
            || self.replicas.get(1).is_some_and(|(t, _)| at.seconds_since(*t) > KEPT_SECONDS)
        {
            self.replicas.pop_front();
        }
    }

    /// The same on another clock.
    pub(crate) fn rebased(self, shift: impl Fn(Mono) -> Mono) -> Self {
        let all =
            |entries: VecDeque<(Mono, u32)>| entries.into_iter().map(|(at, n)| (shift(at), n)).collect();
        Self { needs: all(self.needs), replicas: all(self.replicas) }
    }

    /// Adds what `other`, by the same clock, has recorded since.
    pub(crate) fn go_on_from(&mut self, other: &Self) {
        let newest = self.needs.back().map(|(at, _)| *at);
        for &(at, need) in other.needs.iter().filter(|(at, _)| Some(*at) > newest) {
            self.record_need(at, need);
        }
        let newest = self.replicas.back().map(|(at, _)| *at);
        for &(at, replicas) in other.replicas.iter().filter(|(at, _)| Some(*at) > newest) {
            self.record_replicas(at, replicas);
        }
    }

    /// `spec.replicas` as they were recorded last.
    pub(crate) fn newest_replicas(&self) -> Option<u32> {
        self.replicas.back().map(|(_, replicas)| *replicas)
    }

    /// The largest need of the last `seconds`.
    pub fn largest_need(&self, now: Mono, seconds: f64) -> Option<u32> {
        self.needs.iter().filter(|(t, _)| now.seconds_since(*t) <= seconds).map(|(_, n)| *n).max()
    }

    /// `spec.replicas` as they were `seconds` ago, or at first sight if that is later.
    pub fn replicas_at(&self, now: Mono, seconds: f64) -> Option<u32> {
        let in_force = self.replicas.iter().rev().find(|(t, _)| now.seconds_since(*t) >= seconds);
        in_force.or(self.replicas.front()).map(|(_, r)| *r)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    #[test]
    fn largest_need_is_that_of_the_window() {
        let mut memory = Memory::default();
        let needs = [3, 9, 4, 7, 7, 2, 1, 1];
        for (t, need) in needs.iter().enumerate() {
            memory.record_need(at(t as u64), *need);
        }
        for seconds in 0..8 {
            let expected = needs[7 - seconds..].iter().copied().max();
            assert_eq!(memory.largest_need(at(7), seconds as f64), expected, "over {seconds} s");
        }
        assert!(memory.needs.len() <= 4, "{:?}", memory.needs);
    }

    #[test]
    fn replicas_are_those_in_force_then() {
        let mut memory = Memory::default();
        assert_eq!(memory.replicas_at(at(0), 15.0), None);
        for (t, replicas) in [(0, 3), (10, 5), (20, 8), (21, 8)] {
            memory.record_replicas(at(t), replicas);
        }
        assert_eq!(memory.replicas_at(at(24), 15.0), Some(3));
        assert_eq!(memory.replicas_at(at(25), 15.0), Some(5));
        assert_eq!(memory.replicas_at(at(35), 15.0), Some(8));
        assert_eq!(memory.replicas_at(at(5), 15.0), Some(3), "at first sight");
    }
}
