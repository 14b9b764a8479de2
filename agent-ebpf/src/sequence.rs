//! Where a segment lies relative to what has been seen of its direction: TCP sequence numbers, modulo 2^32.

/// A segment's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes at its beginning that have been seen before.
    pub old: u32,
    /// Bytes missing between what has been seen and its beginning.
    pub hole: u32,
    /// Bytes by which it goes beyond what has been seen, the hole included; 0: nothing new.
    pub advance: u32,
}

/// Compares the segment `seq..seq + len` with `next`, the sequence number after the last byte seen.
///
/// Numbers more than 2^31 behind `next` count as before it, as in TCP itself.
#[inline(always)]
pub fn place(next: u32, seq: u32, len: u32) -> Place {
    let ahead = seq.wrapping_sub(next) as i32;
    let advance = seq.wrapping_add(len).wrapping_sub(next) as i32;
    if advance <= 0 {
        return Place { old: len, hole: 0, advance: 0 };
    }
    if ahead < 0 {
        return Place { old: ahead.unsigned_abs(), hole: 0, advance: advance as u32 };
    }
    Place { old: 0, hole: ahead as u32, advance: advance as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_segment_has_its_place_also_across_the_wrap() {
        for next in [0, 1000, u32::MAX - 50, 1 << 31] {
            let at = |offset: i32, len| place(next, next.wrapping_add_signed(offset), len);
            assert_eq!(at(0, 100), Place { old: 0, hole: 0, advance: 100 }, "in order");
            assert_eq!(at(-100, 100), Place { old: 100, hole: 0, advance: 0 }, "seen before");
            assert_eq!(at(-1, 1), Place { old: 1, hole: 0, advance: 0 }, "a keep-alive probe");
            assert_eq!(at(-30, 100), Place { old: 30, hole: 0, advance: 70 }, "partly seen");
            assert_eq!(at(20, 100), Place { old: 0, hole: 20, advance: 120 }, "after a hole");
        }
    }
}
