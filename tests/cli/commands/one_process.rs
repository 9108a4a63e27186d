//! How often the program is executed: once, by the user, until a worker has died.

use std::io::{PipeWriter, Read, Write, pipe};
use std::os::fd::AsRawFd;
use std::process::{Child, Stdio};

use super::harness::procstar;
use crate::support::wait::eventually;

/// A full pipe: writing to it blocks.
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

/// Waits until a process blocks in a write to a full pipe; returns the number of its children.
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
        // The command builder holds the ends of the pipe open.
        drop(command);
        assert_eq!(children_while_writing(&child), 0, "{args:?}");
        drop(reader);
        child.wait().unwrap();
    }
}

/// The pid and command line of the child with this name.
fn child_of(keeper: u32, name: &str) -> Option<(i32, Vec<u8>)> {
    let threads = std::fs::read_dir(format!("/proc/{keeper}/task")).ok()?.flatten();
    let lists =
        threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let children: Vec<String> =
        lists.flat_map(|list| list.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect();
    children.into_iter().find_map(|pid| {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
        (read("comm")?.trim_end() == name).then_some(())?;
        Some((pid.parse().ok()?, read("cmdline")?.into_bytes()))
    })
}

/// A copy has the command line of its original; an executed program has a name of its own.
#[test]
fn the_first_worker_is_a_copy_and_later_ones_are_executed() {
    let dir = tempfile::tempdir().unwrap();
    let spec = dir.path().join("spec.json");
    std::fs::write(&spec, r#"{"specs": {"a": {"argv": ["/bin/sleep", "1000"]}}}"#).unwrap();
    for args in [&["--print", spec.to_str().unwrap()][..], &["run", "/bin/sleep", "1000"]] {
        let mut keeper = procstar(&dir).args(args).stdout(Stdio::null()).spawn().unwrap();
        let worker = || child_of(keeper.id(), "procstar-worker");
        let (first, line) = eventually("a worker", worker);
        let own = std::fs::read(format!("/proc/{}/cmdline", keeper.id())).unwrap();
        assert_eq!(line, own, "{args:?}");
        // Before there is a process, the end of the worker is that of the program.
        eventually("its process", || child_of(keeper.id(), "sleep"));
        // SAFETY: it takes no pointer. The worker is not reaped before it has ended.
        assert_eq!(unsafe { libc::kill(first, libc::SIGKILL) }, 0);
        let next = || worker().filter(|(pid, _)| *pid != first);
        let (_, line) = eventually("another worker", next);
        assert!(line.starts_with(b"procstar-worker\0"), "{args:?}");
        // SAFETY: as above.
        assert_eq!(unsafe { libc::kill(keeper.id().cast_signed(), libc::SIGQUIT) }, 0);
        keeper.wait().unwrap();
    }
}
