//! A strict reader of the OpenMetrics text that our binaries serve: what a scraper would stumble over is an error.

use std::collections::{BTreeMap, BTreeSet};

/// A sample: its full name, its labels, its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// With `_total`, `_bucket` and so on.
    pub name: String,
    /// By name.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// What a page says.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Type of each family.
    pub families: BTreeMap<String, String>,
    /// In the order of the page.
    pub samples: Vec<Sample>,
}

impl Page {
    /// The only sample of this name whose labels include `labels`.
    ///
    /// # Panics
    /// When there is none or more than one.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |s: &&Sample| {
            s.name == name && labels.iter().all(|(k, v)| s.labels.get(*k).is_some_and(|found| found == v))
        };
        let found: Vec<&Sample> = self.samples.iter().filter(fits).collect();
        assert_eq!(found.len(), 1, "{name}{labels:?}: {found:?}");
        found[0].value
    }
}

/// Reads a page.
///
/// # Errors
/// The first line that breaks a rule, and which.
pub fn read(text: &str) -> Result<Page, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("it does not end with `# EOF`")?;
    let mut page = Page::default();
    let mut helped = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut current = String::new();
    for line in body.lines() {
        let err = |what: &str| Err(format!("{what}: {line}"));
        if let Some(help) = line.strip_prefix("# HELP ") {
            let Some((name, words)) = help.split_once(' ') else { return err("help without words") };
            if !helped.insert(name.to_owned()) {
                return err("help twice");
            }
            if words.len() < 5 || !words.ends_with('.') {
                return err("help that helps nobody");
            }
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let Some((name, kind)) = kind.split_once(' ') else { return err("type without a type") };
            if !["counter", "gauge", "histogram", "info"].contains(&kind) {
                return err("unknown type");
            }
            if !helped.contains(name) || page.families.insert(name.to_owned(), kind.to_owned()).is_some() {
                return err("type without help, or twice");
            }
            current = name.to_owned();
        } else if line.starts_with("# UNIT ") {
        } else if line.starts_with('#') {
            return err("unknown comment");
        } else {
            let sample = sample(line).map_err(|what| format!("{what}: {line}"))?;
            let endings: &[&str] = match page.families.get(&current).map(String::as_str) {
                Some("counter") => &["_total"],
                Some("gauge") => &[""],
                Some("histogram") => &["_bucket", "_sum", "_count"],
                Some("info") => &["_info"],
                _ => return err("sample outside of a family"),
            };
            if !endings.iter().any(|ending| sample.name == format!("{current}{ending}")) {
                return err("sample of another family");
            }
            if !seen.insert(format!("{}{:?}", sample.name, sample.labels)) {
                return err("the same series twice");
            }
            page.samples.push(sample);
        }
    }
    Ok(page)
}

fn sample(line: &str) -> Result<Sample, &'static str> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    if !is_name(name) {
        return Err("no name of a metric");
    }
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (key, after) = rest.split_once("=\"").ok_or("no label")?;
            if !is_name(key) {
                return Err("no name of a label");
            }
            let (value, after) = quoted(after).ok_or("a label's value does not end")?;
            if labels.insert(key.to_owned(), value).is_some() {
                return Err("a label twice");
            }
            match after.chars().next() {
                Some(',') => rest = &after[1..],
                Some('}') => {
                    rest = &after[1..];
                    break;
                }
                _ => return Err("labels don't end"),
            }
        }
    }
    let value = rest.strip_prefix(' ').ok_or("no value")?;
    let value: f64 = value.parse().map_err(|_| "no number")?;
    if value.is_finite() { Ok(Sample { name: name.to_owned(), labels, value }) } else { Err("not finite") }
}

/// The text up to the closing quotation mark, escapes resolved, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                c @ ('"' | '\\') => value.push(c),
                _ => return None,
            },
            '\n' => return None,
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "# HELP a_b Some words.\n# TYPE a_b counter\na_b_total{x=\"1,\\\"}\",y=\"\"} 3\n# EOF\n";

    #[test]
    fn reads_a_page() {
        let page = read(GOOD).unwrap();
        assert_eq!(page.value("a_b_total", &[("x", "1,\"}")]), 3.0);
        assert_eq!(page.families["a_b"], "counter");
    }

    #[test]
    fn stumbles_over_what_a_scraper_would() {
        for (from, to) in [
            ("# EOF\n", ""),
            ("a_b_total{", "a_c_total{"),
            ("a_b_total{", "a_b{"),
            ("} 3", "} NaN"),
            ("} 3", "}"),
            ("y=\"\"", "x=\"\""),
            ("y=\"\"", "Y=\"\""),
            ("y=\"\"", "y=\"\\q\""),
            ("# TYPE a_b counter\n", ""),
            ("counter", "widget"),
            ("# HELP a_b Some words.\n", ""),
            ("# EOF", "a_b_total{x=\"1,\\\"}\",y=\"\"} 4\n# EOF"),
        ] {
            let bad = GOOD.replacen(from, to, 1);
            assert_ne!(bad, GOOD);
            assert!(read(&bad).is_err(), "{bad}");
        }
    }
}
