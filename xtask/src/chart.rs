//! The Helm chart, checked without a cluster: linted, rendered with every pair of its switches and with its other settings,
//! its names resolved, its alerts and queries tried.

mod alerts;
mod objects;
mod settings;

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{helm, run};

/// Where the chart is, from the root.
const CHART: &str = "deploy/helm/prescale";

/// Runs every check.
///
/// # Errors
/// Every complaint of the first check that has some.
pub fn run() -> Result<()> {
    run::run(&mut helm::command(&["lint", "--strict", "--quiet", CHART])?)?;
    render_pairs()?;
    alerts::check(&run::root().join(CHART))?;
    sample()
}

/// Renders the chart so that every pair of its boolean values takes all four combinations, then with its other settings, and
/// looks at the objects.
fn render_pairs() -> Result<()> {
    let schema = read("values.schema.json")?;
    let schema: Value = serde_json::from_str(&schema).context("values.schema.json is no JSON")?;
    let mut switches = Vec::new();
    booleans(&schema, "", &mut switches);
    ensure!(switches.len() > 1, "values.schema.json declares {} boolean values", switches.len());
    let rows = pairwise(switches.len());
    let set = |row: &Vec<bool>| switches.iter().zip(row).map(|(name, on)| format!("{name}={on}")).collect();
    let mut sets: Vec<Vec<String>> = rows.iter().map(set).collect();
    // What is left out of the objects where a value is empty.
    sets.push(vec![
        "models={tuned_smoothing,prophet}".into(),
        "holidays.sale={2026-11-27,2026-11-28}".into(),
    ]);
    for set in sets {
        let objects = render(&set)?;
        let complaints = objects::complaints(&objects);
        if !complaints.is_empty() {
            bail!("rendered with {}:\n{}", set.join(","), complaints.join("\n"));
        }
    }
    eprintln!("rendered {} times: every pair of {}", rows.len(), switches.join(", "));
    let all_on: Vec<String> = switches.iter().map(|name| format!("{name}=true")).collect();
    settings::check(&all_on)
}

/// The sample application: its program's tests, its objects' names.
fn sample() -> Result<()> {
    let sample = run::root().join("deploy/sample");
    for words in [["vet", "./..."], ["test", "./..."]] {
        run::run(Command::new("go").current_dir(sample.join("app")).args(words))?;
    }
    let kustomization = fs::read_to_string(sample.join("kustomization.yaml")).context("deploy/sample")?;
    let kustomization: Value = serde_saphyr::from_str(&kustomization).context("kustomization.yaml")?;
    let mut objects: Vec<Value> = Vec::new();
    for file in kustomization["resources"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let text = fs::read_to_string(sample.join(file)).with_context(|| format!("deploy/sample/{file}"))?;
        let all: Vec<Value> = serde_saphyr::from_multiple(&text).with_context(|| file.to_owned())?;
        objects.extend(all);
    }
    ensure!(!objects.is_empty(), "deploy/sample has no objects");
    let complaints = objects::complaints(&objects);
    ensure!(complaints.is_empty(), "deploy/sample:\n{}", complaints.join("\n"));
    Ok(())
}

/// A file of the chart.
fn read(file: &str) -> Result<String> {
    fs::read_to_string(run::root().join(CHART).join(file)).with_context(|| format!("reading {CHART}/{file}"))
}

/// The objects that the chart makes of these values, each `path=value`.
fn render(set: &[String]) -> Result<Vec<Value>> {
    let mut command = helm::command(&["template", "release", CHART, "--namespace", "prescale", "--set"])?;
    let output = command.arg(set.join(",")).output().context("starting helm")?;
    ensure!(
        output.status.success(),
        "helm template --set {}: {}",
        set.join(","),
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).context("helm writes UTF-8")?;
    let all: Vec<Value> = serde_saphyr::from_multiple(&text)
        .with_context(|| format!("rendered with {}, this is no YAML:\n{text}", set.join(",")))?;
    Ok(all.into_iter().filter(|object| !object.is_null()).collect())
}

/// The dotted paths of all boolean values that a JSON schema declares.
fn booleans(schema: &Value, path: &str, found: &mut Vec<String>) {
    if schema["type"] == "boolean" {
        found.push(path.to_owned());
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let dot = if path.is_empty() { "" } else { "." };
        booleans(property, &format!("{path}{dot}{name}"), found);
    }
}

/// Rows of `switches` booleans in which every two take all four combinations: two differ in some bit of their numbers,
/// so a row for each bit and its complement makes them differ both ways; all off and all on do the rest.
fn pairwise(switches: usize) -> Vec<Vec<bool>> {
    let mut rows = vec![vec![false; switches], vec![true; switches]];
    let bits = switches.next_power_of_two().trailing_zeros();
    for bit in 0..bits {
        let row: Vec<bool> = (0..switches).map(|number| number >> bit & 1 == 1).collect();
        rows.push(row.iter().map(|on| !on).collect());
        rows.push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_two_switches_take_all_four_combinations() {
        for switches in 2..40 {
            let rows = pairwise(switches);
            assert!(rows.len() <= 14);
            for (one, other) in (0..switches).flat_map(|one| (0..one).map(move |other| (one, other))) {
                let seen: BTreeSet<_> = rows.iter().map(|row| (row[one], row[other])).collect();
                assert_eq!(seen.len(), 4, "{one} and {other} of {switches}");
            }
        }
    }

    #[test]
    fn switches_are_found_by_the_schema() {
        let schema = serde_json::json!({"properties": {
            "a": {"type": "object", "properties": {"on": {"type": "boolean"}, "name": {"type": "string"}}},
            "b": {"type": "boolean"},
        }});
        let mut found = Vec::new();
        booleans(&schema, "", &mut found);
        assert_eq!(found, ["a.on", "b"]);
    }
}
