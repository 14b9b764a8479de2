//! The invariants of ARCHITECTURE.md and STYLE, checked on the tree's text: purity, headers, lints, docs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Packages of the workspace, `core/fuzz` (a workspace of its own) included.
const PACKAGES: &[&str] =
    &["agent", "agent-ebpf", "aggregator", "core", "core/fuzz", "models", "shell", "tests", "xtask"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace exists")
}

/// Files below `dir` whose name ends with `ending`, build output left out.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.expect("a readable entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && name != ".git" {
                    open.push(path);
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Code without its line comments, so that prose may name what code may not use.
fn code(path: &Path) -> String {
    text(path).lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn pure_crates_stay_pure() {
    // What reads the world, or differs between machines and runs.
    const FORBIDDEN: &[&str] = &[
        "std::fs",
        "std::net",
        "std::env",
        "std::process",
        "std::thread",
        "std::os",
        "std::io",
        "Instant",
        "SystemTime",
        "HashMap",
        "HashSet",
        "static mut",
        "thread_local",
    ];
    // Their last bits differ between platforms' libraries; `libm` gives the same everywhere.
    const TRANSCENDENTAL: &[&str] = &[
        ".exp()",
        ".exp2()",
        ".exp_m1()",
        ".ln()",
        ".ln_1p()",
        ".log(",
        ".log2()",
        ".log10()",
        ".powf(",
        ".sin()",
        ".cos()",
        ".tan()",
        ".tanh()",
        ".atan2(",
        ".cbrt()",
        ".hypot(",
        ".powi(",
        ".mul_add(",
    ];
    let mut complaints = Vec::new();
    for dir in ["models/src", "core/src"] {
        for path in files(&root().join(dir), ".rs") {
            let code = code(&path);
            for word in FORBIDDEN.iter().chain(TRANSCENDENTAL).filter(|word| code.contains(*word)) {
                complaints.push(format!("{}: `{word}` in a pure crate", path.display()));
            }
        }
    }
    assert_none(&complaints);
}

#[test]
fn pure_crates_depend_on_pure_crates() {
    let allowed: BTreeSet<&str> = [
        "crc32fast",
        "libm",
        "linfa",
        "linfa-trees",
        "ndarray",
        "postcard",
        "prescale-agent-ebpf",
        "prescale-models",
        "prost",
        "safetensors",
        "serde",
        "thiserror",
    ]
    .into();
    let mut complaints = Vec::new();
    for package in ["models", "core"] {
        let manifest = text(&root().join(package).join("Cargo.toml"));
        let section = manifest.split("[dependencies]").nth(1).and_then(|rest| rest.split("\n[").next());
        for line in section.unwrap_or("").lines().filter(|line| !line.trim().is_empty()) {
            let name = line.split(['.', ' ', '=']).next().unwrap_or("");
            if !allowed.contains(name) && !name.starts_with('#') {
                complaints.push(format!("{package} depends on {name}"));
            }
        }
        if package == "models" && manifest.contains("prescale-core") {
            complaints.push("models depends on core: it must know nothing of the cluster".into());
        }
    }
    assert_none(&complaints);
}

#[test]
fn every_source_file_says_what_it_owns() {
    let mut complaints = Vec::new();
    for path in files(&root(), ".rs") {
        if !text(&path).starts_with("//! ") {
            complaints.push(format!("{}: the first line is no `//! ` header", path.display()));
        }
    }
    assert_none(&complaints);
}

#[test]
fn every_manifest_opts_into_the_lints() {
    let mut complaints = Vec::new();
    for package in PACKAGES {
        let manifest = text(&root().join(package).join("Cargo.toml"));
        let own_workspace = manifest.contains("[workspace]");
        if !own_workspace && !manifest.contains("[lints]\nworkspace = true") {
            complaints.push(format!("{package}/Cargo.toml: no `[lints] workspace = true`"));
        }
    }
    let manifests = files(&root(), "Cargo.toml").len();
    assert_eq!(manifests, PACKAGES.len() + 1, "a package is missing in this test's list");
    assert_none(&complaints);
}

#[test]
fn unsafe_stays_where_it_may_be() {
    let mut complaints = Vec::new();
    for path in files(&root(), ".rs") {
        let place = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
        let may = place.starts_with("agent-ebpf/")
            || place.starts_with("agent/src/kernel")
            || place.contains("tidy");
        let code = code(&path);
        let forms =
            ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "#[unsafe(", "allow(unsafe_code"];
        if !may && forms.iter().any(|form| code.contains(form)) {
            complaints.push(format!("{place}: unsafe"));
        }
    }
    assert_none(&complaints);
}

#[test]
fn files_fit_one_sitting() {
    let mut lengths: Vec<(usize, PathBuf)> =
        files(&root(), ".rs").into_iter().map(|path| (text(&path).lines().count(), path)).collect();
    lengths.sort();
    let nine_in_ten = &lengths[lengths.len() * 9 / 10];
    assert!(nine_in_ten.0 <= 500, "nine in ten files should stay under 500 lines: {nine_in_ten:?}");
    let longest = lengths.last().expect("there are sources");
    assert!(longest.0 <= 800, "too long for one sitting: {longest:?}");
}

/// Words in backticks, taken apart at spaces.
fn words_in_backticks(markdown: &str) -> Vec<String> {
    let inline = markdown.lines().filter(|line| !line.starts_with("```"));
    inline
        .flat_map(|line| line.split('`').skip(1).step_by(2).flat_map(str::split_whitespace).map(String::from))
        .collect()
}

#[test]
fn the_map_names_files_that_exist() {
    let mut complaints = Vec::new();
    for word in words_in_backticks(&text(&root().join("ARCHITECTURE.md"))) {
        let is_path =
            word.contains('/') && !word.contains(['<', '…', '{', '*', '=', ':']) && !word.starts_with('/');
        if is_path && !root().join(&word).exists() {
            complaints.push(format!("ARCHITECTURE.md names {word}, which does not exist"));
        }
    }
    assert_none(&complaints);
}

#[test]
fn every_reason_is_documented() {
    use prescale_core::plan::{Gate, Limiter};
    let words: BTreeSet<String> =
        words_in_backticks(&text(&root().join("docs/planning.md"))).into_iter().collect();
    let gates = Gate::ALL.iter().map(|gate| gate.name());
    let undocumented: Vec<String> = Limiter::ORDER
        .iter()
        .map(|limiter| limiter.name())
        .chain(gates)
        .filter(|name| !words.contains(*name))
        .map(|name| format!("docs/planning.md does not explain {name}"))
        .collect();
    assert_none(&undocumented);
}

#[test]
fn annotations_and_their_events_are_documented() {
    use prescale_core::annotations::{Annotation, PREFIX};
    let words: BTreeSet<String> =
        words_in_backticks(&text(&root().join("docs/annotations.md"))).into_iter().collect();
    let known = Annotation::ALL.map(Annotation::name);
    let mut complaints: Vec<String> = known
        .iter()
        .filter(|name| !words.contains(**name))
        .map(|name| format!("docs/annotations.md does not explain {name}"))
        .collect();
    for word in words.iter().filter(|word| word.starts_with(PREFIX)) {
        let ours = word == prescale_core::standing::FLOOR_ANNOTATION;
        if !ours && !known.iter().any(|name| word.trim_end_matches('-') == *name) {
            complaints.push(format!("docs/annotations.md names {word}, which does not exist"));
        }
    }
    // Events' reasons are words of their own in the code that makes them.
    let target = root().join("aggregator/src/target/kubernetes/writes.rs");
    let code = text(&root().join("core/src/standing.rs")) + &text(&target);
    for row in text(&root().join("docs/annotations.md"))
        .lines()
        .filter(|line| line.contains("| Warning |") || line.contains("| Normal |"))
    {
        let reason = row.split('`').nth(1).unwrap_or("");
        if !code.contains(&format!("\"{reason}\"")) {
            complaints.push(format!("docs/annotations.md: no Event has the reason {reason}"));
        }
    }
    assert_none(&complaints);
}

/// Names of metrics in a text: `prescale_agent_…`, `prescale_aggregator_…`, `prescale_http_…`.
fn metric_names(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| {
            ["prescale_agent_", "prescale_aggregator_", "prescale_http_"].iter().any(|p| word.starts_with(p))
                && !word.starts_with("prescale_agent_ebpf")
        })
        .map(String::from)
        .collect()
}

#[test]
fn documented_metrics_are_those_of_the_code() {
    // prometheus-client adds the suffix of counters, histograms and infos itself, so code and docs meet without it.
    let strip = |names: BTreeSet<String>| -> BTreeSet<String> {
        let endings = ["_total", "_bucket", "_count", "_sum", "_info"];
        let bare = |name: String| {
            endings.iter().find_map(|e| name.strip_suffix(e).map(String::from)).unwrap_or(name)
        };
        names.into_iter().map(bare).collect()
    };
    let documented = strip(metric_names(&text(&root().join("docs/metrics.md"))));
    let code: String = ["agent/src", "aggregator/src"]
        .iter()
        .flat_map(|dir| files(&root().join(dir), ".rs"))
        .filter(|path| path.to_string_lossy().contains("metrics"))
        .map(|path| code(&path))
        .collect();
    let in_code = strip(metric_names(&code));
    assert!(!in_code.is_empty(), "no metric name found in the code: this test looks in the wrong place");
    assert_eq!(documented, in_code, "docs/metrics.md (left) and the code (right) name different metrics");
}

#[test]
fn documented_flags_exist() {
    let sources: String =
        PACKAGES.iter().flat_map(|p| files(&root().join(p), ".rs")).map(|p| text(&p)).collect();
    let mut documents = files(&root().join("docs"), ".md");
    documents.push(root().join("README.md"));
    documents.push(root().join("ARCHITECTURE.md"));
    // Flags of programs that are not ours.
    let foreign: BTreeSet<&str> = [
        "--create-namespace",
        "--h1",
        "--no-hooks",
        "--release",
        "--tool",
        "--include-ignored",
        "--ignored",
        "--test-threads",
        "--workspace",
        "--per-trace",
        "--traces",
    ]
    .into();
    let mut complaints = Vec::new();
    for document in documents {
        for word in words_in_backticks(&text(&document)) {
            let flag = word.split(['=', '|', ']', ',']).next().unwrap_or("").trim_start_matches('[');
            let Some(name) = flag.strip_prefix("--").filter(|name| !name.is_empty()) else { continue };
            let field = name.replace('-', "_");
            let known =
                [format!("{field}:"), format!("{field} {{"), format!("\"{flag}\""), format!("\"{name}\"")];
            if !foreign.contains(flag) && !known.iter().any(|form| sources.contains(form.as_str())) {
                complaints.push(format!("{}: no program takes {flag}", document.display()));
            }
        }
    }
    assert_none(&complaints);
}

/// What the chart shows and alarms on.
fn monitoring() -> String {
    let chart = root().join("deploy/helm/prescale");
    let dashboards = files(&chart.join("dashboards"), ".json");
    assert!(!dashboards.is_empty(), "no dashboard found: this looks in the wrong place");
    dashboards.iter().map(|path| text(path)).collect::<String>() + &text(&chart.join("alerts/rules.yaml"))
}

#[test]
fn dashboards_and_alerts_ask_for_metrics_that_exist() {
    let documented = metric_names(&text(&root().join("docs/metrics.md")));
    let known: BTreeSet<&str> = documented.iter().map(String::as_str).collect();
    let mut complaints = Vec::new();
    for word in monitoring().split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        // What a histogram consists of is documented under its name.
        let bare =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
        if word.starts_with("prescale_") && !known.contains(word) && !known.contains(bare) {
            complaints.push(format!(
                "a dashboard or an alert asks for {word}, which docs/metrics.md does not know"
            ));
        }
    }
    assert_none(&complaints);
}

#[test]
fn dashboards_and_alerts_name_reasons_that_exist() {
    use prescale_core::plan::{Gate, Limiter};
    let limiters = Limiter::ORDER.iter().map(|limiter| limiter.name());
    let known: Vec<&str> = limiters.chain(Gate::ALL.iter().map(|gate| gate.name())).collect();
    // As in `reason=~"data_.+|no_forecast"`, its quotes escaped in a dashboard.
    let monitoring = monitoring().replace('\\', "");
    let matchers: Vec<&str> = ["reason=\"", "reason=~\"", "reason!=\""]
        .iter()
        .flat_map(|form| monitoring.split(form).skip(1))
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(matchers.len() > 5, "few reasons found: this looks in the wrong place: {matchers:?}");
    let mut complaints = Vec::new();
    for reason in matchers.iter().flat_map(|matcher| matcher.split('|')) {
        let found = match reason.strip_suffix(".+") {
            Some(start) => known.iter().any(|name| name.starts_with(start)),
            None => known.contains(&reason),
        };
        if !found {
            complaints
                .push(format!("a dashboard or an alert waits for the reason {reason}, which does not exist"));
        }
    }
    assert_none(&complaints);
}

#[test]
fn the_sample_is_annotated_as_the_code_reads_it() {
    let mut found = 0;
    for path in files(&root().join("deploy/sample"), ".yaml") {
        let text = text(&path);
        let lines = text.lines().map(str::trim).filter_map(|line| line.split_once(": "));
        let own: Vec<(&str, &str)> = lines
            .filter(|(key, _)| key.starts_with("prescale.dev/"))
            .map(|(key, value)| (key, value.trim_matches('"')))
            .collect();
        found += own.len();
        let said = prescale_core::annotations::read(own);
        assert!(said.problems.is_empty(), "{}: {:?}", path.display(), said.problems);
    }
    assert!(found >= 5, "{found} annotations found");
}
