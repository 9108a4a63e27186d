//! The log of a child process, read as a user or a tool reads it.

use std::io;
use std::process::{Child, Command, Stdio};

use procstar::config::{LogFormat, LogLevel, LogSettings};
use procstar::logging;

/// Not a test by itself: the next tests run it as a child process, and read its log.
#[test]
#[ignore = "run by the tests of the log"]
fn logging_child() {
    let Some(format) = std::env::var_os("LOGGING_CHILD_FORMAT") else { return };
    let format = if format == "json" { LogFormat::Json } else { LogFormat::Auto };
    logging::init(&LogSettings { level: LogLevel::Info, format }).unwrap();
    assert!(logging::init(&LogSettings::default()).is_err(), "there is one log");
    for _ in 0..1_000 {
        tracing::info!(target: "procstar::main", conn_id = "c\nforged", "started processes from specs");
    }
    tracing::debug!(target: "procstar::main", "too much");
    println!("\nsurvived");
}

/// Runs [`logging_child`] with that standard error.
fn logging_process(format: &str, stderr: Stdio) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "config::log::logging_child", "--ignored", "--nocapture"])
        .env("LOGGING_CHILD_FORMAT", format)
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .unwrap()
}

#[test]
fn the_log_is_plain_lines_on_standard_error() {
    for format in ["auto", "json"] {
        let output = logging_process(format, Stdio::piped()).wait_with_output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{text}");
        assert_eq!(text.matches("started processes from specs").count(), 1_000);
        assert!(!text.contains('\u{1b}') && !text.contains("too much"));
        let ours = text.lines().filter(|line| line.contains("started processes from specs"));
        for line in ours {
            if format == "json" {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!(line["conn_id"], "c\nforged");
            } else {
                assert!(line.contains("procstar::main: started") && line.contains("forged"));
            }
        }
    }
}

#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    // A pipe without a reader, a full pipe and a full device.
    let (reader, gone) = io::pipe().unwrap();
    drop(reader);
    let (_unread, stuck) = io::pipe().unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for stderr in [Stdio::from(gone), Stdio::from(stuck), Stdio::from(full)] {
        let output = logging_process("auto", stderr).wait_with_output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains("survived"));
    }
}
