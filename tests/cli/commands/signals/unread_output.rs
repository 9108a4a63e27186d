//! Signals end a command although nobody reads its output.

use super::*;

/// A FIFO without a reader: its writing end, and an end that holds it open.
fn unread(dir: &TempDir) -> (File, File) {
    let path = dir.path().join("unread");
    fifo(&path);
    let held = File::options().read(true).write(true).open(&path).unwrap();
    (File::options().write(true).open(&path).unwrap(), held)
}

/// Whether a FIFO is full.
fn is_full(fifo: &File) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut fds = [PollFd::new(fifo.as_fd(), PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO).unwrap() == 0
}

/// Waits until a FIFO is full.
fn full(fifo: &File) {
    eventually("full pipe", || is_full(fifo));
}

#[test]
fn unread_output_does_not_delay_the_end() {
    for (signal, by) in
        [(Signal::SIGINT, "SIGINT"), (Signal::SIGTERM, "SIGTERM"), (Signal::SIGQUIT, "SIGKILL")]
    {
        let dir = tempfile::tempdir().unwrap();
        let (to, held) = unread(&dir);
        let result = dir.path().join("result.json");
        let mut command = procstar(&dir);
        command.args(["run", "--capture", "-r", result.to_str().unwrap(), "--id", "a", "--"]);
        command.args(["sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x; exec sleep 1000"]);
        let mut child = detached(&mut command).stdout(to).spawn().unwrap();
        full(&held);
        eventually("sleep", || has_child(child.id(), "sleep"));
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        wait(&mut child);
        let result: Value = serde_json::from_slice(&std::fs::read(&result).unwrap()).unwrap();
        assert_eq!(result["a"]["status"]["signal"], by, "{signal}");
        assert_eq!(result["a"]["fds"]["stdout"]["text"].as_str().unwrap().len(), 1_000_000);
    }
}

#[test]
fn unread_results_do_not_delay_the_end() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT] {
        let dir = tempfile::tempdir().unwrap();
        let (to, held) = unread(&dir);
        let (spec, file) = (dir.path().join("spec.json"), dir.path().join("results.json"));
        let script = "head -c 1000000 /dev/zero | tr '\\0' x";
        let argv = json!(["/bin/sh", "-c", script]);
        let capture = json!([["1", {"capture": {"encoding": "utf-8"}}]]);
        let specs = json!({"specs": {"a": {"argv": argv, "fds": capture}}});
        std::fs::write(&spec, specs.to_string()).unwrap();
        let mut command = procstar(&dir);
        command.arg("--print").arg("--output").arg(&file).arg(&spec);
        let child = detached(&mut command).stdout(to).stderr(Stdio::piped()).spawn().unwrap();
        full(&held);
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{signal}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains("cannot write results to standard output: nobody reads it"),
            "{said}"
        );
        // The file has the results nevertheless.
        let results: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(results["a"]["fds"]["stdout"]["text"].as_str().unwrap().len(), 1_000_000);
    }
}

#[test]
fn every_signal_ends_a_command_with_unread_output() {
    let service = Instance::new();
    service
        .run(&["start", "--id", "a", "--", "sh", "-c", "head -c 300000 /dev/zero; exec sleep 1000"])
        .good();
    for args in [&["logs", "-f", "a"][..], &["logs", "a"]] {
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT] {
            let dir = tempfile::tempdir().unwrap();
            let (to, held) = unread(&dir);
            let mut child = service.command(args).stdout(to).spawn().unwrap();
            full(&held);
            kill(Pid::from_raw(child.id() as i32), signal).unwrap();
            assert_eq!(wait(&mut child).signal(), Some(signal as i32), "{args:?} {signal}");
        }
    }
}

#[test]
fn every_signal_ends_events_with_unread_output() {
    let service = Instance::new();
    let mut number = 0;
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT] {
        let dir = tempfile::tempdir().unwrap();
        let (to, held) = unread(&dir);
        nix::fcntl::fcntl(&held, nix::fcntl::FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
        let mut child = service.command(&["events", "-o", "json"]).stdout(to).spawn().unwrap();
        while !is_full(&held) {
            service.ended(&number.to_string(), "");
            number += 1;
        }
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        assert_eq!(wait(&mut child).signal(), Some(signal as i32), "{signal}");
    }
}
