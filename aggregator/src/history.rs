//! Reads `--history`: load from before our time, one line per workload and bin.

use std::collections::BTreeMap;
use std::io::BufRead;

use anyhow::{Context as _, bail};
use prescale_core::Wall;
use prescale_core::units::RequestsPerSecond;
use prescale_core::world::WorkloadId;

/// The first line.
pub const HEAD: &str = "namespace,workload,unix_seconds,requests_per_second";
/// 15 days at 1 s for four workloads, or at 1 min for 240; a wrong file ends here instead of filling the memory.
pub const MAX_LINES: usize = 5_200_000;
/// Longest line that is looked at: two names of 253 bytes and two numbers.
const MAX_LINE_BYTES: usize = 1024;
/// The bins' length may be a day at most; beyond that the line is more likely in the wrong unit.
const MAX_STEP_SECONDS: i64 = 86_400;

/// A workload's bins, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Bins {
    /// Length of a bin, seconds; bins may be missing, then there is a gap of a whole number of them.
    pub step_seconds: i64,
    /// Start and mean load of each bin.
    pub bins: Vec<(Wall, RequestsPerSecond)>,
}

/// Reads it all.
///
/// # Errors
/// The number of the first line that is wrong and what is wrong with it.
pub fn read(input: impl BufRead) -> anyhow::Result<BTreeMap<WorkloadId, Bins>> {
    let mut found: BTreeMap<WorkloadId, Bins> = BTreeMap::new();
    let mut lines = input.split(b'\n').zip(1usize..);
    let first = lines.next().map(|(line, _)| line).transpose().context("can't read it")?.unwrap_or_default();
    if first.trim_ascii() != HEAD.as_bytes() {
        bail!("line 1: want `{HEAD}`");
    }
    for (line, number) in lines {
        if number > MAX_LINES {
            bail!("line {number}: more than {MAX_LINES} lines");
        }
        let line = line.with_context(|| format!("line {number}: can't be read"))?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        add(&mut found, &line).with_context(|| format!("line {number}"))?;
    }
    if found.is_empty() {
        bail!("no line after the first: no history");
    }
    Ok(found)
}

fn add(found: &mut BTreeMap<WorkloadId, Bins>, line: &[u8]) -> anyhow::Result<()> {
    if line.len() > MAX_LINE_BYTES {
        bail!("longer than {MAX_LINE_BYTES} bytes");
    }
    let text = std::str::from_utf8(line).context("no UTF-8")?.trim_end_matches('\r');
    let fields: Vec<&str> = text.split(',').collect();
    let [namespace, name, seconds, load] = fields[..] else {
        bail!("want 4 fields ({HEAD}), found {}", fields.len());
    };
    if namespace.is_empty() || name.is_empty() {
        bail!("namespace and workload can't be empty");
    }
    let start: i64 = seconds
        .parse()
        .ok()
        // The year 9999: beyond it the time is in milliseconds or worse.
        .filter(|s| (0..253_402_300_800i64).contains(s))
        .with_context(|| format!("`{seconds}` is no Unix time in whole seconds"))?;
    let load = load
        .parse()
        .ok()
        .and_then(|load: f64| RequestsPerSecond::new(load).ok())
        .with_context(|| format!("`{load}` is no load: want a finite number of at least 0"))?;
    let id = WorkloadId { namespace: namespace.to_owned(), name: name.to_owned() };
    let bins = found.entry(id).or_insert_with(|| Bins { step_seconds: 0, bins: Vec::new() });
    if let Some((last, _)) = bins.bins.last() {
        let step = start - last.unix_seconds();
        if step <= 0 {
            bail!("{start} is not after {}, the workload's line before", last.unix_seconds());
        }
        if bins.step_seconds == 0 {
            if step > MAX_STEP_SECONDS {
                bail!("{step} s after the workload's line before: a bin is at most a day");
            }
            bins.step_seconds = step;
        }
        if step % bins.step_seconds != 0 {
            bail!(
                "{start} is {step} s after the workload's line before: no multiple of its bins' {} s",
                bins.step_seconds
            );
        }
    }
    bins.bins.push((Wall(start * 1000), load));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(lines: &str) -> String {
        format!("{:#}", read(format!("{HEAD}\n{lines}").as_bytes()).unwrap_err())
    }

    #[test]
    fn reads_workloads_that_alternate_and_bins_with_gaps() {
        let text = format!("{HEAD}\r\na,web,60,1.5\na,api,0,7\na,web,120,2\n\na,web,240,0\r\na,api,10,8\n");
        let found = read(text.as_bytes()).unwrap();
        let id = |name: &str| WorkloadId { namespace: "a".into(), name: name.into() };
        let load = |value| RequestsPerSecond::new(value).unwrap();
        let web = &found[&id("web")];
        assert_eq!(web.step_seconds, 60);
        assert_eq!(
            web.bins,
            [(Wall(60_000), load(1.5)), (Wall(120_000), load(2.0)), (Wall(240_000), load(0.0))]
        );
        assert_eq!(found[&id("api")].step_seconds, 10);
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn names_the_line_that_is_wrong_and_what_is_wrong() {
        assert!(error("").contains("no history"));
        assert!(format!("{:#}", read(&b"a,b\n"[..]).unwrap_err()).starts_with("line 1: want `namespace"));
        for (lines, number, what) in [
            ("a,b,0,1\na,b,60", 3, "found 3"),
            ("a,b,c,0,1", 2, "found 5"),
            (",b,0,1", 2, "empty"),
            ("a,b,1.5,1", 2, "whole seconds"),
            ("a,b,1700000000000000,1", 2, "whole seconds"),
            ("a,b,0,NaN", 2, "finite"),
            ("a,b,0,-1", 2, "finite"),
            ("a,b,0,1\na,b,0,1", 3, "not after 0"),
            ("a,b,0,1\na,b,60,1\n\na,b,150,1", 5, "no multiple of its bins' 60 s"),
            ("a,b,0,1\na,b,90000,1", 3, "at most a day"),
        ] {
            let error = error(lines);
            assert!(
                error.starts_with(&format!("line {number}: ")) && error.contains(what),
                "{lines:?}: {error}"
            );
        }
        let not_text = [HEAD.as_bytes(), b"\na,\xff,0,1\n"].concat();
        assert!(format!("{:#}", read(&not_text[..]).unwrap_err()).starts_with("line 2: no UTF-8"));
        assert!(error(&"x".repeat(2000)).contains("longer than"));
    }
}
