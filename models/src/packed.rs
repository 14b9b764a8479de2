//! Loads in 16 bits: what is kept per minute of a day for every workload.

use crate::state::{Loader, Saver, State, Unreadable};

/// A load or count that isn't negative: 6 bits of exponent, 10 of mantissa. Off by a 2,000th at most, from 2⁻¹⁵ (below
/// it: 0) to 2⁴⁹ (above it: that). A day of minutes is then 3 KB; no load is known as exactly as that by its own noise.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Packed(u16);

impl Packed {
    pub(crate) fn new(value: f32) -> Self {
        Self(pack::<10, 15>(value.max(0.0)))
    }

    pub(crate) fn get(self) -> f32 {
        unpack::<10, 15>(self.0)
    }
}

/// A difference of loads: a sign, 6 bits of exponent, 9 of mantissa. Off by a 1,000th at most, from 2⁻¹⁴ to 2⁴⁹.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Signed(u16);

const SIGN: u16 = 1 << 15;

impl Signed {
    /// Nothing was ever kept here. (The sign of a zero is free for it.)
    pub(crate) const UNKNOWN: Self = Self(SIGN);

    pub(crate) fn new(value: f32) -> Self {
        let size = pack::<9, 14>(value.abs()).min(SIGN - 1);
        Self(if value < 0.0 && size > 0 { size | SIGN } else { size })
    }

    /// `None` if nothing was ever kept here.
    pub(crate) fn get(self) -> Option<f32> {
        let size = unpack::<9, 14>(self.0 & !SIGN);
        (self != Self::UNKNOWN).then_some(if self.0 & SIGN > 0 { -size } else { size })
    }
}

impl State for Packed {
    fn save(&self, out: &mut Saver) {
        self.0.save(out);
    }

    fn load(&mut self, from: &mut Loader<'_>) -> Result<(), Unreadable> {
        self.0.load(from)
    }
}

impl State for Signed {
    fn save(&self, out: &mut Saver) {
        self.0.save(out);
    }

    fn load(&mut self, from: &mut Loader<'_>) -> Result<(), Unreadable> {
        self.0.load(from)
    }
}

/// A float's leading bits: `MANTISSA` of its mantissa, and its exponent above −`LOWEST`. Rounded; not negative.
fn pack<const MANTISSA: u32, const LOWEST: u32>(value: f32) -> u16 {
    let cut = 23 - MANTISSA;
    let rounded = value.to_bits().saturating_add(1 << (cut - 1)) >> cut;
    rounded.saturating_sub((127 - LOWEST) << MANTISSA).min(u32::from(u16::MAX)) as u16
}

fn unpack<const MANTISSA: u32, const LOWEST: u32>(packed: u16) -> f32 {
    let bits = (u32::from(packed) + ((127 - LOWEST) << MANTISSA)) << (23 - MANTISSA);
    if packed == 0 { 0.0 } else { f32::from_bits(bits) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_load_is_off_by_a_2000th_at_most_and_a_difference_by_a_1000th() {
        let mut value = 1e-4_f32;
        while value < 1e14 {
            let packed = Packed::new(value).get();
            assert!((packed - value).abs() <= value / 2000.0, "{value} became {packed}");
            for value in [value, -value] {
                let packed = Signed::new(value).get().unwrap();
                assert!((packed - value).abs() <= value.abs() / 1000.0, "{value} became {packed}");
            }
            value *= 1.003;
        }
        assert_eq!([0.0, -1.0, 1e-9].map(|v| Packed::new(v).get()), [0.0; 3]);
        assert_eq!([1.0, 60.0, 1024.0].map(|v| Packed::new(v).get()), [1.0, 60.0, 1024.0]);
        assert!(Packed::new(1e15).get() > 5e14 && Packed::new(f32::MAX).get().is_finite());
        assert_eq!([0.0, -0.0, -1e-9, -3.0].map(|v| Signed::new(v).get()), [0.0, 0.0, 0.0, -3.0].map(Some));
        assert!(
            Signed::new(-1e15).get().unwrap() < -5e14 && Signed::new(f32::MAX).get().unwrap().is_finite()
        );
        assert_eq!(Signed::UNKNOWN.get(), None);
    }
}
