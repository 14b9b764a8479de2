//! What the anomaly filter says of a trace: recorded loads are taken for true, so each alarm counts as a false one.

use prescale_models::anomaly::{Acting, Filter};
use prescale_models::{Bin, Grid};

use super::protocol::Protocol;
use super::trace::Trace;

/// Bins of a trace's test part, and how many of them were kept from learning, by reason, and from acting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    /// Judged.
    pub bins: usize,
    /// Not learned, in the order of `Reason::ALL`: floods, synthetic loads, faults.
    pub skipped: [usize; 3],
    /// Not acted on.
    pub held: usize,
}

/// Runs a filter over the whole trace and counts over the test part.
pub fn count(trace: &Trace) -> Alarms {
    let mut filter = Filter::new(Grid { step_seconds: trace.step_seconds });
    let test = Protocol::of(trace).test;
    let mut alarms = Alarms::default();
    for i in 0..trace.counts.len() {
        let verdict = filter.judge(Bin::new(trace.index(i), trace.rate(i)), trace.known_at(i));
        if i < test {
            continue;
        }
        alarms.bins += 1;
        alarms.held += usize::from(verdict.acting != Acting::Follow);
        if let Some(reason) = verdict.reason() {
            alarms.skipped[reason as usize] += 1;
        }
    }
    alarms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_test_part_counts() {
        // Ten days of minutes under 7 requests or so, silent for two hours of the first half and for two of the second: an
        // hour of silence each is a fault.
        let silent = |i: usize| (4000..4120).contains(&i) || (9000..9120).contains(&i);
        let count_of = |i: usize| if silent(i) { 0.0 } else { 60.0 + (i * 7919 % 31) as f64 };
        let counts = (0..14_400).map(count_of).collect();
        let trace = Trace { name: "x".into(), start: 0, step_seconds: 60, counts };
        let alarms = count(&trace);
        assert_eq!(alarms.bins, 7200);
        assert_eq!(alarms.skipped[0] + alarms.skipped[1], 0, "{alarms:?}");
        assert!(alarms.held <= 60 && alarms.held == alarms.skipped[2], "{alarms:?}");
    }
}
