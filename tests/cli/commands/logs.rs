//! `procstar logs`: past output, and following.

use std::path::Path;
use std::time::Instant;

use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::harness::{Instance, Running};
use crate::support::wait::eventually;

/// Writes to both streams in turn, with pauses so that each line is a chunk of its own.
const TURNS: &str = "for i in 1 2 3; do echo out $i; sleep 0.05; echo err $i >&2; sleep 0.05; done";

#[test]
fn both_streams_are_printed_in_the_order_of_writing() {
    let instance = Instance::new();
    instance.ended("a", TURNS);
    let logs = |args: &[&str]| instance.run(&[&["logs", "a"], args].concat());
    let all = "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n";
    assert_eq!(logs(&[]).good(), all);
    assert_eq!(logs(&["-f"]).good(), all);
    assert_eq!(logs(&["--stream", "stderr"]).good(), "err 1\nerr 2\nerr 3\n");
    assert_eq!(logs(&["--stream", "1", "--tail", "2"]).good(), "out 2\nout 3\n");
    assert_eq!(logs(&["--tail", "3"]).good(), "err 2\nout 3\nerr 3\n");
    assert_eq!(logs(&["--tail", "0"]).good(), "");
    assert_eq!(logs(&["--tail", "7"]).good(), all);
    let none = logs(&["--stream", "3"]);
    assert_eq!(none.code, Some(1));
    assert_eq!(none.err, "procstar: fd 3 of process a is not captured; captured: stdout, stderr\n");
}

#[test]
fn timestamps_are_those_of_chunk_times() {
    let instance = Instance::new();
    instance.ended("a", TURNS);
    let result = &instance.run(&["show", "a", "-o", "json"]).json()["a"];
    let start: Timestamp = result["times"]["start"].as_str().unwrap().parse().unwrap();
    let pieces = result["chunk_times"].as_array().unwrap();
    let stamped = instance.run(&["logs", "-T", "a"]).good();
    assert_eq!(stamped.lines().count(), 6);
    for (line, piece) in stamped.lines().zip(pieces) {
        let (time, rest) = line.split_once(' ').unwrap();
        let time: Timestamp = time.parse().unwrap();
        let passed = (time.as_microsecond() - start.as_microsecond()) as f64 / 1e6;
        assert!((passed - piece[0].as_f64().unwrap()).abs() < 1e-5, "{line} {piece}");
        assert!(rest.starts_with(&format!("{} ", piece[1].as_str().unwrap())), "{line} {piece}");
    }
    // From the fourth chunk on.
    let time = stamped.lines().nth(3).unwrap().split(' ').next().unwrap();
    let since: Timestamp = time.parse().unwrap();
    let since = Timestamp::from_microsecond(since.as_microsecond() - 10).unwrap().to_string();
    assert_eq!(instance.run(&["logs", "a", "--since", &since]).good(), "err 2\nout 3\nerr 3\n");
    assert_eq!(instance.run(&["logs", "a", "--since", "1h"]).good().lines().count(), 6);
    assert_eq!(instance.run(&["logs", "a", "--since", "2100-01-01T00:00:00Z"]).good(), "");
    let one = instance.run(&["logs", "-T", "a", "--stream", "stderr", "--tail", "1"]).good();
    assert!(one.ends_with("Z err 3\n"), "{one}");
}

#[test]
fn without_chunk_times_stderr_follows_stdout() {
    let instance = Instance::new();
    instance.specs(&json!({
        "a": {"argv": ["/bin/sh", "-c", TURNS], "fds": [
            ["stdout", {"capture": {}}], ["stderr", {"capture": {}}]]},
        "none": {"argv": ["/bin/true"]},
    }));
    instance.run(&["wait", "a", "none"]);
    let logs = |args: &[&str]| instance.run(&[&["logs"], args].concat());
    assert_eq!(logs(&["a"]).good(), "out 1\nout 2\nout 3\nerr 1\nerr 2\nerr 3\n");
    assert_eq!(logs(&["a", "--tail", "1"]).good(), "out 3\nerr 3\n");
    let times = logs(&["-T", "a"]);
    assert_eq!((times.code, times.out.as_str()), (Some(1), ""));
    assert!(times.err.contains("its captures lack \"chunk_times\": true"), "{times:?}");
    assert!(logs(&["none"]).err.contains("no output of process none is captured"));
}

#[test]
fn output_is_printed_unchanged_and_large_output_without_delay() {
    let instance = Instance::new();
    let file = instance.dir.path().join("bytes");
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.extend(std::iter::repeat_n(b"0123456789abcde\n", 1 << 19).flatten());
    std::fs::write(&file, &bytes).unwrap();
    instance.ended("a", &format!("cat {}", file.display()));
    let whole = instance.command(&["logs", "a"]).output().unwrap();
    assert!(whole.status.success() && whole.stdout == bytes);
    let begin = Instant::now();
    let tail = instance.command(&["logs", "a", "--tail", "20000"]).output().unwrap();
    eprintln!("20,000 lines of 8 MiB in {:?}", begin.elapsed());
    assert_eq!(tail.stdout, bytes[bytes.len() - 320_000..]);
}

/// Starts a process that echoes the lines of a FIFO; returns a function that writes a line to it.
fn teller(instance: &Instance) -> impl FnMut(&str) + use<> {
    let fifo = instance.dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = "while read -r line; do echo \"$line\"; done";
    let script = format!("exec < {}; {script}", fifo.display());
    instance.run(&["start", "--id", "teller", "--", "sh", "-c", &script]).good();
    let mut end = open(&fifo);
    move |line| std::io::Write::write_all(&mut end, format!("{line}\n").as_bytes()).unwrap()
}

fn open(fifo: &Path) -> std::fs::File {
    std::fs::File::options().write(true).open(fifo).unwrap()
}

#[test]
fn follow_prints_new_output_until_the_process_ends() {
    let instance = Instance::new();
    let mut tell = teller(&instance);
    for line in ["one", "two", "three"] {
        tell(line);
    }
    eventually("lines", || instance.run(&["logs", "teller"]).good().contains("three"));
    let mut plain = Running::new(instance.command(&["logs", "-f", "--tail", "1", "teller"]));
    let mut stamped = Running::new(instance.command(&["logs", "-fT", "teller"]));
    plain.until("three\n");
    stamped.until("three\n");
    tell("four");
    plain.until("four\n");
    stamped.until("four\n");
    tell("five");
    plain.until("five\n");
    drop(tell);
    assert_eq!(plain.end(), (Some(0), "three\nfour\nfive\n".into()));
    let (code, text) = stamped.end();
    let lines: Vec<&str> = text.lines().map(|line| &line[line.len().min(28)..]).collect();
    let wanted = ["one", "two", "three", "four", "five"].map(|word| format!("stdout {word}"));
    assert_eq!((code, lines), (Some(0), wanted.iter().map(String::as_str).collect()), "{text}");
}

#[test]
fn following_outlives_the_worker() {
    let instance = Instance::new();
    let mut tell = teller(&instance);
    let mut logs = Running::new(instance.command(&["logs", "-f", "teller"]));
    tell("before");
    logs.until("before\n");
    let worker = instance.worker_pid();
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    tell("while it is away");
    logs.until("away\n");
    assert_ne!(instance.worker_pid(), worker);
    drop(tell);
    assert_eq!(logs.end(), (Some(0), "before\nwhile it is away\n".into()));
}

#[test]
fn a_closed_pipe_ends_logs_quietly() {
    let instance = Instance::new();
    instance
        .run(&["start", "--id", "y", "--", "sh", "-c", "yes | head -c 5000000; sleep 1000"])
        .good();
    let head = instance.shell("procstar logs -f y | head -n 1; echo ${PIPESTATUS[*]}");
    assert_eq!(head.good(), "y\n141 0\n");
    // It ends even if the process writes nothing more.
    let mut idle = Running::new(instance.command(&["logs", "-f", "--tail", "1", "y"]));
    idle.until("y\n");
    drop(idle.child.stdout.take());
    assert_eq!(idle.child.wait().unwrap().code(), Some(141));
}
