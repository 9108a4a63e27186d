//! Commands that wait or follow while the worker dies or the instance is upgraded: they continue
//! with the next worker.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::harness::{Instance, Ran, Running};
use crate::support::wait::{DEADLINE, eventually};

/// How often the worker is replaced: a command may not be connected yet at the first time.
const TIMES: usize = 3;

/// Replaces the worker in both ways; returns once another one answers.
fn replace_worker(instance: &Instance) {
    for _ in 0..TIMES {
        let before = instance.worker_pid();
        kill(Pid::from_raw(before), Signal::SIGKILL).unwrap();
        // Also where it finds no worker at first: there is an instance.
        eventually("another worker", || instance.worker_pid() != before);
    }
    upgrade(instance);
}

fn upgrade(instance: &Instance) {
    let pid = instance.pid().to_string();
    let upgraded = instance.run(&["upgrade", &pid]).good();
    assert!(upgraded.starts_with(&format!("pid {pid}: now runs ")), "{upgraded}");
}

/// Starts a process that ends when a file appears.
fn start_gated(instance: &Instance, id: &str, script: &str) -> std::path::PathBuf {
    let gate = instance.dir.path().join(format!("{id}.gate"));
    let wait = format!("until [ -e {} ]; do sleep 0.02; done", gate.display());
    instance.run(&["start", "--id", id, "--", "sh", "-c", &script.replace("WAIT", &wait)]).good();
    gate
}

fn run_beside(instance: &Instance, args: &[&str]) -> Running {
    let mut command = instance.command(args);
    command.stderr(Stdio::piped());
    Running::new(command)
}

fn finish(mut running: Running) -> Ran {
    let mut err = running.child.stderr.take().unwrap();
    let (code, out) = running.end();
    let mut text = String::new();
    err.read_to_string(&mut text).unwrap();
    Ran { code, out, err: text }
}

#[test]
fn wait_goes_on_with_the_next_worker() {
    let instance = Instance::new();
    let gate = start_gated(&instance, "a", "WAIT; exit 7");
    let waiting = run_beside(&instance, &["wait", "a"]);
    replace_worker(&instance);
    std::fs::write(gate, "").unwrap();
    assert_eq!(finish(waiting), Ran { code: Some(7), out: String::new(), err: String::new() });
}

#[test]
fn stop_goes_on_with_the_next_worker() {
    let instance = Instance::new();
    let gate = start_gated(
        &instance,
        "a",
        "trap 'echo asked; WAIT; exit 3' TERM; echo ready; while :; do sleep 0.02; done",
    );
    let log = |wanted: &str| {
        eventually(wanted, || instance.run(&["logs", "a"]).good().contains(wanted));
    };
    log("ready");
    let stopping = run_beside(&instance, &["stop", "--grace", "1h", "a"]);
    log("asked");
    replace_worker(&instance);
    std::fs::write(gate, "").unwrap();
    assert_eq!(finish(stopping), Ran { code: Some(0), out: "a\n".into(), err: String::new() });
    assert_eq!(instance.run(&["wait", "a"]).code, Some(3));
}

#[test]
fn logs_go_on_with_the_next_worker() {
    let instance = Instance::new();
    let gate = start_gated(&instance, "a", "echo begin; WAIT; echo end");
    let mut logs = run_beside(&instance, &["logs", "-f", "a"]);
    logs.until("begin");
    replace_worker(&instance);
    std::fs::write(gate, "").unwrap();
    assert_eq!(finish(logs), Ran { code: Some(0), out: "begin\nend\n".into(), err: String::new() });
}

/// Without a pause: an instance that is upgraded is always there for the next command.
#[test]
fn commands_find_the_instance_right_after_an_upgrade() {
    let instance = Instance::new();
    for n in 0..TIMES {
        upgrade(&instance);
        let id = format!("a{n}");
        assert_eq!(instance.run(&["start", "--id", &id, "--", "true"]).good(), format!("{id}\n"));
        assert_eq!(instance.run(&["wait", &id]).good(), "");
    }
}

/// If the instance has ended, commands return instead of waiting for a worker.
#[test]
fn a_command_whose_instance_ends_does_not_wait_for_another() {
    let instance = Instance::new();
    start_gated(&instance, "a", "WAIT");
    let mut logs = run_beside(&instance, &["events"]);
    logs.until("snapshot");
    let waiting = run_beside(&instance, &["wait", "a"]);
    let begin = std::time::Instant::now();
    drop(instance);
    // It is killed at the end: that may be the answer, if it comes in time.
    let ran = finish(waiting);
    assert!(matches!(ran.code, Some(125 | 143)), "{ran:?}");
    assert!(begin.elapsed() < DEADLINE);
    assert_eq!(finish(logs).code, Some(0));
}

/// What a command does with a service that takes its first request and is gone, and answers each later one with this; and how many requests
/// came.
fn without_an_answer(args: &[&str], later: &'static str) -> (Ran, usize) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&is_over);
    let service = std::thread::spawn(move || {
        let mut count = 0;
        loop {
            let (mut client, _) = listener.accept().unwrap();
            let mut buffer = [0; 4096];
            // The last connection of the test sends nothing, like a check for a listener.
            if client.read(&mut buffer).unwrap() == 0 {
                if ends.load(Ordering::SeqCst) {
                    return count;
                }
                continue;
            }
            if count > 0 {
                let (status, body) = later.split_once(' ').unwrap();
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\n\
                     Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
                client.write_all(answer.as_bytes()).unwrap();
            }
            count += 1;
        }
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_procstar"));
    let (name, rest) = args.split_first().unwrap();
    command.args([name, "--socket", socket.to_str().unwrap()]).args(rest);
    let ran = Ran::of(command.stdin(Stdio::null()).output().unwrap());
    is_over.store(true, Ordering::SeqCst);
    drop(std::os::unix::net::UnixStream::connect(&socket).unwrap());
    (ran, service.join().unwrap())
}

/// It is unknown whether the service executed the request, so a signal or start is not sent twice.
#[test]
fn a_request_that_is_not_safe_to_repeat_is_not_sent_twice() {
    for (args, why) in [
        (&["kill", "-s", "USR1", "a"][..], "the signal may have been sent"),
        (&["start", "--id", "a", "--", "/bin/true"], "the processes may have been started"),
        (&["prune", "--all"], "no answer"),
    ] {
        let (ran, requests) = without_an_answer(args, "200 {\"data\": {}}");
        assert_eq!((ran.code, requests), (Some(1), 1), "{ran:?}");
        assert!(ran.err.contains("lost the connection") && ran.err.contains(why), "{ran:?}");
    }
}

/// If the second attempt is refused, the first one has been executed.
#[test]
fn a_request_that_is_safe_to_repeat_is_sent_again() {
    const UNKNOWN: &str = "404 {\"errors\": [{\"status\": \"404\", \"detail\": \"unknown process: a; list processes with 'procstar ps'\"}]}";
    const ENDED: &str =
        "409 {\"errors\": [{\"status\": \"409\", \"detail\": \"process has ended: a\"}]}";
    let done = |ran: Ran, requests| assert_eq!((ran.good().as_str(), requests), ("a\n", 2));
    let (ran, requests) = without_an_answer(&["rm", "a"], UNKNOWN);
    done(ran, requests);
    let (ran, requests) = without_an_answer(&["stop", "--no-wait", "a"], ENDED);
    done(ran, requests);
    let (ran, requests) = without_an_answer(&["kill", "-s", "KILL", "a"], ENDED);
    done(ran, requests);
}

/// Needs root, for another user takes part; without it, the program is only found writable. The review's attack: the directory of
/// the program can be written by mallory, and what she puts there ran with the instance's rights.
#[test]
fn a_program_that_others_can_change_is_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode));
    mode(dir.path(), 0o755).unwrap();
    let bin = dir.path().join("bin");
    let (program, proof) = (bin.join("procstar"), dir.path().join("proof"));
    std::fs::create_dir(&bin).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_procstar"), &program).unwrap();
    let mut command = Command::new(&program);
    command.env_clear().env("TMPDIR", dir.path()).args(["--serve", "--serve-port", "0"]);
    command.env("PROCSTAR_RUN_RUNTIME_DIR", dir.path().join("run")).stdin(Stdio::null());
    let instance = Instance::start(dir, command);
    let refused = |named: &str| {
        let ran = instance.run(&["upgrade", &instance.pid().to_string()]);
        let wanted =
            format!("procstar: not upgraded: refusing to run {}: {named}", program.display());
        assert!(ran.code == Some(1) && ran.err.starts_with(&wanted), "{ran:?}");
        assert!(ran.err.contains("run `chmod go-w "), "{ran:?}");
    };
    mode(&program, 0o757).unwrap();
    refused("every user can write it (mode 0757");
    mode(&program, 0o755).unwrap();
    mode(&bin, 0o777).unwrap();
    if nix::unistd::geteuid().is_root() {
        let script = format!("#!/bin/sh\ntouch {}\nexit 1\n", proof.display());
        let swap = format!("mv {0} {0}.old; cat > {0}; chmod 755 {0}", program.display());
        let mut mallory = Command::new("/bin/sh");
        mallory.args(["-c", &swap]).uid(65_001).gid(65_001).stdin(Stdio::piped());
        let mut mallory = mallory.spawn().unwrap();
        mallory.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(mallory.wait().unwrap().success());
        // Its directory comes first.
        refused(&format!("every user can write its directory {}", bin.display()));
        mode(&bin, 0o755).unwrap();
        let ran = instance.run(&["upgrade", &instance.pid().to_string()]);
        assert!(ran.err.contains("it belongs to user 65001, who is neither root nor"), "{ran:?}");
        assert!(!proof.exists(), "mallory's program ran");
        std::fs::rename(bin.join("procstar.old"), &program).unwrap();
    } else {
        refused(&format!("every user can write its directory {}", bin.display()));
        mode(&bin, 0o755).unwrap();
    }
    upgrade(&instance);
}
