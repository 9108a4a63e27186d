//! Compressed captures.

use procstar::engine::{ProcessCommand, Truncation};
use serde_json::{Value, json};
use std::io::Read;

use super::*;
use crate::support::engine::*;
use crate::support::wait::eventually;

const KINDS: [&str; 3] = ["zstd", "gzip", "brotli"];

fn unpack(kind: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match kind {
        "zstd" => out = zstd::decode_all(bytes).unwrap(),
        "gzip" => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap()),
        _ => drop(brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out).unwrap()),
    }
    out
}

fn packed(kind: &str, more: Value) -> Value {
    let mut capture = json!({"mode": "memory", "compress": kind});
    for (key, value) in more.as_object().unwrap() {
        capture[key] = value.clone();
    }
    json!([["stdout", {"capture": capture}]])
}

#[test]
fn stored_bytes_decode_to_the_written_output() {
    for kind in KINDS {
        for mode in ["memory", "tempfile"] {
            for size in [0, 1, 100_000, 2_000_000] {
                let (ended, harness) =
                    run(sh(&write_numbers(size), packed(kind, json!({"mode": mode}))));
                assert!(ended.failures.is_empty() && ended.cut_short.is_empty());
                let capture = capture(&ended.captures, "stdout");
                let kept = capture.size();
                assert_eq!((kept.length, kept.dropped), (size as u64, 0), "{kind}");
                assert!(capture.whole_compression().is_some());
                let stored = all(capture.stored().unwrap());
                assert_eq!(stored.len() as u64, kept.stored);
                assert!(
                    size < 1000 || stored.len() < size / 2,
                    "{kind}: {} of {size}",
                    stored.len()
                );
                let wanted = numbers(size);
                assert!(unpack(kind, &stored) == wanted, "{kind}");
                assert!(all(capture.view().unwrap()) == wanted, "{kind}");
                // By ranges, forward and back.
                let mut view = capture.view().unwrap();
                let mut buf = [0; 50];
                for at in [size / 2, size * 3 / 4, size / 4, 0, size] {
                    let n = view.read_at(at as u64, &mut buf).unwrap();
                    assert!(n > 0 || at == size, "{kind} at {at}");
                    assert_eq!(&buf[..n], &wanted[at..at + n]);
                }
                harness.engine.forget("a".into());
                eventually("no file of ours", || harness.files() == 0);
            }
        }
    }
}

#[test]
fn only_the_head_of_compressed_output_can_be_kept() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let more = json!({"keep": {"head": 70_000}, "file": {"path": path}});
        let (ended, _harness) = run(sh(&write_numbers(2_000_000), packed(kind, more)));
        let capture = capture(&ended.captures, "stdout");
        let size = capture.size();
        assert_eq!((size.length, size.dropped), (70_000, 1_930_000));
        assert!(all(capture.view().unwrap()) == numbers(70_000));
        assert!(unpack(kind, &std::fs::read(&path).unwrap()) == numbers(70_000));
    }
}

/// Written output becomes readable while the process runs, once the output pauses.
#[test]
fn compressed_output_can_be_read_while_it_runs() {
    for kind in KINDS {
        let mut harness = EngineHarness::new(options());
        harness.launch(json!({"a": sh("echo hello; exec sleep 1000", packed(kind, json!({})))}));
        harness.pid("a");
        let captures = harness.started["a"].captures.clone();
        let capture = capture(&captures, "stdout");
        eventually("the line", || capture.len() == 6);
        assert_eq!(all(capture.view().unwrap()), b"hello\n");
        assert!(capture.whole_compression().is_none());
        harness.engine.command("a".into(), ProcessCommand::Signal(libc::SIGKILL), 0);
        let ended = harness.end("a");
        assert_eq!(text(ended, "stdout"), "hello\n");
    }
}

/// Finds the capture writer of a capture by its open files. Returns its pid.
fn capture_writer_of(capture: &Capture) -> Option<i32> {
    let open = |pid: i32| {
        std::fs::read_link(format!("/proc/{pid}/fd/1")).is_ok_and(|path| path == capture.path())
            && std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|comm| comm.trim() == "procstar-filter")
    };
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid| open(*pid))
}

/// The death affects the capture only: the process continues to write.
#[test]
fn the_death_of_a_capture_writer_does_not_end_the_process() {
    let mut harness = EngineHarness::new(options());
    let script = "echo before; read -u 9 x; head -c 10000000 /dev/zero; exit 7";
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut fds = packed("zstd", json!({}));
    fds.as_array_mut().unwrap().push(json!(["9", {"file": {"path": fifo, "flags": "ReadWrite"}}]));
    harness.launch(json!({"a": sh(script, fds)}));
    harness.pid("a");
    let captures = harness.started["a"].captures.clone();
    let capture = capture(&captures, "stdout");
    eventually("the line", || capture.len() == 7);
    let writer = capture_writer_of(capture).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(writer), nix::sys::signal::SIGKILL).unwrap();
    std::fs::write(&fifo, "go\n").unwrap();
    let ended = harness.end("a");
    assert_eq!(ended.status, 7 << 8);
    assert_eq!(ended.cut_short, [("stdout".parse().unwrap(), Truncation::Error)]);
    assert_eq!(text(ended, "stdout"), "before\n");
}

/// A survivor that still writes is cut off after the drain timeout: it is not blocked, and its
/// capture writer stores no more.
#[test]
fn late_output_of_a_survivor_is_not_stored() {
    let mut harness = EngineHarness::new(options());
    let dir = tempfile::tempdir().unwrap();
    let done = dir.path().join("done");
    let script = format!(
        "echo early; (trap '' TERM; sleep 1; head -c 3000000 /dev/zero; echo > {}) & ",
        done.display()
    );
    harness.launch(json!({"a": sh(&script, packed("gzip", json!({})))}));
    let ended = harness.end("a");
    assert_eq!(ended.cut_short, [("stdout".parse().unwrap(), Truncation::HeldOpen)]);
    assert_eq!(text(ended, "stdout"), "early\n");
    let captures = ended.captures.clone();
    eventually("the survivor", || done.exists());
    eventually("the end of the capture writer", || {
        capture_writer_of(capture(&captures, "stdout")).is_none()
    });
    let capture = capture(&captures, "stdout");
    assert_eq!(all(capture.view().unwrap()), b"early\n");
    assert!(std::fs::metadata(capture.path()).unwrap().len() < 100);
}

/// Waits until a capture writer is confined, and returns the fields of its `/proc/PID/status`.
fn confined_capture_writer() -> std::collections::HashMap<String, String> {
    let fields = |pid: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let fields = text.lines().filter_map(|line| line.split_once(":\t"));
        Some(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    };
    let mut found = None;
    eventually("a confined capture writer", || {
        let mut children = String::new();
        for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
            let more = std::fs::read_to_string(task.path().join("children"));
            children.push_str(&more.unwrap_or_default());
        }
        let is_confined = |status: &std::collections::HashMap<String, String>| {
            status["Name"] == "procstar-filter"
                && status.get("Seccomp").is_some_and(|mode| mode == "2")
        };
        found = children.split_whitespace().filter_map(fields).find(is_confined);
        found.is_some()
    });
    found.unwrap()
}

/// A regression test: capture writers once had all rights of the keeper while they processed the
/// output of a process.
#[test]
fn a_capture_writer_has_the_user_of_its_process_and_no_privilege() {
    let root = nix::unistd::geteuid().is_root();
    let (user, group) = if root {
        (65001, 65002)
    } else {
        (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
    };
    if !root {
        eprintln!("NOT TESTED: another user needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_retain(0o666)).unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    std::fs::set_permissions(&fifo, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    // The process runs until the test writes into the FIFO.
    let mut proc = sh("echo x; read line < $0; echo $line", packed("zstd", json!({})));
    proc["argv"].as_array_mut().unwrap().push(json!(fifo));
    if root {
        (proc["user"], proc["group"], proc["groups"]) = (json!(user), json!(group), json!([65003]));
    }
    let mut harness = EngineHarness::new(options());
    harness.launch(json!({ "a": proc }));
    let status = confined_capture_writer();
    assert_eq!(status["Uid"], format!("{user}\t{user}\t{user}\t{user}"));
    assert_eq!(status["Gid"], format!("{group}\t{group}\t{group}\t{group}"));
    if root {
        assert_eq!(status["Groups"].trim(), "65003");
    }
    assert_eq!(status["NoNewPrivs"], "1");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status[set], "0000000000000000", "{set}");
    }
    std::fs::write(&fifo, "y\n").unwrap();
    let ended = harness.end("a");
    assert!(ended.failures.is_empty() && ended.cut_short.is_empty());
    let stored = all(capture(&ended.captures, "stdout").stored().unwrap());
    assert_eq!(unpack("zstd", &stored), b"x\ny\n");
}
