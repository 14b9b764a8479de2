//! The log-linear latency scale: which bucket a duration falls into, and each bucket's bounds.
//!
//! Eight linear buckets per octave (relative width at most 12.5 %) from 2^10 ns (about 1 µs) up to
//! 2^37 ns (about 137 s); below and above everything falls into the first and the last bucket.

/// Number of buckets: 27 octaves of eight.
pub const BUCKETS: usize = 216;
const SUB_BITS: u32 = 3;
const MIN_BITS: u32 = 10;

/// The bucket that a duration of `ns` nanoseconds falls into, always below [`BUCKETS`].
#[inline(always)]
pub fn bucket_of(ns: u64) -> usize {
    if ns < 1 << MIN_BITS {
        return 0;
    }
    let octave = 63 - ns.leading_zeros();
    let sub = (ns >> (octave - SUB_BITS)) & ((1 << SUB_BITS) - 1);
    let bucket = ((octave - MIN_BITS) << SUB_BITS) as usize + sub as usize;
    if bucket < BUCKETS { bucket } else { BUCKETS - 1 }
}

/// The smallest duration, in nanoseconds, of bucket `bucket`; bucket 0 starts at 0.
///
/// `lower_bound_ns(BUCKETS)` is the end of the last bucket.
pub fn lower_bound_ns(bucket: usize) -> u64 {
    if bucket == 0 {
        return 0;
    }
    let octave = (bucket >> SUB_BITS) as u32 + MIN_BITS;
    let sub = (bucket & ((1 << SUB_BITS) - 1)) as u64;
    (1 << octave) + (sub << (octave - SUB_BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_starts_where_it_says() {
        for bucket in 1..BUCKETS {
            let low = lower_bound_ns(bucket);
            assert_eq!(bucket_of(low), bucket);
            assert_eq!(bucket_of(low - 1), bucket - 1);
            assert!((lower_bound_ns(bucket + 1) - low) as f64 <= 0.125 * low as f64);
        }
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }
}
