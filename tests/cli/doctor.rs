//! The commands that describe the host and the program: `doctor`, `completions`, `man`.

mod security;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn procstar(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_procstar"));
    command.args(args);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Standard output of a command that succeeds without messages on standard error.
fn printed(args: &[&str]) -> String {
    let output = procstar(args).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{args:?}: {output:?}");
    text(&output.stdout)
}

/// Runs a program with `input` as its standard input; none if the program is not installed.
fn pipe(program: &str, args: &[&str], input: &str) -> Option<Output> {
    let pipes = || Stdio::piped();
    let mut child = match Command::new(program)
        .args(args)
        .stdin(pipes())
        .stdout(pipes())
        .stderr(pipes())
        .spawn()
    {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("{program}: {error}"),
    };
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let feeder = std::thread::spawn(move || {
        // The program may close the pipe before it has read everything.
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    Some(output)
}

const NAMES: [&str; 7] =
    ["config", "validate", "schema", "upgrade", "run", "doctor", "completions"];

#[test]
fn doctor_checks_this_host() {
    let text = printed(&["doctor"]);
    let report: Value = serde_json::from_str(&printed(&["doctor", "-o", "json"])).unwrap();
    assert_eq!(report["ok"], true);
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    let checks = report["checks"].as_array().unwrap();
    for check in checks {
        let (level, name) = (check["level"].as_str().unwrap(), check["name"].as_str().unwrap());
        assert!(text.lines().any(|line| line.starts_with(level) && line.contains(name)), "{text}");
        assert!(["ok", "note", "warn"].contains(&level), "{check}");
        let remedy = check["remedy"].as_str();
        assert!(level != "warn" || remedy.is_some_and(|remedy| text.contains(remedy)), "{check}");
    }
    let level = |name: &str| {
        let check = checks.iter().find(|check| check["name"] == name);
        check.unwrap_or_else(|| panic!("{name} is not in {text}"))["level"].as_str().unwrap()
    };
    // Without these features, no other test could succeed.
    for name in
        ["clone with pidfd, wait by it", "signals by pidfd", "memfd, sealed", "configuration"]
    {
        assert_eq!(level(name), "ok", "{text}");
    }
}

#[test]
fn doctor_fails_on_invalid_settings_and_unusable_directories() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&state, open).unwrap();
    let missing = dir.path().join("no/such");
    let set: &[(&str, &str)] = &[
        ("PROCSTAR_HTTP_PORT", "x"),
        ("PROCSTAR_RUN_STATE_DIR", state.to_str().unwrap()),
        ("PROCSTAR_AGENT_CERT", missing.to_str().unwrap()),
    ];
    for (name, value) in set {
        let output = procstar(&["doctor"]).env(name, value).output().unwrap();
        let text = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{name}: {text}");
        let fails: Vec<_> = text.lines().filter(|line| line.starts_with("fail ")).collect();
        assert!(fails.len() == 1 && fails[0].contains(value), "{name}: {text}");
        assert!(text.ends_with("procstar cannot work on this host; failed checks: 1\n"), "{text}");
    }
    let output = procstar(&["doctor"]).env("PROCSTAR_CAPTURE_DIR", &missing).output().unwrap();
    let text = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("fail  capture directory"), "{text}");
}

#[test]
fn doctor_warns_of_a_low_limit_on_open_files() {
    let script = "ulimit -n 300; exec \"$0\" doctor";
    let command = ["-c", script, env!("CARGO_BIN_EXE_procstar")];
    let output = Command::new("/bin/sh").args(command).output().unwrap();
    assert!(output.status.success());
    let text = text(&output.stdout);
    assert!(text.contains("warn  open files "), "{text}");
    assert!(text.contains("300, for about 60 processes"), "{text}");
    assert!(text.ends_with("procstar works on this host; warnings: 1\n"), "{text}");
}

#[test]
fn completion_scripts_are_valid_and_need_no_instance() {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completions", shell]);
        if let Some(output) = pipe(shell, &["-n"], &script) {
            assert!(output.status.success(), "{shell}: {}", text(&output.stderr));
        }
    }
    let script = printed(&["completions", "bash"]);
    let complete = |words: &str, at: usize| {
        let program = env!("CARGO_BIN_EXE_procstar");
        let ask = format!(
            "{script}\nCOMP_WORDS=({program} {words}); COMP_CWORD={at}; _procstar; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        text(&pipe("bash", &["--norc"], &ask).expect("bash is needed for this test").stdout)
    };
    assert_eq!(complete("doct", 1), "doctor\n");
    assert_eq!(complete("run --time", 2), "--timeout\n");
    assert_eq!(complete("completions b", 2), "bash\n");
}

#[test]
fn every_command_has_a_valid_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("man1");
    let listed = printed(&["man", "--dir", into.to_str().unwrap()]);
    for name in NAMES.iter().map(|name| format!("procstar-{name}")) {
        assert!(listed.contains(&format!("/{name}.1\n")), "{listed}");
    }
    for path in listed.lines() {
        let page = std::fs::read_to_string(path).unwrap();
        assert!(page.contains(".TH ") && page.contains(".SH NAME"), "{path}");
        if let Some(output) = pipe("mandoc", &["-T", "lint", "-W", "error"], &page) {
            assert!(output.status.success(), "{path}: {}", text(&output.stdout));
        }
        if let Some(output) = pipe("groff", &["-man", "-Tutf8", "-ww", "-z"], &page) {
            assert!(output.status.success(), "{path}");
            assert_eq!(text(&output.stderr), "", "{path}");
        }
    }
    assert_eq!(std::fs::read_dir(&into).unwrap().count(), listed.lines().count());
    let page = printed(&["man", "run"]);
    assert_eq!(page, std::fs::read_to_string(into.join("procstar-run.1")).unwrap());
    // Lines of examples are not wrapped.
    let example = r"procstar run \-\-timeout 10m \-\-signal INT \-\-grace 15 \-\- ./train.py";
    assert!(page.contains(example), "{page}");
    assert!(printed(&["man", "config", "show"]).contains("config show"));
}

#[test]
fn man_refuses_unknown_commands_and_directories() {
    let output = procstar(&["man", "config", "hide"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no command 'config hide'; 'procstar help' lists"));
    let output = procstar(&["man", "--dir", "/proc/no/such"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot write manual pages to /proc/no/such: "));
}

#[test]
fn help_of_commands_has_examples() {
    for name in ["run", "doctor", "completions", "man"] {
        let help = printed(&[name, "--help"]);
        assert!(
            help.contains("\nExamples:\n") && help.contains(&format!("procstar {name}")),
            "{help}"
        );
        assert!(!help.contains("--agent-host"), "{help}");
    }
    // Completion works with an invalid configuration.
    let output =
        procstar(&["completions", "bash"]).env("PROCSTAR_HTTP_PORT", "x").output().unwrap();
    assert!(output.status.success());
}
