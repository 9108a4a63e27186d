//! The Grafana dashboard and the alerting rules. promtool evaluates the queries of the dashboard
//! over the metrics of an instance. Without promtool, the tests fail in CI and are skipped
//! elsewhere.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::commands::harness::{Instance, procstar};
use super::reference::body;
use crate::support::wait::eventually;

fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(file)
}

fn dashboard() -> Value {
    serde_json::from_slice(&std::fs::read(example("grafana/procstar.json")).unwrap()).unwrap()
}

/// Whether promtool is installed. In CI, it must be.
fn has_promtool() -> bool {
    if Command::new("promtool").arg("--version").output().is_ok() {
        return true;
    }
    let in_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    assert!(!in_ci, "promtool is not installed; .ci/run installs it");
    eprintln!("skipped: promtool is not installed");
    false
}

fn promtool(args: &[&str], file: &Path) {
    let output = Command::new("promtool").args(args).arg(file).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

/// The samples of `/metrics` as time series with constant values for ten minutes.
fn series(metrics: &str) -> Vec<Value> {
    let samples = metrics.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let series = samples.map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
        let mut all = r#"instance="127.0.0.1:3000",job="procstar""#.to_owned();
        if labels != "}" {
            write!(all, ",{}", labels.trim_end_matches('}')).unwrap();
        }
        json!({"series": format!("{name}{{{all}}}"), "values": format!("{value}+0x40")})
    });
    series.collect()
}

#[test]
fn every_panel_of_the_dashboard_has_a_position_and_the_chosen_data_source() {
    let dashboard = dashboard();
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: duplicate ID");
        let place = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        let [x, y, w, h] = place;
        assert!(w > 0 && h > 0 && x + w <= 24, "{title}: {place:?}");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(cells.insert(cell), "{title} covers another panel");
        }
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> =
        variables.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["datasource", "instance"]);
}

#[test]
fn no_panel_of_the_dashboard_is_empty() {
    if !has_promtool() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = procstar(&dir);
    command.args(["--serve", "--serve-port", "0", "--agent", "--agent-host", "127.0.0.1"]);
    command.args(["--agent-port", "1", "--log-level", "error"]);
    let instance = Instance::start(dir, command);
    instance.ended("a", "exit 3");
    let metrics = eventually("metrics", || {
        let text = body(&instance, "/metrics");
        text.contains("procstar_build_info").then_some(text)
    });
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries: Vec<Value> = targets
        .map(|target| {
            let query = target["expr"].as_str().unwrap().replace("$instance", "127.0.0.1:3000");
            assert!(!query.contains('$'), "unknown variable: {query}");
            let samples = [json!({"labels": "{}", "value": 1})];
            json!({"expr": format!("count({query}) > bool 0"), "eval_time": "10m", "exp_samples": samples})
        })
        .collect();
    assert!(!queries.is_empty());
    // YAML includes JSON.
    let test = json!({
        "evaluation_interval": "15s",
        "tests": [{"interval": "15s", "input_series": series(&metrics), "promql_expr_test": queries}],
    });
    let file = tempfile::NamedTempFile::with_suffix(".yml").unwrap();
    std::fs::write(file.path(), test.to_string()).unwrap();
    promtool(&["test", "rules"], file.path());
}

#[test]
fn the_alerting_rules_are_valid() {
    if has_promtool() {
        promtool(&["check", "rules", "--lint-fatal"], &example("prometheus/alerts.yml"));
    }
}
