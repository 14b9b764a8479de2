//! A forecaster's state as bytes: what it carries from bin to bin, and nothing that its settings determine.
//!
//! All of it has a fixed shape, so it is read *into* a forecaster that was made by the same settings. While it is
//! written, the names of its fields, their types and lengths are hashed: that is its layout, and state of another
//! layout (another build, another composition, another network) is refused, without a version number to forget.

use thiserror::Error;

/// To be raised when a field keeps its name and type but not its meaning: the layout can't see that.
const MEANING: u32 = 1;

/// Layout and checksum, 4 bytes each, before the values.
const HEADER: usize = 8;

/// Why state could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unreadable {
    /// It is sound, but its layout is another than ours.
    #[error("state of another build or of other settings")]
    OtherLayout,
    /// Cut short, too long, or its checksum or its values can't be true.
    #[error("broken state")]
    Broken,
}

/// What has state.
pub trait State {
    /// Appends it.
    fn save(&self, out: &mut Saver);

    /// Takes what [`State::save`] of the same layout wrote. On an error `self` is half read and of no use.
    ///
    /// # Errors
    /// [`Unreadable::Broken`] when bytes are missing or say what can't be.
    fn load(&mut self, from: &mut Loader<'_>) -> Result<(), Unreadable>;
}

/// Takes bytes, and keeps track of their layout.
#[derive(Default)]
pub struct Saver {
    bytes: Vec<u8>,
    layout: crc32fast::Hasher,
    /// The type of the newest values, and how many of it there are in a row.
    run: (&'static str, u32),
}

impl Saver {
    /// Makes what follows part of the layout: a field's name, or what its values mean only together with.
    pub fn note(&mut self, what: &str) {
        let (kind, count) = std::mem::take(&mut self.run);
        self.layout.update(kind.as_bytes());
        self.layout.update(&count.to_le_bytes());
        self.layout.update(what.as_bytes());
        // A byte that no text holds ends it.
        self.layout.update(&[0xff]);
    }

    fn put(&mut self, kind: &'static str, bytes: &[u8]) {
        if self.run.0 != kind {
            self.note("");
            self.run.0 = kind;
        }
        self.run.1 += 1;
        self.bytes.extend_from_slice(bytes);
    }

    fn finish(mut self) -> (u32, Vec<u8>) {
        self.note(&MEANING.to_string());
        (self.layout.finalize(), self.bytes)
    }
}

/// Gives bytes.
pub struct Loader<'a> {
    bytes: &'a [u8],
}

impl Loader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(Unreadable::Broken)?;
        self.bytes = rest;
        Ok(*taken)
    }
}

/// All of `state`: layout, checksum, values. Integers and floats are little-endian.
pub(crate) fn write(state: &impl State) -> Vec<u8> {
    let mut saver = Saver::default();
    state.save(&mut saver);
    let (layout, values) = saver.finish();
    let mut bytes = Vec::with_capacity(HEADER + values.len());
    bytes.extend_from_slice(&layout.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&values).to_le_bytes());
    bytes.extend_from_slice(&values);
    bytes
}

/// Reads what [`write`] wrote into `state`, which was made by the same settings.
pub(crate) fn read(state: &mut impl State, bytes: &[u8]) -> Result<(), Unreadable> {
    let mut from = Loader { bytes };
    let layout = u32::from_le_bytes(from.take()?);
    let checksum = u32::from_le_bytes(from.take()?);
    if crc32fast::hash(from.bytes) != checksum {
        return Err(Unreadable::Broken);
    }
    let mut own = Saver::default();
    state.save(&mut own);
    let (own, values) = own.finish();
    if layout != own {
        return Err(Unreadable::OtherLayout);
    }
    if values.len() != from.bytes.len() {
        return Err(Unreadable::Broken);
    }
    state.load(&mut from)
}

/// Implements [`State`] by naming every field: a new one does not compile until someone has said which kind it is.
///
/// The first braces hold what is carried; `given` what settings put there or leave out (an `Option`), carried where it
/// is; `fixed` what settings determine and scratch. `sound` is asked of what was read.
macro_rules! state {
    (
        $type:ident { $($kept:ident),+ $(,)? }
        $(given { $($given:ident),+ $(,)? })?
        $(fixed { $($fixed:ident),+ $(,)? })?
        $(sound $sound:expr)?
    ) => {
        impl $crate::state::State for $type {
            fn save(&self, out: &mut $crate::state::Saver) {
                let Self { $($kept,)+ $($($given,)+)? $($($fixed: _,)+)? } = self;
                $(
                    out.note(stringify!($kept));
                    $crate::state::State::save($kept, out);
                )+
                $($(
                    out.note(stringify!($given));
                    $given.iter().for_each(|given| $crate::state::State::save(given, out));
                )+)?
            }

            fn load(
                &mut self,
                from: &mut $crate::state::Loader<'_>,
            ) -> Result<(), $crate::state::Unreadable> {
                let Self { $($kept,)+ $($($given,)+)? $($($fixed: _,)+)? } = self;
                $($crate::state::State::load($kept, from)?;)+
                $($($given.iter_mut().try_for_each(|given| $crate::state::State::load(given, from))?;)+)?
                $(
                    let sound: fn(&Self) -> bool = $sound;
                    if !sound(self) {
                        return Err($crate::state::Unreadable::Broken);
                    }
                )?
                Ok(())
            }
        }
    };
}
pub(crate) use state;

macro_rules! numbers {
    ($($type:ident),+) => {
        $(impl State for $type {
            fn save(&self, out: &mut Saver) {
                out.put(stringify!($type), &self.to_le_bytes());
            }

            fn load(&mut self, from: &mut Loader<'_>) -> Result<(), Unreadable> {
                *self = Self::from_le_bytes(from.take()?);
                Ok(())
            }
        })+
    };
}
numbers!(u8, u16, u32, u64, i64, f32, f64);

impl State for bool {
    fn save(&self, out: &mut Saver) {
        out.put("bool", &[u8::from(*self)]);
    }

    fn load(&mut self, from: &mut Loader<'_>) -> Result<(), Unreadable> {
        let [byte] = from.take()?;
        *self = match byte {
            0 => false,
            1 => true,
            _ => return Err(Unreadable::Broken),
        };
        Ok(())
    }
}

impl State for usize {
    fn save(&self, out: &mut Saver) {
        (*self as u64).save(out);
    }

    fn load(&mut self, from: &mut Loader<'_>) -> Result<(), Unreadable> {
        *self = u64::from_le_bytes(from.take()?).try_into().map_err(|_| Unreadable::Broken)?;
        Ok(())
    }
}

/// As long with nothing in it as with something, so that the layout stays.
impl<T: State + Default> State for Option<T> {
    fn save(&self, out: &mut Saver) {
        self.is_some().save(out);
        self.as_ref().unwrap_or(&T::default()).save(out);
    }

    fn load(&mut self, from: &mut Loader<'_>) -> Result<(), Unreadable> {
        let (mut is_some, mut value) = (false, T::default());
        is_some.load(from)?;
        value.load(from)?;
        *self = is_some.then_some(value);
        Ok(())
    }
}

impl<T: State> State for [T] {
    fn save(&self, out: &mut Saver) {
        self.iter().for_each(|value| value.save(out));
    }

    fn load(&mut self, from: &mut Loader<'_>) -> Result<(), Unreadable> {
        self.iter_mut().try_for_each(|value| value.load(from))
    }
}

impl<T: State, const N: usize> State for [T; N] {
    fn save(&self, out: &mut Saver) {
        self.as_slice().save(out);
    }

    fn load(&mut self, from: &mut Loader<'_>) -> Result<(), Unreadable> {
        self.as_mut_slice().load(from)
    }
}

/// Its length is a setting and stays.
impl<T: State> State for Vec<T> {
    fn save(&self, out: &mut Saver) {
        self.as_slice().save(out);
    }

    fn load(&mut self, from: &mut Loader<'_>) -> Result<(), Unreadable> {
        self.as_mut_slice().load(from)
    }
}

impl<T: State + ?Sized> State for Box<T> {
    fn save(&self, out: &mut Saver) {
        (**self).save(out);
    }

    fn load(&mut self, from: &mut Loader<'_>) -> Result<(), Unreadable> {
        (**self).load(from)
    }
}

macro_rules! tuples {
    ($(($($part:ident $at:tt),+))+) => {
        $(impl<$($part: State),+> State for ($($part,)+) {
            fn save(&self, out: &mut Saver) {
                $(self.$at.save(out);)+
            }

            fn load(&mut self, from: &mut Loader<'_>) -> Result<(), Unreadable> {
                $(self.$at.load(from)?;)+
                Ok(())
            }
        })+
    };
}
tuples!((A 0, B 1) (A 0, B 1, C 2));

#[cfg(test)]
mod tests {
    use super::*;

    struct Pair {
        values: Vec<f32>,
        at: usize,
        steps: u32,
    }
    state!(Pair { values, at } fixed { steps } sound |p| p.at < p.values.len());

    struct Renamed {
        loads: Vec<f32>,
        at: usize,
    }
    state!(Renamed { loads, at });

    fn pair(length: usize, at: usize) -> Pair {
        Pair { values: vec![1.5; length], at, steps: 3 }
    }

    #[test]
    fn what_settings_determine_stays_and_what_is_carried_is_read() {
        let bytes = write(&pair(4, 2));
        let mut fresh = Pair { values: vec![0.0; 4], at: 0, steps: 7 };
        assert_eq!(read(&mut fresh, &bytes), Ok(()));
        assert_eq!((fresh.values, fresh.at, fresh.steps), (vec![1.5; 4], 2, 7));
    }

    #[test]
    fn another_length_or_name_is_another_layout() {
        assert_eq!(read(&mut pair(5, 0), &write(&pair(4, 2))), Err(Unreadable::OtherLayout));
        let mut renamed = Renamed { loads: vec![0.0; 4], at: 0 };
        assert_eq!(read(&mut renamed, &write(&pair(4, 2))), Err(Unreadable::OtherLayout));
    }

    #[test]
    fn every_flipped_bit_every_cut_and_an_index_out_of_range_is_noticed() {
        let bytes = write(&pair(4, 2));
        for bit in 0..8 * bytes.len() {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&mut pair(4, 0), &broken).is_err(), "bit {bit}");
            assert!(read(&mut pair(4, 0), &bytes[..bit / 8]).is_err(), "cut at {}", bit / 8);
        }
        assert_eq!(read(&mut pair(4, 0), &write(&pair(4, 4))), Err(Unreadable::Broken));
    }
}
