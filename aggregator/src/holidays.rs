//! Reads `--holidays`: names with their dates, as JSON.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use prescale_models::Holidays;

/// As many names and dates as there may be, with names of a line each.
const MAX_BYTES: u64 = 64 * 1024;

/// Reads a file.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn read(path: &Path) -> anyhow::Result<Holidays> {
    let file = File::open(path).context("can't open it")?;
    let mut text = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut text).context("can't read it")?;
    ensure!(text.len() as u64 <= MAX_BYTES, "more than {MAX_BYTES} bytes");
    let named: BTreeMap<String, Vec<String>> = serde_json::from_slice(&text)
        .context(r#"want names with their dates, as in {"sale": ["2026-11-27", "2026-12-24"]}"#)?;
    Ok(Holidays::of(named)?)
}
