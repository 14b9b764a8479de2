//! The chart's alerts and dashboards, by Prometheus' own tool: every alert is set off by some series and not by others,
//! every query can be read.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{packages, run};

const RULES: &str = "alerts/rules.yaml";
const TESTS: &str = "alerts/tests.yaml";

/// Checks those of the chart in `chart`.
///
/// # Errors
/// What promtool says, or the alert that has no test.
pub fn check(chart: &Path) -> Result<()> {
    packages::ensure(&["prometheus"], "promtool, which tries the alerts")?;
    promtool(&["check", "rules"], &chart.join(RULES))?;
    promtool(&["test", "rules"], &chart.join(TESTS))?;
    let (rules, tests) = (read(&chart.join(RULES))?, read(&chart.join(TESTS))?);
    let untested = untested(&rules, &tests);
    ensure!(untested.is_empty(), "{TESTS}: {}", untested.join("; "));
    queries(chart)
}

fn promtool(words: &[&str], file: &Path) -> Result<()> {
    let mut command = Command::new("promtool");
    run::run(command.args(words).arg(file))
}

fn read(file: &Path) -> Result<Value> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{} is no YAML", file.display()))
}

/// Alerts that lack a case of their name in which they fire, or one in which they don't.
fn untested(rules: &Value, tests: &Value) -> Vec<String> {
    let all = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let mut missing = Vec::new();
    for rule in all(rules, "groups").iter().flat_map(|group| all(group, "rules")) {
        let Some(alert) = rule["alert"].as_str() else { continue };
        let groups = all(tests, "tests").into_iter().filter(|group| group["name"] == alert);
        let cases: Vec<Value> = groups.flat_map(|group| all(&group, "promql_expr_test")).collect();
        // The query of a case of another alert would be no case of this one.
        let own =
            |case: &&Value| case["expr"].as_str().is_some_and(|it| it.contains(&format!("\"{alert}\"")));
        let (fires, quiet): (Vec<&Value>, Vec<&Value>) =
            cases.iter().filter(own).partition(|case| !all(case, "exp_samples").is_empty());
        if fires.is_empty() {
            missing.push(format!("nothing sets {alert} off"));
        }
        if quiet.is_empty() {
            missing.push(format!("nothing leaves {alert} quiet"));
        }
    }
    missing
}

/// Every query of every dashboard, read by promtool as a recording rule.
fn queries(chart: &Path) -> Result<()> {
    let mut found = Vec::new();
    let dashboards = chart.join("dashboards");
    for entry in fs::read_dir(&dashboards).with_context(|| format!("reading {}", dashboards.display()))? {
        let text = fs::read_to_string(entry?.path())?;
        expressions(&serde_json::from_str(&text).context("a dashboard is no JSON")?, &mut found);
    }
    ensure!(!found.is_empty(), "no query in {}", dashboards.display());
    let rules: Vec<Value> = found
        .iter()
        .enumerate()
        // Grafana's own variables stand where PromQL wants a duration; ours stand in strings.
        .map(|(n, query)| json!({"record": format!("query:{n}"), "expr": query.replace("$__rate_interval", "5m")}))
        .collect();
    let file = run::target_dir().join("chart-queries.yaml");
    // JSON is YAML.
    fs::write(&file, json!({"groups": [{"name": "queries", "rules": rules}]}).to_string())?;
    promtool(&["check", "rules"], &file)
}

fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(query) if key == "expr" => found.push(query.to_owned()),
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_without_both_kinds_of_case_is_told() {
        let rules = json!({"groups": [{"rules": [{"alert": "A"}, {"alert": "B"}, {"record": "c"}]}]});
        let case = |alert: &str, samples: Value| json!({"expr": format!("ALERTS{{alertname=\"{alert}\"}}"), "exp_samples": samples});
        let tests = json!({"tests": [
            {"name": "A", "promql_expr_test": [case("A", json!([])), case("A", json!([{"value": 1}]))]},
            {"name": "B", "promql_expr_test": [case("A", json!([])), case("B", json!([{"value": 1}]))]},
        ]});
        assert_eq!(untested(&rules, &tests), ["nothing leaves B quiet"]);
        assert_eq!(untested(&rules, &json!({})).len(), 4);
    }

    #[test]
    fn queries_are_found_wherever_they_stand() {
        let dashboard =
            json!({"panels": [{"targets": [{"expr": "a"}]}, {"panels": [{"targets": [{"expr": "b"}]}]}]});
        let mut found = Vec::new();
        expressions(&dashboard, &mut found);
        assert_eq!(found, ["a", "b"]);
    }
}
