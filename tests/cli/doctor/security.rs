//! `doctor --security`: its findings, each with a remedy, and its exit code.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use super::procstar;

/// The report with only these environment variables, and the exit code.
fn report(env: &[(&str, &str)], args: &[&str]) -> (Value, i32) {
    let mut command = procstar(args);
    command.args(["doctor", "--security", "-o", "json"]).env_clear().envs(env.iter().copied());
    let output = command.output().unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    (serde_json::from_slice(&output.stdout).unwrap(), output.status.code().unwrap())
}

/// Level, finding and remedy of each check with this name.
fn found(report: &Value, name: &str) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let checks = report["checks"].as_array().unwrap().iter();
    checks
        .filter(|check| check["name"] == name)
        .map(|check| (text(&check["level"]), text(&check["found"]), text(&check["remedy"])))
        .collect()
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn the_exit_code_is_one_if_there_are_findings() {
    let (report, code) = report(&[], &[]);
    let checks = report["checks"].as_array().unwrap();
    let is_finding = |check: &&Value| check["level"] == "warn" || check["level"] == "fail";
    let findings = checks.iter().filter(is_finding).count();
    assert_eq!((code, &report["ok"]), (i32::from(findings > 0), &Value::from(findings == 0)));
    for check in checks.iter().filter(is_finding) {
        assert!(check["remedy"].is_string(), "{check}");
    }
    for name in [
        "program",
        "listener",
        "capabilities",
        "kernel.yama.ptrace_scope",
        "fs.protected_symlinks",
        "fs.protected_hardlinks",
        "fs.protected_fifos",
        "fs.protected_regular",
        "capture.dir",
        "runtime directory",
    ] {
        assert_eq!(found(&report, name).len(), 1, "{name}: {report:#}");
    }
    let output = procstar(&["doctor", "--security"]).output().unwrap();
    let text = super::text(&output.stdout);
    let verdict =
        if findings == 0 { "no findings".into() } else { format!("findings: {findings}") };
    assert!(text.ends_with(&format!("\n{verdict}\n")), "{text}");
    let usage = procstar(&["doctor", "--security", "more"]).output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn exposed_files_weak_tokens_and_open_listeners_are_findings() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let level = |report: &Value, name: &str| found(report, name).pop().unwrap_or_default();
    // A configuration file that other users can write.
    std::fs::write(at("procstar.toml"), "[http]\nenabled = true\n").unwrap();
    let config = ["--config", &at("procstar.toml")];
    mode(Path::new(&at("procstar.toml")), 0o666);
    let (report, code) = self::report(&[], &config);
    let (fail, said, _) = level(&report, "configuration");
    assert_eq!((code, fail.as_str()), (1, "fail"), "{report:#}");
    assert!(said.contains("(mode 0666") && said.contains("run `chmod go-w"), "{said}");
    mode(Path::new(&at("procstar.toml")), 0o644);
    let (report, _) = self::report(&[], &config);
    let (ok, said, _) = level(&report, "configuration");
    assert!(ok == "ok" && said.contains(", owner ") && said.ends_with("mode 0644"), "{said}");
    // A key that other users can read.
    std::fs::write(at("key"), "x").unwrap();
    let (report, code) = self::report(&[("PROCSTAR_HTTP_TLS_KEY", &at("key"))], &[]);
    let (fail, said, remedy) = level(&report, "http.tls_key");
    assert_eq!((code, fail.as_str()), (1, "fail"));
    assert!(said.contains("every user can read it (mode 0644"), "{said}");
    assert_eq!(remedy, format!("run `chmod go-r {}`", at("key")));
    // A weak agent token, and a listener on all addresses without TLS.
    let env = [
        ("PROCSTAR_AGENT_TOKEN", "hunter2"),
        ("PROCSTAR_HTTP_ENABLED", "true"),
        ("PROCSTAR_HTTP_BIND", "0.0.0.0"),
    ];
    let (report, code) = self::report(&env, &[]);
    assert_eq!(code, 1);
    let (warn, _, remedy) = level(&report, "strength of agent.token");
    assert!(warn == "warn" && remedy.contains("openssl rand"), "{report:#}");
    let (fail, said, remedy) = level(&report, "listener");
    assert!(fail == "fail" && said.contains("0.0.0.0"), "{said}");
    assert!(remedy.contains("http.tls_cert"), "{remedy}");
    assert!(!report.to_string().contains("hunter2"));
    // A directory in which other users could replace captures.
    std::fs::create_dir(at("open")).unwrap();
    mode(Path::new(&at("open")), 0o777);
    let (report, _) = self::report(&[("TMPDIR", &at("open"))], &[]);
    let (fail, said, _) = level(&report, "capture.dir");
    assert!(fail == "fail" && said.contains("can write"), "{said}");
}
