//! The table of signals in `docs/reference/operations.md`, row by row: a service, a one-shot, and a
//! process in the foreground.

mod unread_output;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procstar::keeper::meaning::{ALL, Meaning, Mode, Receipt, Terminal, meaning, receipt};
use procstar::signal::signal_name;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::harness::{Instance, procstar};
use crate::support::process::is_running;
use crate::support::wait::eventually;

/// Sends a signal by number: `nix` has no names for some.
fn send(pid: u32, signum: i32) {
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::kill(pid as i32, signum) }, 0);
}

/// Runs the command in a session of its own, without a controlling terminal.
fn detached(command: &mut Command) -> &mut Command {
    // SAFETY: one system call, which is safe between fork and exec.
    unsafe { command.pre_exec(|| Ok(nix::unistd::setsid().map(drop)?)) }
}

/// The signals with this meaning among those that the keeper reads.
fn signals_that(mode: Mode, wanted: Meaning) -> Vec<i32> {
    let read = ALL.filter(|signum| receipt(*signum) == Receipt::Read);
    read.filter(|signum| meaning(*signum, mode, Terminal::None) == wanted).collect()
}

/// Waits for the end of a child, with the deadline of `eventually`.
fn wait(child: &mut Child) -> ExitStatus {
    eventually("end of the program", || child.try_wait().unwrap())
}

/// A service with a log file and one long-running process.
struct Service {
    instance: Instance,
    pid: i32,
}

impl Service {
    fn new() -> Service {
        let dir = tempfile::tempdir().unwrap();
        let mut command = procstar(&dir);
        command.args(["--serve", "--serve-port", "0"]);
        Service::start(dir, detached(&mut command))
    }

    fn start(dir: TempDir, command: &mut Command) -> Service {
        let log = File::create(dir.path().join("log")).unwrap();
        command.stderr(log);
        let command = std::mem::replace(command, Command::new("/bin/true"));
        Service::of(Instance::start(dir, command))
    }

    fn of(instance: Instance) -> Service {
        instance.specs(&json!({"long": {"argv": ["/bin/sleep", "1000"]}}));
        let shown = instance.run(&["show", "-o", "json", "long"]).json();
        let pid = i32::try_from(shown["long"]["pid"].as_i64().unwrap()).unwrap();
        Service { instance, pid }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.instance.dir.path().join("log")).unwrap()
    }

    /// Waits until the log has this number of upgrades; asserts that the process still runs.
    fn upgraded(&self, times: usize) {
        eventually("upgrade", || self.log().matches(": upgraded").count() == times);
        assert!(is_running(self.pid), "{}", self.log());
    }
}

#[test]
fn service_and_worker_ignore_signals_without_a_meaning() {
    let service = Service::new();
    let worker = service.instance.worker_pid();
    let ignored = signals_that(Mode::Service, Meaning::Ignored);
    assert_eq!(ignored.len(), 41);
    let harmless = ALL.filter(|signum| {
        receipt(*signum) == Receipt::Discarded
            || meaning(*signum, Mode::Service, Terminal::None) == Meaning::Nothing
                && [libc::SIGWINCH, libc::SIGCHLD, libc::SIGURG, libc::SIGCONT].contains(signum)
    });
    for signum in ignored.iter().copied().chain(harmless) {
        send(service.instance.pid(), signum);
        if ![libc::SIGABRT, libc::SIGTRAP].contains(&signum) {
            send(worker as u32, signum);
        }
    }
    for signum in ignored {
        let line = format!("ignored {}, ", signal_name(signum).unwrap());
        eventually(&line, || service.log().contains(&line));
    }
    assert_eq!(service.instance.worker_pid(), worker, "{}", service.log());
    assert!(is_running(service.pid));
    assert!(!service.log().contains("the worker has died"), "{}", service.log());
}

/// The helper processes of the keeper: clone helpers, which clone processes, and capture writers,
/// which store output.
fn helpers(service: &Service) -> Vec<i32> {
    let all = children_of(service.instance.pid()).into_iter();
    let ours = all.filter(|(_, name)| ["proxy", "procstar-filter"].contains(&name.as_str()));
    ours.map(|(pid, _)| pid).collect()
}

#[test]
fn stray_signals_end_no_helper_and_lose_no_output() {
    let service = Service::new();
    let gate = service.instance.dir.path().join("gate");
    let script = format!("until [ -e {} ]; do sleep 0.01; done; seq 9999", gate.display());
    let fds = json!([["1", {"capture": {"compress": "gzip"}}]]);
    let spec = json!({"argv": ["/bin/sh", "-c", script], "fds": fds, "pdeath_signal": "KILL"});
    service.instance.specs(&json!({"a": spec}));
    // One clone helper and one capture writer.
    let helpers =
        eventually("helpers", || Some(helpers(&service)).filter(|found| found.len() >= 2));
    let orders = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];
    let strays = signals_that(Mode::Service, Meaning::Ignored).into_iter().chain(orders);
    for signum in strays.filter(|signum| *signum != libc::SIGABRT) {
        for pid in &helpers {
            send(*pid as u32, signum);
        }
    }
    for pid in helpers {
        assert!(is_running(pid));
    }
    std::fs::write(gate, "").unwrap();
    assert_eq!(service.instance.run(&["wait", "a"]).code, Some(0));
    let shown = service.instance.run(&["show", "-o", "json", "a"]).json();
    assert_eq!(shown["a"]["captures"]["stdout"]["complete"], true, "{shown}");
    assert_eq!(shown["a"]["captures"]["stdout"]["length"], 48_888);
}

#[test]
fn a_service_without_a_terminal_is_upgraded_by_sighup_and_sigusr2() {
    let service = Service::new();
    for (times, signum) in [(1, libc::SIGHUP), (2, libc::SIGUSR2)] {
        send(service.instance.pid(), signum);
        service.upgraded(times);
    }
    // The sender may be the leader of the session, like a supervisor.
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("/bin/sh");
    let script = "\"$0\" --serve --serve-port 0 & echo $! > pid; read line; kill -HUP $!; wait";
    command.args(["-c", script, env!("CARGO_BIN_EXE_procstar")]).current_dir(dir.path());
    command.env("TMPDIR", dir.path()).env("PROCSTAR_SHUTDOWN_KILL_GRACE", "0.1");
    command.env("PROCSTAR_RUN_RUNTIME_DIR", dir.path().join("run"));
    let log = File::create(dir.path().join("log")).unwrap();
    let mut shell = detached(&mut command).stdin(Stdio::piped()).stderr(log).spawn().unwrap();
    let pid = eventually("instance", || super::harness::sockets(&dir).pop()).0;
    drop(shell.stdin.take());
    let log = || std::fs::read_to_string(dir.path().join("log")).unwrap();
    eventually("upgrade", || log().contains(": upgraded"));
    send(pid, libc::SIGTERM);
    wait(&mut shell);
}

#[test]
fn an_upgrade_reaches_every_kind_of_run() {
    // SIGHUP is ignored, as by nohup.
    let dir = tempfile::tempdir().unwrap();
    let mut command = procstar(&dir);
    command.args(["--serve", "--serve-port", "0"]);
    // SAFETY: one system call, which is safe between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            Ok(())
        });
    }
    let service = Service::start(dir, &mut command);
    send(service.instance.pid(), libc::SIGHUP);
    assert!(service.instance.run(&["upgrade"]).good().contains("now runs"));
    service.upgraded(1);
    // A process in the foreground, which SIGHUP would end.
    let dir = tempfile::tempdir().unwrap();
    let mut job = Job::new(procstar(&dir).args(["run", "--", "sh", "-c", RECORDER]));
    let mut upgrade = procstar(&dir);
    let output = upgrade.arg("upgrade").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    send(job.child.id(), libc::SIGUSR1);
    assert_eq!(job.line(), "got 10");
    send(job.child.id(), libc::SIGQUIT);
    wait(&mut job.child);
}

/// A bash that prints a line for each signal that can be trapped, and continues.
const RECORDER: &str = "exec bash -c 'for s in $(seq 64); do
    case $s in 9|17|19|32|33) ;; *) trap \"echo got $s\" $s ;; esac
    done; echo up; sleep 1000 & while :; do wait; done'";

/// A program whose output is read by lines.
struct Job {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Job {
    /// Starts a command without a terminal, and waits until its process prints `up`.
    fn new(command: &mut Command) -> Job {
        let mut child = detached(command).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut job = Job { child, lines };
        assert_eq!(job.line(), "up");
        job
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        rest
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // It still runs if the test has failed.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            send(self.child.id(), libc::SIGQUIT);
            let _ = self.child.wait();
        }
    }
}

#[test]
fn signals_that_would_end_procstar_are_passed_on_in_the_foreground() {
    let dir = tempfile::tempdir().unwrap();
    let mut job = Job::new(procstar(&dir).args(["run", "--", "sh", "-c", RECORDER]));
    let mut passed_on = signals_that(Mode::Foreground, Meaning::PassOn { group: false });
    passed_on.push(libc::SIGWINCH);
    assert_eq!(passed_on.len(), 44);
    for signum in passed_on {
        send(job.child.id(), signum);
        assert_eq!(job.line(), format!("got {signum}"));
    }
    send(job.child.id(), libc::SIGQUIT);
    assert!(!wait(&mut job.child).success());
}

#[test]
fn sighup_stops_a_process_in_the_foreground() {
    let dir = tempfile::tempdir().unwrap();
    let script = "trap 'echo got TERM; exit 6' TERM; echo up; while :; do sleep 0.01; done";
    let mut job = Job::new(procstar(&dir).args(["run", "--", "sh", "-c", script]));
    send(job.child.id(), libc::SIGHUP);
    assert_eq!(job.line(), "got TERM");
    assert_eq!(wait(&mut job.child).code(), Some(6));
}

#[test]
fn signals_that_would_end_a_one_shot_shut_it_down() {
    let dir = tempfile::tempdir().unwrap();
    let spec = dir.path().join("spec.json");
    let argv = json!(["/bin/sh", "-c", "echo up; exec sleep 1000"]);
    std::fs::write(&spec, json!({"specs": {"a": {"argv": argv}}}).to_string()).unwrap();
    let ending = signals_that(
        Mode::OneShot,
        Meaning::ShutDown(procstar::keeper::format::ShutdownCommand::Terminate),
    );
    assert_eq!(ending.len(), 44);
    // Three of the real-time signals are enough.
    let three = [34, 50, 64];
    for signum in ending.into_iter().filter(|signum| *signum < 34 || three.contains(signum)) {
        let mut job = Job::new(procstar(&dir).arg("--print").arg(&spec));
        send(job.child.id(), signum);
        assert_eq!(wait(&mut job.child).code(), Some(0), "{signum}");
        let results: Value = serde_json::from_str(&job.rest()).unwrap();
        assert_eq!(results["a"]["status"]["signal"], "SIGTERM", "{signum}");
    }
}

/// Starts a command as session leader of a new terminal; returns the master of the terminal.
fn on_terminal(command: &mut Command) -> (Child, File) {
    let pty = openpty(None, None).unwrap();
    let end = || Stdio::from(pty.slave.try_clone().unwrap());
    command.stdin(end()).stdout(end());
    let slave = pty.slave.as_raw_fd();
    // SAFETY: system calls without pointers, which are safe between fork and exec.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::setsid()?;
            match libc::ioctl(slave, libc::TIOCSCTTY, 0) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let master = File::from(pty.master);
    nix::fcntl::fcntl(&master, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))
        .unwrap();
    let child = command.spawn().unwrap();
    // The command builder holds the terminal open until it is dropped.
    *command = Command::new("/bin/true");
    (child, master)
}

/// An interactive shell on a terminal, with a service as its job.
struct Shell {
    dir: TempDir,
    shell: Child,
    terminal: File,
    service: u32,
    process: i32,
}

impl Shell {
    fn new() -> Shell {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/bash");
        command.args(["--norc", "--noprofile", "-i"]).current_dir(dir.path()).env_clear();
        command
            .env("TMPDIR", dir.path())
            .env("PROCSTAR_RUN_RUNTIME_DIR", dir.path().join("run"))
            .env("PATH", "/usr/bin:/bin")
            .env("PROCSTAR_SHUTDOWN_KILL_GRACE", "0.1");
        command.stderr(File::create(dir.path().join("log")).unwrap());
        let (shell, mut terminal) = on_terminal(&mut command);
        let own = env!("CARGO_BIN_EXE_procstar");
        let keys = format!("{own} --serve --serve-port 0 > out 2> service.log &\n");
        std::io::Write::write_all(&mut terminal, keys.as_bytes()).unwrap();
        let service = eventually("instance", || super::harness::sockets(&dir).pop()).0;
        let start = ["start", "--id", "long", "--", "sleep", "1000"];
        assert!(procstar(&dir).args(start).output().unwrap().status.success());
        let shown = procstar(&dir).args(["show", "-o", "json", "long"]).output().unwrap();
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
        let process = i32::try_from(shown["long"]["pid"].as_i64().unwrap()).unwrap();
        Shell { dir, shell, terminal, service, process }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("service.log")).unwrap()
    }
}

#[test]
fn a_job_of_a_shell_is_upgraded_by_the_shells_signal_and_ends_with_the_terminal() {
    let mut shell = Shell::new();
    std::io::Write::write_all(&mut shell.terminal, b"kill -HUP %1\n").unwrap();
    eventually("upgrade", || shell.log().contains(": upgraded"));
    assert!(is_running(shell.process), "{}", shell.log());
    // Close the terminal: the kernel sends SIGHUP to the shell, and the shell to its jobs.
    let Shell { dir, shell: mut child, terminal, service, process } = shell;
    drop(terminal);
    wait(&mut child);
    eventually("end of the service", || !is_running(service as i32));
    assert!(!is_running(process));
    drop(dir);
}

#[test]
fn a_service_in_front_of_a_terminal_ends_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = procstar(&dir);
    command.args(["--serve", "--serve-port", "0"]).stderr(Stdio::null());
    let (mut child, terminal) = on_terminal(&mut command);
    eventually("instance", || super::harness::sockets(&dir).pop());
    drop(terminal);
    assert_eq!(wait(&mut child).code(), Some(0));
}

#[test]
fn a_run_on_an_open_terminal_ends_by_a_hangup_signal() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = procstar(&dir);
    command.args(["run", "--", "sleep", "1000"]).stderr(Stdio::null());
    let (mut child, terminal) = on_terminal(&mut command);
    eventually("process", || has_child(child.id(), "sleep"));
    send(child.id(), libc::SIGHUP);
    assert!(!wait(&mut child).success());
    drop(terminal);
}

/// The children of all threads of a process, with their names.
fn children_of(pid: u32) -> Vec<(i32, String)> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists =
        threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let all: String = lists.collect();
    let named = |pid: &str| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        Some((pid.parse().ok()?, name.trim_end().to_owned()))
    };
    all.split_whitespace().filter_map(named).collect()
}

/// Whether a process has a child of this name.
fn has_child(pid: u32, name: &str) -> bool {
    children_of(pid).iter().any(|(_, known)| known == name)
}

/// Waits until the reader of INPUT sleeps in a system call: in read, or in open of a FIFO. The
/// reader is the worker; `validate` has no worker and reads itself.
fn reads_input(pid: u32, args: &[&str]) {
    eventually("reader of INPUT", || {
        let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        let (reader, expected) = if args.contains(&"validate") {
            (pid.to_string(), "procstar\n")
        } else {
            (list.split_whitespace().next()?.to_owned(), "procstar-worker\n")
        };
        let waits = std::fs::read_to_string(format!("/proc/{reader}/wchan")).unwrap_or_default();
        let state = std::fs::read_to_string(format!("/proc/{reader}/stat")).ok()?;
        let sleeps = state.rsplit(')').next()?.starts_with(" S");
        let name = std::fs::read_to_string(format!("/proc/{reader}/comm")).ok()?;
        (name == expected && sleeps && !waits.contains("futex")).then_some(())
    });
}

fn fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
}

#[test]
fn sigint_sigterm_and_sigquit_interrupt_reading_input() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    fifo(&path);
    let config = dir.path().join("config.toml");
    fifo(&config);
    let (path, config) = (path.to_str().unwrap(), config.to_str().unwrap());
    for args in [
        &["--print", path][..],
        &["validate", path],
        &["--config", config, "--print", "/dev/null"],
        &["--config", config, "run", "true"],
    ] {
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT] {
            let mut command = procstar(&dir);
            let mut child = detached(command.args(args)).spawn().unwrap();
            reads_input(child.id(), args);
            kill(Pid::from_raw(child.id() as i32), signal).unwrap();
            let status = wait(&mut child);
            assert_eq!(status.signal(), Some(signal as i32), "{args:?} {signal}: {status:?}");
            assert!(!status.core_dumped());
        }
    }
}

#[test]
fn ctrl_c_and_ctrl_backslash_interrupt_typed_input() {
    for (keys, signal) in [("\u{3}", libc::SIGINT), ("\u{1c}", libc::SIGQUIT)] {
        for args in [&["--print", "-"][..], &["validate", "-"], &["--serve", "--exit", "-"]] {
            let dir = tempfile::tempdir().unwrap();
            let mut command = procstar(&dir);
            command.args(args).args(if args.contains(&"--serve") {
                &["--serve-port", "0"][..]
            } else {
                &[]
            });
            command.stderr(Stdio::null());
            let (mut child, mut terminal) = on_terminal(&mut command);
            reads_input(child.id(), args);
            std::io::Write::write_all(&mut terminal, keys.as_bytes()).unwrap();
            let status = wait(&mut child);
            assert_eq!(status.signal(), Some(signal), "{args:?}: {status:?}");
        }
    }
}

#[test]
fn a_signal_to_the_worker_while_it_reads_ends_the_program_and_a_drain_waits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    fifo(&path);
    let worker = |pid: u32| -> u32 {
        let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        list.split_whitespace().next().unwrap().parse().unwrap()
    };
    let mut child = procstar(&dir).arg("--print").arg(&path).spawn().unwrap();
    reads_input(child.id(), &[]);
    send(worker(child.id()), libc::SIGTERM);
    assert_eq!(wait(&mut child).signal(), Some(libc::SIGTERM));
    let mut child =
        procstar(&dir).arg("--print").arg(&path).stdout(Stdio::piped()).spawn().unwrap();
    reads_input(child.id(), &[]);
    for signum in [libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM, libc::SIGHUP] {
        send(worker(child.id()), signum);
    }
    std::fs::write(&path, r#"{"specs": {"a": {"argv": ["/bin/true"]}}}"#).unwrap();
    assert_eq!(wait(&mut child).code(), Some(0));
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert!(out.contains(r#""exit_code":0"#), "{out}");
}

#[test]
fn a_limit_of_file_sizes_costs_neither_the_program_nor_the_result() {
    let limited = |command: &mut Command, limit: u64| {
        // SAFETY: one system call, which is safe between fork and exec.
        unsafe {
            command.pre_exec(move || {
                use nix::sys::resource::{Resource, setrlimit};
                Ok(setrlimit(Resource::RLIMIT_FSIZE, limit, limit)?)
            });
        }
    };
    let run = |size: usize| {
        let dir = tempfile::tempdir().unwrap();
        let result = dir.path().join("result.json");
        let mut command = procstar(&dir);
        command.args(["run", "--capture", "-r", result.to_str().unwrap(), "--id", "a", "--"]);
        command.args(["sh", "-c", &format!("head -c {size} /dev/zero | tr '\\0' x")]);
        limited(&mut command, 1 << 20);
        let output = command.stdout(Stdio::null()).output().unwrap();
        let result = std::fs::read(&result).ok();
        (output, result.map(|bytes| serde_json::from_slice::<Value>(&bytes).unwrap()))
    };
    let (output, result) = run(900_000);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let result = result.unwrap();
    assert_eq!(result["a"]["status"]["exit_code"], 0);
    assert_eq!(result["a"]["fds"]["stdout"]["text"].as_str().unwrap().len(), 900_000);
    // A result beyond the limit is an error, not a hang.
    let (output, result) = run(2_000_000);
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(result.is_none() && said.contains("File too large"), "{said}");
    // A capture writer stores as much as the limit allows; the process is not affected.
    let dir = tempfile::tempdir().unwrap();
    let spec = dir.path().join("spec.json");
    let script =
        "head -c 500000 /dev/urandom && ! sh -c 'kill -XFSZ $$'; grep Sig /proc/self/status";
    let fds = json!([["1", {"capture": {"compress": "gzip", "attached": false}}]]);
    let specs = json!({"specs": {"a": {"argv": ["/bin/sh", "-c", script], "fds": fds}}});
    std::fs::write(&spec, specs.to_string()).unwrap();
    let mut command = procstar(&dir);
    limited(command.arg("--print").arg(&spec), 1 << 18);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(results["a"]["status"]["exit_code"], 0, "{results}");
    assert_eq!(results["a"]["captures"]["stdout"]["complete"], false, "{results}");
    assert_eq!(results["a"]["captures"]["stdout"]["reason"], "error", "{results}");
}

#[test]
fn processes_start_with_clean_signals_in_every_kind_of_run() {
    let clean = |status: &str| {
        let mask = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        assert_eq!([mask("SigBlk:"), mask("SigIgn:"), mask("SigCgt:")], [0; 3], "{status}");
    };
    let dir = tempfile::tempdir().unwrap();
    let output = procstar(&dir).args(["run", "cat", "/proc/self/status"]).output().unwrap();
    clean(std::str::from_utf8(&output.stdout).unwrap());
    let service = Instance::new();
    service.ended("a", "exec cat /proc/self/status");
    clean(&service.run(&["logs", "a"]).good());
    // A process with `pdeath_signal` is cloned by a clone helper.
    service
        .specs(&json!({"b": {"argv": ["/bin/cat", "/proc/self/status"], "pdeath_signal": "KILL",
        "fds": [["1", {"capture": {"mode": "memory"}}]]}}));
    service.run(&["wait", "b"]);
    clean(&service.run(&["logs", "b"]).good());
}
