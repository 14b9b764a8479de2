//! A recorded trace: `*.csv.gz` with the columns `timestamp,value`, one regular bin a row.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::MultiGzDecoder;

/// Rows beyond this are not a trace of ours: a year of 10 s bins.
const MAX_BINS: usize = 3_200_000;

/// Counts per bin on a regular grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// File name without `.csv.gz`.
    pub name: String,
    /// Unix seconds of the first bin's start.
    pub start: i64,
    /// Length of a bin.
    pub step_seconds: u32,
    /// Requests per bin.
    pub counts: Vec<f64>,
}

impl Trace {
    /// Reads one file.
    ///
    /// # Errors
    /// If it can't be read, is no gzip CSV of two columns, or its bins are not regular.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let mut text = String::new();
        MultiGzDecoder::new(file)
            .read_to_string(&mut text)
            .with_context(|| format!("unpack {}", path.display()))?;
        let name = name_of(path).with_context(|| format!("{} is no *.csv.gz", path.display()))?;
        Self::parse(name, &text).with_context(|| format!("read {}", path.display()))
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// As [`Trace::read`].
    pub fn parse(name: String, text: &str) -> Result<Self> {
        let mut counts = Vec::new();
        let mut times = [0; 2];
        let rows = text.lines().skip(1).filter(|row| !row.is_empty());
        for (i, row) in rows.enumerate() {
            ensure!(i < MAX_BINS, "more than {MAX_BINS} bins");
            let (time, value) = row.split_once(',').with_context(|| format!("row {i} has no comma"))?;
            if i < 2 {
                times[i] = parse_time(time)?;
            }
            let value: f64 = value.trim().parse().with_context(|| format!("row {i}: {value:?}"))?;
            ensure!(value.is_finite(), "row {i}: {value} is not finite");
            counts.push(value);
        }
        ensure!(counts.len() >= 2, "fewer than two bins");
        let step = times[1] - times[0];
        ensure!(step > 0 && 86_400 % step == 0, "bins of {step} s don't divide a day");
        Ok(Self { name, start: times[0], step_seconds: step as u32, counts })
    }

    /// Index of bin `i` on the grid of its step: Unix seconds divided by the step.
    ///
    /// Bins that don't start on a multiple of the step keep their order and their distance.
    pub fn index(&self, i: usize) -> i64 {
        self.start.div_euclid(i64::from(self.step_seconds)) + i as i64
    }

    /// Requests/s in bin `i`.
    pub fn rate(&self, i: usize) -> f64 {
        self.counts[i] / f64::from(self.step_seconds)
    }

    /// Requests/s by index, as one who stands at bin `i` knows them: that bin and those before.
    ///
    /// # Panics
    /// If it is asked for a later bin: whoever does looks ahead.
    pub fn known_at(&self, i: usize) -> impl Fn(i64) -> Option<f64> + '_ {
        move |index| {
            let asked = usize::try_from(index - self.index(0)).ok()?;
            assert!(asked <= i, "bin {asked} is asked for at bin {i}: that is looking ahead");
            Some(self.rate(asked))
        }
    }

    /// ISO time of bin `i`, as in the files.
    pub fn time(&self, i: usize) -> String {
        format_time(self.start + i as i64 * i64::from(self.step_seconds))
    }
}

/// The `*.csv.gz` files of a directory, by name.
///
/// # Errors
/// If it can't be read or holds none.
pub fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if name_of(&path).is_some() {
            files.push(path);
        }
    }
    if files.is_empty() {
        bail!("{} holds no *.csv.gz", directory.display());
    }
    files.sort();
    Ok(files)
}

fn name_of(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.strip_suffix(".csv.gz")?.to_owned())
}

/// Unix seconds of `YYYY-MM-DDTHH:MM:SSZ`.
fn parse_time(text: &str) -> Result<i64> {
    let fields: Option<Vec<i64>> =
        [0..4, 5..7, 8..10, 11..13, 14..16, 17..19].into_iter().map(|r| text.get(r)?.parse().ok()).collect();
    let Some(&[year, month, day, hour, minute, second]) = fields.as_deref() else {
        bail!("{text:?} is no time like 2024-01-31T12:00:00Z");
    };
    // Days from civil (Hinnant, "chrono-compatible low-level date algorithms"): years start in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, yoe) = (y.div_euclid(400), y.rem_euclid(400));
    let days = era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Ok(days * 86_400 + hour * 3600 + minute * 60 + second)
}

fn format_time(unix: i64) -> String {
    let (days, second) = (unix.div_euclid(86_400) + 719_468, unix.rem_euclid(86_400));
    let (era, doe) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let m = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * m + 2) / 5 + 1, if m < 10 { m + 3 } else { m - 9 });
    let year = era * 400 + yoe + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_both_ways() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (-86_400, "1969-12-31T00:00:00Z"),
        ] {
            assert_eq!(parse_time(text).unwrap(), unix);
            assert_eq!(format_time(unix), text);
        }
    }

    #[test]
    fn a_broken_file_is_an_error_that_says_what() {
        let message = |text: &str| format!("{:#}", Trace::parse("x".into(), text).unwrap_err());
        assert!(message("timestamp,value\n1970-01-01T00:00:00Z,1\n").contains("fewer than two"));
        assert!(message("timestamp,value\n1970,1\n1971,2\n").contains("is no time"));
        assert!(message("t,v\n1970-01-01T00:00:00Z,1\n1970-01-01T00:01:00Z,x\n").contains("row 1"));
    }
}
