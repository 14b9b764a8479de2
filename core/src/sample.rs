//! Two reads of a pod's counters → what happened in between.

use thiserror::Error;

use crate::counters::{CLASSES, Counters, Histogram};
use crate::units::{Concurrency, RequestsPerSecond};

/// Fastest that one pod can be: 10 million requests/s is twenty times what a core's kernel programs could count.
const MAX_RATE: f64 = 1e7;
/// Most requests in flight of one pod: more than there are ports times a full pipeline of 16.
const MAX_CONCURRENCY: f64 = 1_048_576.0;
/// Shortest time between two reads that gives a rate, seconds of the kernel's clock.
const MIN_SECONDS: f64 = 1e-3;
/// Longest: a poll comes once a second, a node that slept for a day starts anew.
const MAX_SECONDS: f64 = 86_400.0;

/// Why two reads give no sample.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum SampleError {
    /// The later read is not later by the kernel's clock, or by less than a millisecond or more than a day.
    #[error("{seconds} s between the reads")]
    BadInterval {
        /// By the kernel's clock.
        seconds: f64,
    },
    /// A cumulative counter fell: another attach, or a broken map.
    #[error("{counter} went back")]
    WentBack {
        /// Which.
        counter: &'static str,
    },
    /// More than any pod could have done.
    #[error("{what} of {value} is impossible")]
    Absurd {
        /// Which quantity.
        what: &'static str,
        /// In its unit.
        value: f64,
    },
}

/// What a pod did between two reads; rates and times are of the kernel's clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Length, seconds.
    pub seconds: f64,
    /// Requests that began.
    pub rate: RequestsPerSecond,
    /// Requests whose response ended.
    pub finish_rate: RequestsPerSecond,
    /// Requests whose connection ended before the response did.
    pub abort_rate: RequestsPerSecond,
    /// [`Self::finish_rate`] by [`crate::counters::StatusClass`], requests/s.
    pub class_rates: [f64; CLASSES],
    /// Requests in flight, averaged over the time.
    pub concurrency: Concurrency,
    /// Requests in flight at the later read.
    pub in_flight: u64,
    /// Mean time from a request's first byte in to its response's last byte out, seconds; `None` when none finished.
    pub mean_latency_seconds: Option<f64>,
    /// First byte in to first byte out.
    pub first_byte: Histogram,
    /// First byte in to last byte out, all status classes.
    pub last_byte: Histogram,
    /// Payload bytes per second in.
    pub received_per_second: f64,
    /// Payload bytes per second out.
    pub sent_per_second: f64,
    /// Requests that began, a count.
    pub starts: u64,
    /// Responses that ended, a count.
    pub finishes: u64,
}

impl Sample {
    /// The sample of the time between two reads of one attach.
    ///
    /// # Errors
    /// [`SampleError`]; the caller keeps the later read as the next one's start.
    pub fn between(earlier: &Counters, later: &Counters) -> Result<Self, SampleError> {
        let seconds = interval_seconds(earlier.read_at_ns, later.read_at_ns)?;
        let back = |counter| SampleError::WentBack { counter };
        let delta = |counter, new: u64, old: u64| new.checked_sub(old).ok_or(back(counter));
        let starts = delta("starts", later.starts, earlier.starts)?;
        let aborts = delta("aborts", later.aborts, earlier.aborts)?;
        let integral =
            delta("in-flight integral", later.in_flight_integral_ns, earlier.in_flight_integral_ns)?;
        let received = delta("bytes received", later.bytes_received, earlier.bytes_received)?;
        let sent = delta("bytes sent", later.bytes_sent, earlier.bytes_sent)?;
        let mut class_rates = [0.0; CLASSES];
        let mut finishes = 0u64;
        for (rate, (new, old)) in class_rates.iter_mut().zip(later.finishes.iter().zip(&earlier.finishes)) {
            let count = delta("finishes", *new, *old)?;
            finishes = finishes.saturating_add(count);
            *rate = count as f64 / seconds;
        }
        let first_byte = later.first_byte.since(&earlier.first_byte).ok_or(back("first-byte latency"))?;
        let mut last_byte = Histogram::default();
        // Classes in which nothing ended have nothing to add; most haven't in most seconds.
        for (class, (new, old)) in later.last_byte.iter().zip(&earlier.last_byte).enumerate() {
            if later.finishes[class] != earlier.finishes[class] {
                last_byte.add(&new.since(old).ok_or(back("last-byte latency"))?);
            }
        }
        let concurrency = integral as f64 / (seconds * 1e9);
        let ended = finishes.saturating_add(aborts);
        let at_the_edges = earlier.in_flight().max(later.in_flight());
        Ok(Self {
            seconds,
            rate: rate("rate", starts, seconds)?,
            finish_rate: rate("finish rate", finishes, seconds)?,
            abort_rate: rate("abort rate", aborts, seconds)?,
            class_rates,
            concurrency: Concurrency::new(concurrency)
                .ok()
                .filter(|c| c.get() <= MAX_CONCURRENCY)
                .ok_or(SampleError::Absurd { what: "concurrency", value: concurrency })?,
            in_flight: later.in_flight(),
            // Little's law is exact but for requests that cross an edge; with few of those it beats the histogram.
            mean_latency_seconds: if ended > 0 && at_the_edges.saturating_mul(50) <= ended {
                Some(integral as f64 / ended as f64 / 1e9)
            } else {
                last_byte.mean_seconds()
            },
            first_byte,
            last_byte,
            received_per_second: received as f64 / seconds,
            sent_per_second: sent as f64 / seconds,
            starts,
            finishes,
        })
    }
}

/// Seconds between two readings of the kernel's clock.
///
/// # Errors
/// [`SampleError::BadInterval`] when it is not between a millisecond and a day.
pub(crate) fn interval_seconds(earlier_ns: u64, later_ns: u64) -> Result<f64, SampleError> {
    let seconds = (i128::from(later_ns) - i128::from(earlier_ns)) as f64 / 1e9;
    if (MIN_SECONDS..=MAX_SECONDS).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(SampleError::BadInterval { seconds })
    }
}

/// `count` in `seconds` as a rate.
///
/// # Errors
/// [`SampleError::Absurd`] when no pod could be that fast.
pub(crate) fn rate(what: &'static str, count: u64, seconds: f64) -> Result<RequestsPerSecond, SampleError> {
    let value = count as f64 / seconds;
    RequestsPerSecond::new(value)
        .ok()
        .filter(|r| r.get() <= MAX_RATE)
        .ok_or(SampleError::Absurd { what, value })
}

#[cfg(test)]
mod tests {
    use prescale_agent_ebpf::histogram::bucket_of;
    use proptest::prelude::*;

    use super::*;

    /// `n` requests of 10 ms each within the first second.
    fn busy(n: u64) -> Counters {
        let mut c = Counters { read_at_ns: 2_000_000_000, starts: n, ..Counters::default() };
        c.finishes[2] = n;
        c.in_flight_integral_ns = n * 10_000_000;
        c.last_byte[2].0[bucket_of(10_000_000)] = n;
        c.first_byte.0[bucket_of(9_000_000)] = n;
        c
    }

    #[test]
    fn a_second_of_requests() {
        let before = Counters { read_at_ns: 1_000_000_000, ..Counters::default() };
        let sample = Sample::between(&before, &busy(100)).unwrap();
        assert_eq!(sample.rate.get(), 100.0);
        assert_eq!(sample.finish_rate.get(), 100.0);
        assert_eq!(sample.concurrency.get(), 1.0);
        assert_eq!(sample.in_flight, 0);
        assert_eq!(sample.mean_latency_seconds, Some(0.01));
        let p99 = sample.last_byte.quantile_seconds(0.99).unwrap();
        assert!((0.009..0.0115).contains(&p99), "{p99}");
        assert_eq!(sample.last_byte.share_above(0.02), Some(0.0));
        assert_eq!(sample.last_byte.share_above(0.001), Some(1.0));
    }

    #[test]
    fn what_can_not_be_is_an_error() {
        let before = Counters { read_at_ns: 1_000_000_000, ..Counters::default() };
        let bad = |later: Counters| Sample::between(&before, &later).unwrap_err();
        let at = |read_at_ns| Counters { read_at_ns, ..Counters::default() };
        assert_eq!(bad(at(1_000_000_000)), SampleError::BadInterval { seconds: 0.0 });
        assert_eq!(bad(at(0)), SampleError::BadInterval { seconds: -1.0 });
        assert!(matches!(bad(at(u64::MAX)), SampleError::BadInterval { .. }));
        assert!(matches!(
            bad(Counters { starts: u64::MAX, ..at(2_000_000_000) }),
            SampleError::Absurd { what: "rate", .. }
        ));
        let back = Sample::between(&busy(5), &Counters { read_at_ns: 3_000_000_000, ..busy(4) });
        assert_eq!(back.unwrap_err(), SampleError::WentBack { counter: "starts" });
    }

    fn any_counters() -> impl Strategy<Value = Counters> {
        (prop::array::uniform10(any::<u64>()), any::<[u64; CLASSES]>(), any::<u64>(), 0..216usize).prop_map(
            |(n, finishes, count, bucket)| {
                let mut c = Counters {
                    read_at_ns: n[0],
                    starts: n[1],
                    finishes,
                    aborts: n[2],
                    in_flight_integral_ns: n[3],
                    bytes_received: n[4],
                    bytes_sent: n[5],
                    connections_opened: n[6],
                    connections_closed: n[7],
                    retransmits: n[8],
                    ..Counters::default()
                };
                c.last_byte[1].0[bucket] = count;
                c.first_byte.0[bucket] = n[9];
                c
            },
        )
    }

    proptest! {
        #[test]
        fn no_counters_panic_or_give_nan(a in any_counters(), b in any_counters()) {
            if let Ok(sample) = Sample::between(&a, &b) {
                prop_assert!(sample.rate.get().is_finite() && sample.concurrency.get().is_finite());
                prop_assert!(sample.class_rates.iter().all(|r| r.is_finite()));
                prop_assert!(sample.mean_latency_seconds.is_none_or(|m| m.is_finite() && m >= 0.0));
            }
        }
    }
}
