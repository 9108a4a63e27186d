//! The progress that a one-shot shows on a terminal.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Map, json};

use crate::terminal::Terminal;

/// The escape sequence that erases the progress line.
const ERASE: &str = "\r\u{1b}[K\r";

/// A job of five processes: three run until a FIFO is opened for writing, one fails and one
/// succeeds.
struct Job {
    dir: tempfile::TempDir,
    gate: PathBuf,
}

impl Job {
    fn new() -> Job {
        let dir = tempfile::tempdir().unwrap();
        let gate = dir.path().join("gate");
        nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let fds = json!({"stdin": {"null": {}}, "stdout": {"null": {}}, "stderr": {"null": {}}});
        let mut specs = Map::new();
        let script = format!("read line < {}; true", gate.display());
        for (id, script) in [
            ("a", script.as_str()),
            ("b", &script),
            ("c", &script),
            ("bad", "exit 3"),
            ("good", "true"),
        ] {
            specs.insert(id.into(), json!({"argv": ["/bin/sh", "-c", script], "fds": fds}));
        }
        let spec = dir.path().join("spec.json");
        std::fs::write(&spec, json!({"specs": specs}).to_string()).unwrap();
        Job { dir, gate }
    }

    fn procstar(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_procstar"));
        command.args(args).arg(self.spec()).env_remove("NO_PROGRESS").env_remove("NO_COLOR");
        command
    }

    fn spec(&self) -> PathBuf {
        self.dir.path().join("spec.json")
    }

    /// Ends the three processes: each one reads the FIFO, and its read returns once the writer has
    /// closed it.
    fn open_gate(&self) {
        drop(std::fs::OpenOptions::new().write(true).open(&self.gate).unwrap());
    }
}

#[test]
fn a_line_is_drawn_and_erased() {
    let job = Job::new();
    let out = job.dir.path().join("out.json");
    let mut terminal = Terminal::of(job.procstar(&["--output", out.to_str().unwrap()]));
    terminal.wait_for("\r\u{1b}[K3 running, 1 done, 1 failed of 5; ");
    // The line is redrawn when only the elapsed time has changed.
    terminal.wait_for("of 5; 2s\r");
    let drawn = terminal.seen().matches("running").count();
    assert!(drawn <= 4, "drawn {drawn} times within 2 s in which nothing happened");
    job.open_gate();
    assert!(terminal.wait().success());
    let seen = terminal.seen();
    assert!(seen.ends_with(ERASE) && !seen.contains('\n'), "{seen:?}");
    assert!(out.exists());
}

#[test]
fn results_are_printed_after_the_line_is_erased() {
    let job = Job::new();
    let mut terminal = Terminal::of(job.procstar(&["--print"]));
    terminal.wait_for("3 running");
    job.open_gate();
    assert!(terminal.wait().success());
    let seen = terminal.seen();
    let (_, results) = seen.rsplit_once(ERASE).unwrap();
    let results: serde_json::Value = serde_json::from_str(results).unwrap();
    assert_eq!(results.as_object().unwrap().len(), 5);
}

#[test]
fn log_lines_erase_the_line() {
    let job = Job::new();
    let mut terminal = Terminal::of(job.procstar(&["--exit", "--log-level", "info"]));
    terminal.wait_for("3 running");
    terminal.type_in("\u{3}");
    assert!(terminal.wait().success());
    let seen = terminal.seen();
    assert!(seen.contains("\u{1b}[K\u{1b}[2m20"), "{seen:?}");
    for line in seen.lines() {
        // The text that stays on a line is the part after its last erasure.
        let rest = line.rsplit("\u{1b}[K").next().unwrap();
        assert!(!rest.contains(" running, ") || !rest.contains("INFO"), "{line:?}");
    }
}

#[test]
fn progress_is_not_shown_if_disabled_or_not_on_a_capable_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let spec = dir.path().join("spec.json");
    // Longer than the delay before progress is shown.
    let nap = json!({"argv": ["/bin/sleep", "0.7"], "fds": {"stderr": {"null": {}}}});
    std::fs::write(&spec, json!({"specs": {"a": nap, "b": nap}}).to_string()).unwrap();
    let procstar = |args: &[&str], variable: (&str, &str)| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_procstar"));
        command.arg("--exit").args(args).arg(&spec);
        command.env_remove("NO_PROGRESS").env("TERM", "xterm").env(variable.0, variable.1);
        command
    };
    for (args, variable, shown) in [
        (&[][..], ("NO_PROGRESS", ""), true),
        (&["--quiet"], ("NO_PROGRESS", ""), false),
        (&[], ("NO_PROGRESS", "1"), false),
        (&[], ("TERM", "dumb"), false),
        (&[], ("TERM", ""), false),
        (&["--log-format", "text"], ("NO_PROGRESS", ""), false),
    ] {
        let mut terminal = Terminal::of(procstar(args, variable));
        assert!(terminal.wait().success());
        let seen = terminal.seen();
        assert_eq!(seen.contains("2 running"), shown, "{args:?} {variable:?}: {seen:?}");
        assert_eq!(seen.is_empty(), !shown, "{args:?} {variable:?}: {seen:?}");
    }
    // Standard error is a pipe.
    let output = procstar(&[], ("NO_PROGRESS", "")).output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
