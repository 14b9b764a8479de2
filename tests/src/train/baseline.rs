//! Baseline data sets: what a training read, in one file, so that a later model can be trained and compared on the same.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use prescale_models::neural::training::hash;

use crate::forecast::trace::Trace;

/// The first bytes of a file, with the version of what follows: checksum, number of series, series. Numbers are
/// little-endian.
const MAGIC: &[u8; 20] = b"prescale-baseline-1\n";

/// More series than this are no file of ours: the nightly training's workloads are fewer.
const MOST_SERIES: u32 = 10_000;

/// A file of more bytes than this isn't read: 400 series of [`super::data`]'s most bins.
const MOST_BYTES: u64 = 128 << 20;

/// Of series' names, times and counts: those of two trainings are equal where they read the same.
pub fn checksum(series: &[Trace]) -> u64 {
    hash(&encode(series))
}

/// Writes `series`.
///
/// # Errors
/// If the file can't be written, or would be too large to be read again.
pub fn save(path: &Path, series: &[Trace]) -> Result<()> {
    let values = encode(series);
    let bytes = [&MAGIC[..], &hash(&values).to_le_bytes(), &values].concat();
    ensure!(
        bytes.len() as u64 <= MOST_BYTES && series.len() <= MOST_SERIES as usize,
        "too much for one file"
    );
    fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}

/// Reads what [`save`] wrote, to the bit.
///
/// # Errors
/// If the file can't be read, is no baseline data set of this version, or not what was written.
pub fn load(path: &Path) -> Result<Vec<Trace>> {
    let read = || {
        ensure!(fs::metadata(path)?.len() <= MOST_BYTES, "it is too large");
        parse(&fs::read(path)?)
    };
    read().with_context(|| format!("read the baseline data set {}", path.display()))
}

fn encode(series: &[Trace]) -> Vec<u8> {
    let mut out = (series.len() as u32).to_le_bytes().to_vec();
    for it in series {
        out.extend((it.name.len() as u32).to_le_bytes());
        out.extend(it.name.as_bytes());
        out.extend(it.start.to_le_bytes());
        out.extend(it.step_seconds.to_le_bytes());
        out.extend((it.counts.len() as u32).to_le_bytes());
        out.extend(it.counts.iter().flat_map(|count| count.to_le_bytes()));
    }
    out
}

fn parse(bytes: &[u8]) -> Result<Vec<Trace>> {
    let Some(rest) = bytes.strip_prefix(MAGIC) else { bail!("it is none, or of another version") };
    let (checksum, values) = rest.split_first_chunk().context("it is cut short")?;
    ensure!(
        hash(values) == u64::from_le_bytes(*checksum),
        "its checksum says that it was changed or cut short"
    );
    let mut from = values;
    let count = u32::from_le_bytes(take(&mut from)?);
    ensure!(count <= MOST_SERIES, "{count} series are too many");
    let mut series = Vec::new();
    for _ in 0..count {
        let length = u32::from_le_bytes(take(&mut from)?) as usize;
        let (name, rest) = from.split_at_checked(length).context("it is cut short")?;
        from = rest;
        let name = String::from_utf8(name.to_vec()).context("a name is no text")?;
        let start = i64::from_le_bytes(take(&mut from)?);
        let step_seconds = u32::from_le_bytes(take(&mut from)?);
        ensure!(step_seconds > 0 && 86_400 % step_seconds == 0, "{name}: bins don't divide a day");
        let bins = u32::from_le_bytes(take(&mut from)?);
        // As many as there are bytes for: the length is not believed before.
        let counts =
            (0..bins).map(|_| Ok(f64::from_le_bytes(take(&mut from)?))).collect::<Result<Vec<_>>>()?;
        ensure!(counts.iter().all(|count| count.is_finite()), "{name}: a count is not finite");
        series.push(Trace { name, start, step_seconds, counts });
    }
    ensure!(from.is_empty(), "more follows than it says");
    Ok(series)
}

fn take<const N: usize>(from: &mut &[u8]) -> Result<[u8; N]> {
    let (taken, rest) = from.split_first_chunk().context("it is cut short")?;
    *from = rest;
    Ok(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::data::{Part, training_part};

    fn series() -> Vec<Trace> {
        let trace = |name: &str, step_seconds, n: usize| Trace {
            name: name.into(),
            start: 1_700_000_040,
            step_seconds,
            counts: (0..n).map(|i| (i * 7919 % 101) as f64 / 3.0).collect(),
        };
        [trace("a", 60, 4000), trace("b\u{e9}", 300, 3000)].map(|it| training_part(&it).unwrap()).into()
    }

    #[test]
    fn a_network_learns_the_same_from_what_was_saved() {
        let path = std::env::temp_dir().join(format!("prescale-baseline-{}", std::process::id()));
        save(&path, &series()).unwrap();
        let loaded = load(&path);
        fs::remove_file(&path).unwrap();
        let loaded = loaded.unwrap();
        assert_eq!((&loaded, checksum(&loaded)), (&series(), checksum(&series())));
        for (loaded, original) in loaded.into_iter().zip(series()) {
            assert_eq!(Part::of(loaded).unwrap().lesson, Part::of(original).unwrap().lesson);
        }
        assert!(load(&path).is_err(), "it is gone");
    }

    #[test]
    fn what_was_changed_cut_or_is_of_another_version_is_refused() {
        let values = encode(&series()[..1]);
        let whole = [&MAGIC[..], &hash(&values).to_le_bytes(), &values].concat();
        assert!(parse(&whole).is_ok());
        for at in (0..200).chain([whole.len() / 2, whole.len() - 1]) {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(parse(&changed).is_err(), "byte {at}");
            assert!(parse(&whole[..at]).is_err(), "cut at {at}");
        }
        // Sound by its checksum, but it says what can't be.
        let sealed = |values: &[u8]| parse(&[&MAGIC[..], &hash(values).to_le_bytes(), values].concat());
        assert!(sealed(&u32::MAX.to_le_bytes()).is_err());
        assert!(sealed(&[&values[..], &[0]].concat()).is_err());
        let broken = Trace { counts: vec![f64::NAN], ..series().remove(0) };
        assert!(sealed(&encode(&[broken])).is_err());
    }
}
