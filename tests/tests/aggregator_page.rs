//! The page against what feeds it: every field that its script names is one that the API or the demo writes.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Words of lower case with an underscore: our JSON names are such, the script's own names are not.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let fits = |word: &&str| {
        word.contains('_') && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    words.filter(fits).map(str::to_owned).collect()
}

#[test]
fn every_field_that_the_page_reads_is_written_by_someone() {
    let views = ["core/src/view.rs", "core/src/view/scores.rs", "aggregator/src/api.rs"];
    let written = views.map(read).concat() + &read("tests/src/demo/report.rs");
    let written = names(&written);
    let mut found = 0;
    for script in ["page.js", "charts.js", "panels.js", "comparison.js"] {
        let named = names(&read(&format!("aggregator/src/page/{script}")));
        found += named.len();
        let unknown: Vec<_> = named.difference(&written).collect();
        assert!(unknown.is_empty(), "{script} reads {unknown:?}, which nobody writes");
    }
    assert!(found > 20, "only {found} names: this test looks in the wrong place");
}
