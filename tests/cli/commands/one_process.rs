//! What needs no keeper runs in the launched process alone: the program is executed once.

use std::io::{PipeWriter, Read, Write, pipe};
use std::os::fd::AsRawFd;
use std::process::{Child, Stdio};

use super::harness::procstar;
use crate::support::wait::eventually;

/// A pipe that takes nothing more, so that whoever writes to it waits.
fn full_pipe() -> (impl Read, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    let nonblocking = |on: bool| {
        let flags = if on { libc::O_NONBLOCK } else { 0 };
        // SAFETY: the descriptor is open, and no pointer is passed.
        assert_eq!(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, flags) }, 0);
    };
    nonblocking(true);
    let page = [0; 4096];
    let fill = |mut writer: &PipeWriter| while writer.write(&page).is_ok() {};
    fill(&writer);
    nonblocking(false);
    writer.flush().unwrap();
    (reader, writer)
}

/// Waits until a process writes into a pipe that is full; the number of its children.
fn children_while_writing(child: &Child) -> usize {
    let of_main_thread = format!("/proc/{pid}/task/{pid}", pid = child.id());
    let read = |name: &str| std::fs::read_to_string(format!("{of_main_thread}/{name}")).ok();
    eventually("a process that writes, or a child of it", || {
        let children = read("children")?.split_whitespace().count();
        let waits = read("wchan")?.contains("pipe_w");
        (waits || children > 0).then_some(children)
    })
}

#[test]
fn commands_help_and_usage_errors_run_in_the_launched_process() {
    let dir = tempfile::tempdir().unwrap();
    let spec = dir.path().join("spec.json");
    std::fs::write(&spec, r#"{"specs": {"a": {"argv": ["/bin/true"]}}}"#).unwrap();
    let spec = spec.to_str().unwrap();
    for args in [
        &["--version"][..],
        &["--help"],
        &["--no-such-option"],
        &[],
        &["--agent"],
        &["--config", "/no/such/file", "--serve"],
        &["--serve", "--http-port", "many"],
        &["run"],
        &["run", "--help"],
        &["validate", spec],
        &["schema", "specs"],
        &["config", "show"],
        &["completions", "bash"],
        &["man"],
        &["ps"],
        &["logs", "--no-such-option"],
    ] {
        let (reader, writer) = full_pipe();
        let mut command = procstar(&dir);
        command.args(args).stdin(Stdio::null());
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let mut child = command.spawn().unwrap();
        // It holds our ends of the pipe.
        drop(command);
        assert_eq!(children_while_writing(&child), 0, "{args:?}");
        drop(reader);
        child.wait().unwrap();
    }
}
