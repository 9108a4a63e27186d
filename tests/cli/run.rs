//! `procstar run` as a user runs it: in a pipe and on a terminal.

mod jobs;
mod stopping;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::wait::eventually;
use crate::terminal::Terminal;

fn procstar(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_procstar"));
    command.arg("run").args(args);
    command
}

fn output(args: &[&str]) -> Output {
    procstar(args).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The exit status as a shell's `$?`: the exit code, or 128 plus the number of the signal.
fn shells(status: std::process::ExitStatus) -> Option<i32> {
    status.code().or(status.signal().map(|signum| 128 + signum))
}

fn is_there(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None).is_ok()
}

#[test]
fn exit_codes_are_those_of_env_and_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (file, missing) = (file.to_str().unwrap(), dir.path().join("no/such/dir/out"));
    for (args, code, said) in [
        (&["true"][..], 0, ""),
        (&["sh", "-c", "exit 7"], 7, ""),
        (&["sh", "-c", "exit 255"], 255, ""),
        (&["sh", "-c", "kill -TERM $$"], 143, ""),
        (&["sh", "-c", "kill -KILL $$"], 137, ""),
        (&["-t", "0.2", "sleep", "1000"], 124, ""),
        (&["-t", "0.2", "--signal", "KILL", "sleep", "1000"], 124, ""),
        (&["-t", "1000", "sh", "-c", "exit 3"], 3, ""),
        (&["no-such-command"], 127, "procstar: execve failed: no-such-command: No such file"),
        (&["./no/such/command"], 127, "procstar: execve failed: ./no/such/command: No such file"),
        (&["no-such-command"], 127, "no directory of the process's PATH has it"),
        (&["--no-lookup-path", "true"], 127, "set `lookup_path: true` in the spec"),
        (&[file], 126, "Permission denied"),
        (&["--restrict-exe", "/usr/bin/id", "true"], 126, "restricted executable: /usr/bin/id"),
        (&["-C", "/no/such", "true"], 125, "failed to set cwd: "),
        (&["-u", "no such user", "true"], 125, "failed to set user: "),
        (&["--odd", "true"], 125, "unexpected argument '--odd'"),
        (&[], 125, "Usage: procstar run"),
        (&["--umask", "9", "true"], 125, "error: --umask: "),
        (&["--serve", "true"], 125, "it takes no --serve, --agent or --state-dir"),
        (&["--config", "/no/such/file", "true"], 125, "/no/such/file"),
        (
            &["--results", missing.to_str().unwrap(), "true"],
            125,
            "; create its directory, or choose another path",
        ),
        (&["--help"], 0, ""),
    ] {
        let output = output(args);
        assert_eq!(shells(output.status), Some(code), "{args:?}: {}", text(&output.stderr));
        let stderr = text(&output.stderr);
        assert!(
            stderr.contains(said) && stderr.is_empty() == said.is_empty(),
            "{args:?}: {stderr}"
        );
    }
}

#[test]
fn options_reach_the_process() {
    let script = "pwd; umask; ulimit -n; ulimit -c; nice; echo $A$B${HOME-none}; id -u";
    let mut command = procstar(&[
        "-C",
        "/usr",
        "--umask",
        "0027",
        "--rlimit",
        "nofile=77",
        "--rlimit",
        "core=0",
        "-n",
        "5",
        "-e",
        "A=1 2",
        "-e",
        "B",
        "--no-env",
        "-e",
        "PATH",
        "sh",
        "-c",
        script,
    ]);
    let output = command.env("B", "3").env("HOME", "/home").output().unwrap();
    let id = nix::unistd::geteuid();
    assert_eq!(
        text(&output.stdout),
        format!("/usr\n0027\n77\n0\n5\n1 23none\n{id}\n"),
        "{output:?}"
    );
    if id.is_root() {
        let output = self::output(&["-u", "65534", "-g", "65534", "id", "-u"]);
        assert_eq!(text(&output.stdout), "65534\n", "{}", text(&output.stderr));
    }
}

#[test]
fn bytes_pass_as_they_are_and_at_once() {
    let mut child =
        procstar(&["cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut to, mut from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let odd: Vec<u8> = (0..=255).collect();
    for _ in 0..3 {
        // Each write is echoed before the next one.
        to.write_all(&odd).unwrap();
        let mut back = [0; 256];
        from.read_exact(&mut back).unwrap();
        assert_eq!(back.as_slice(), odd);
    }
    drop(to);
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_result_in_a_file_and_on_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("result.json");
    let at = path.to_str().unwrap();
    let args = ["-r", at, "--id", "job/7", "--label", "a=b", "sh", "-c", "echo out; exit 3"];
    let output = output(&args);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(3), "out\n".into()));
    let results: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let result = &results["job/7"];
    assert_eq!(result["status"]["exit_code"], 3);
    assert_eq!(result["labels"], json!({"a": "b"}));
    assert_eq!(result["fds"], json!({}));

    for (to, own) in [("-", false), ("/dev/stdout", false), ("/dev/stderr", true)] {
        let output = self::output(&["-r", to, "sh", "-c", "echo out; echo err >&2"]);
        assert!(output.status.success());
        let (plain, with) = match own {
            false => (text(&output.stderr), text(&output.stdout)),
            true => (text(&output.stdout), text(&output.stderr)),
        };
        let (first, result) = with.split_once('\n').unwrap();
        assert!([&plain[..3], first] == ["err", "out"] || [&plain[..3], first] == ["out", "err"]);
        let result: Value = serde_json::from_str(result).unwrap();
        assert_eq!(result["sh"]["state"], "terminated", "{to}");
    }

    // A process that cannot be started has a result, too.
    let output = self::output(&["-r", "-", "no-such-command"]);
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(127));
    assert_eq!(result["no-such-command"]["state"], "error");
}

#[test]
fn captured_output_is_shown_as_it_comes() {
    let mut child = procstar(&["--capture", "-r", "/dev/stderr", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut lines = BufReader::new(from).lines();
    for n in 0..3 {
        writeln!(to, "line {n}").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), format!("line {n}"));
    }
    drop(to);
    assert!(lines.next().is_none());
    let output = child.wait_with_output().unwrap();
    let result: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(result["cat"]["fds"]["stdout"]["text"], "line 0\nline 1\nline 2\n");
    assert_eq!(result["cat"]["captures"]["stdout"]["complete"], true);
}

#[test]
fn captured_output_of_any_size_is_complete() {
    let size = 3_000_000;
    let script = format!("head -c {size} /dev/zero; echo last >&2");
    let output = output(&["--capture", "-r", "/dev/null", "sh", "-c", &script]);
    assert!(output.status.success());
    assert_eq!((output.stdout.len(), text(&output.stderr)), (size, "last\n".into()));
}

#[test]
fn closing_the_output_stops_the_process_by_sigpipe() {
    let script = "while :; do echo y; sleep 0.01; done";
    for capture in [&[][..], &["--capture", "-r", "/dev/null"]] {
        let mut child = procstar(&[capture, &["-t", "30", "sh", "-c", script]].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "y\n");
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGPIPE), "{capture:?}");
    }
}

/// A script that prints its pid and that of its child, and ends with a message on INT and TERM.
const CHATTY: &str = "trap 'echo got INT; exit 5' INT; trap 'echo got TERM; exit 6' TERM
    sleep 1000 & echo $$ $!; while :; do wait; done";
/// The same script, but it continues after each signal.
const DEAF: &str = "trap 'echo got INT' INT; trap 'echo got TERM' TERM
    sleep 1000 & echo $$ $!; while :; do wait; done";

/// Starts a script, and waits until its traps are set: it prints its pids after that.
fn start(args: &[&str], script: &str) -> (Child, BufReader<std::process::ChildStdout>, Vec<i32>) {
    let mut child = procstar(&[args, &["sh", "-c", script]].concat())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut from = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    let pids = line.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    (child, from, pids)
}

fn rest(mut from: BufReader<std::process::ChildStdout>) -> String {
    let mut rest = String::new();
    from.read_to_string(&mut rest).unwrap();
    rest
}

#[test]
fn a_signal_is_passed_on_and_the_exit_code_returned() {
    for (signal, said, code) in [(Signal::SIGINT, "INT", 5), (Signal::SIGTERM, "TERM", 6)] {
        let (mut child, from, pids) = start(&[], CHATTY);
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{signal}");
        assert_eq!(rest(from), format!("got {said}\n"));
        eventually("the end of the tree", || !pids.iter().any(|pid| is_there(*pid)));
    }
}

#[test]
fn a_second_signal_kills_and_so_does_the_grace() {
    let (mut child, mut from, pids) = start(&[], DEAF);
    let procstar = Pid::from_raw(child.id() as i32);
    kill(procstar, Signal::SIGINT).unwrap();
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    assert_eq!(line, "got INT\n");
    kill(procstar, Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert_eq!(rest(from), "");
    eventually("the end of the tree", || !pids.iter().any(|pid| is_there(*pid)));

    let (mut child, from, pids) = start(&["--grace", "0.2"], DEAF);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert_eq!(rest(from), "got TERM\n");
    eventually("the end of the tree", || !pids.iter().any(|pid| is_there(*pid)));
}

#[test]
fn a_timeout_leaves_no_process() {
    let (mut child, from, pids) = start(&["-t", "0.5", "-k", "0.2", "--signal", "INT"], DEAF);
    assert_eq!(child.wait().unwrap().code(), Some(124));
    assert_eq!(rest(from), "got INT\n");
    eventually("the end of the tree", || !pids.iter().any(|pid| is_there(*pid)));
}

#[test]
fn quit_kills_at_once() {
    let (mut child, from, pids) = start(&[], DEAF);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGQUIT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (None, Some(libc::SIGKILL)));
    assert_eq!(rest(from), "");
    eventually("the end of the tree", || !pids.iter().any(|pid| is_there(*pid)));
}

#[test]
fn a_process_inherits_the_terminal() {
    let script =
        "test -t 0 && test -t 1 && test -t 2 && echo a terminal; read line; echo got $line";
    let mut terminal = Terminal::of(procstar(&["sh", "-c", script]));
    terminal.wait_for("a terminal");
    terminal.type_in("hello\n");
    terminal.wait_for("got hello");
    assert_eq!(terminal.wait().code(), Some(0));
}

#[test]
fn ctrl_c_signals_the_process_without_stopping_it() {
    let mut terminal = Terminal::of(procstar(&["-k", "0.1", "sh", "-c", DEAF]));
    terminal.wait_for("\n");
    let pids: Vec<i32> =
        terminal.seen().split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    for count in 1..=3 {
        // Each Ctrl-C is one SIGINT from the terminal; procstar does not count it as a second stop.
        terminal.type_in("\u{3}");
        eventually("the trap", || terminal.seen().matches("got INT").count() == count);
    }
    assert!(pids.iter().all(|pid| is_there(*pid)), "the process continues");
    // The script has no trap for SIGQUIT. Its `sleep` may survive: shells without job control start
    // background commands with SIGQUIT ignored.
    terminal.type_in("\u{1c}");
    assert_eq!(terminal.wait().signal(), Some(libc::SIGQUIT));
    assert!(!is_there(pids[0]));
    if is_there(pids[1]) {
        kill(Pid::from_raw(pids[1]), Signal::SIGKILL).unwrap();
    }
}

/// Unlike Ctrl-C, which reaches the whole foreground group, this signal reaches only procstar.
#[test]
fn on_a_terminal_a_signal_to_procstar_alone_is_passed_on() {
    let mut terminal = Terminal::of(procstar(&["bash", "-c", CHATTY]));
    terminal.wait_for("\n");
    let pids: Vec<i32> =
        terminal.seen().split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    kill(Pid::from_raw(terminal.pid()), Signal::SIGTERM).unwrap();
    assert_eq!(terminal.wait().code(), Some(6));
    assert!(terminal.seen().contains("got TERM"));
    eventually("the end of the tree", || !pids.iter().any(|pid| is_there(*pid)));
}

/// On a terminal procstar is in the process group of its job: a signal of the job to its own group
/// must not stop procstar.
#[test]
fn a_process_that_signals_its_group_does_not_stop_itself() {
    let dir = tempfile::tempdir().unwrap();
    let result = dir.path().join("result.json");
    let script = "trap 'echo own; exit 4' TERM; kill -TERM 0; sleep 1000";
    let args = ["-k", "0.1", "-r", result.to_str().unwrap(), "--id", "x", "bash", "-c", script];
    let mut terminal = Terminal::of(procstar(&args));
    assert_eq!(terminal.wait().code(), Some(4));
    let results: Value = serde_json::from_slice(&std::fs::read(&result).unwrap()).unwrap();
    assert_eq!(results["x"]["reason"], "exited");
}

#[test]
fn run_ends_by_the_signal_that_ended_the_process() {
    for signum in [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGSEGV, libc::SIGKILL, 34] {
        let script = format!("import os, signal; os.kill(os.getpid(), {signum})");
        // Only procstar itself could dump a core here: the limit is set for the process alone.
        let dir = tempfile::tempdir().unwrap();
        let result = dir.path().join("result.json");
        let args = ["-r", result.to_str().unwrap(), "--rlimit", "core=0", "--id", "x"];
        let status = procstar(&[&args[..], &["python3", "-c", &script]].concat())
            .current_dir(dir.path())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        // Python turns SIGINT into KeyboardInterrupt, and then ends itself by SIGINT.
        assert_eq!((status.signal(), status.core_dumped()), (Some(signum), false), "{signum}");
        let results: Value = serde_json::from_slice(&std::fs::read(&result).unwrap()).unwrap();
        assert_eq!(results["x"]["status"]["signum"], signum);
    }
}

/// xargs continues after most exit codes, but stops after a signal.
#[test]
fn xargs_sees_the_signal() {
    let mut child = Command::new("xargs")
        .args(["-n1", env!("CARGO_BIN_EXE_procstar"), "run", "sh", "-c", "echo $0; kill -INT $$"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"1 2 3").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(125), "1\n".into()));
}

#[test]
fn run_ignores_the_configured_service_agent_and_state_directory() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("procstar.toml");
    let state = dir.path().join("state");
    let text = format!(
        "[http]\nenabled = true\nport = 1\n[agent]\nenabled = true\nhost = \"localhost\"\n[run]\nstate_dir = {state:?}\n"
    );
    std::fs::write(&config, text).unwrap();
    let output = output(&["--config", config.to_str().unwrap(), "echo", "hi"]);
    assert_eq!(self::text(&output.stdout), "hi\n", "{}", self::text(&output.stderr));
    assert!(output.status.success() && !state.exists());
}

#[test]
fn an_invalid_exe_pattern_is_exit_code_125() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("procstar.toml");
    std::fs::write(&config, "[capture]\nkeep_head = 3\n").unwrap();
    // `capture.keep_head` limits the stored output, not the output that is passed on.
    let args =
        ["--config", config.to_str().unwrap(), "--capture", "-r", "/dev/null", "echo", "hello"];
    assert_eq!(text(&output(&args).stdout), "hello\n");
    let args = ["--restrict-exe", "/[", "true"];
    let output = output(&args);
    assert_eq!(output.status.code(), Some(125), "{}", text(&output.stderr));
}

/// A process of another user is not part of the shell's job: it could otherwise insert input into
/// the terminal on behalf of the shell's user.
#[test]
fn another_users_process_reads_nothing_in_the_background() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut command = Command::new("/bin/bash");
    let script = "\"$0\" run -u 65534 cat & wait $!; echo ended $?; read line; echo still $line";
    command.args(["-mc", script, env!("CARGO_BIN_EXE_procstar")]);
    let mut terminal = Terminal::of(command);
    terminal.type_in("here\n");
    terminal.wait_for("ended 0\nstill here\n");
    assert!(terminal.wait().success());
}

#[test]
fn a_worker_that_dies_costs_neither_process_nor_exit_code() {
    let (mut child, from, pids) = start(&[], CHATTY);
    let procstar = child.id();
    let children = format!("/proc/{procstar}/task/{procstar}/children");
    let worker = || -> Option<i32> {
        let children = std::fs::read_to_string(&children).ok()?;
        children.split_whitespace().find_map(|pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            (name == "procstar-worker\n").then(|| pid.parse().ok())?
        })
    };
    let first = worker().unwrap();
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    eventually("another worker", || worker().is_some_and(|pid| pid != first));
    assert!(is_there(pids[0]));
    kill(Pid::from_raw(procstar as i32), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
    assert_eq!(rest(from), "got INT\n");
}
