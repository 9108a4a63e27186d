//! Paths that name descriptors, files that must not be replaced, and destinations of results that
//! cannot be written.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::harness::{Instance, Ran, procstar};
use crate::support::wait::eventually;

const SPEC: &str = r#"{"specs": {"a": {"argv": ["/bin/true"]}}}"#;

fn dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("spec.json"), SPEC).unwrap();
    dir
}

/// Runs a script of bash in which `$P` is the program.
fn bash(dir: &TempDir, script: &str) -> Ran {
    let mut command = Command::new("/bin/bash");
    command.args(["-c", script]).env("P", env!("CARGO_BIN_EXE_procstar")).env("TMPDIR", dir.path());
    Ran::of(command.current_dir(dir.path()).stdin(Stdio::null()).output().unwrap())
}

#[test]
fn results_are_written_to_a_descriptor_without_replacing_its_file() {
    for (path, to) in [
        ("/dev/stdout", ">> log"),
        ("/dev/fd/1", ">> log"),
        ("/proc/self/fd/1", ">> log"),
        ("/proc/$$/fd/1", ">> log"),
        ("link", ">> log"),
        ("/dev/stderr", "2>> log"),
        ("/dev/fd/5", "5>> log"),
        ("/dev/fd/5", "5<> log"),
        ("/proc/$$/fd/5", "5>> log"),
    ] {
        for run in ["--output PATH spec.json", "run -r PATH true"] {
            let dir = dir();
            let log = dir.path().join("log");
            std::os::unix::fs::symlink("/dev/stdout", dir.path().join("link")).unwrap();
            let old = if to.contains("<>") { "" } else { "old\n" };
            std::fs::write(&log, old).unwrap();
            let run = run.replace("PATH", path);
            let ran = bash(&dir, &format!("exec $P {run} {to}"));
            assert_eq!(ran.code, Some(0), "{run} {to}: {}", ran.err);
            let text = std::fs::read_to_string(&log).unwrap();
            let new = text.strip_prefix(old).unwrap_or_else(|| panic!("{run} {to}: {text}"));
            let results: Value = serde_json::from_str(new).unwrap();
            assert_eq!(results.as_object().unwrap().len(), 1, "{run} {to}");
            let link = dir.path().join("link").symlink_metadata().unwrap();
            assert!(link.is_symlink(), "{run} {to}");
        }
    }
}

#[test]
fn devices_and_fifos_are_not_replaced() {
    let dir = dir();
    bash(&dir, "mkfifo fifo; cat fifo > out & $P run -r fifo true; wait").good();
    assert!(dir.path().join("fifo").metadata().unwrap().file_type().is_fifo());
    for path in ["/dev/null", "/dev/tty"] {
        // Without a terminal, /dev/tty cannot be opened; it must not be replaced either.
        bash(&dir, &format!("setsid -w $P run -r {path} true"));
        assert!(Path::new(path).metadata().unwrap().file_type().is_char_device(), "{path}");
    }
    let out = std::fs::read_to_string(dir.path().join("out")).unwrap();
    assert!(serde_json::from_str::<Value>(&out).is_ok(), "{out}");
}

#[test]
fn a_dash_means_standard_output_not_a_file() {
    let dir = dir();
    let ran = bash(&dir, "$P --output - spec.json");
    assert!(serde_json::from_str::<Value>(&ran.good()).unwrap()["a"].is_object());
    assert!(!dir.path().join("-").exists());
}

#[test]
fn an_internal_descriptor_cannot_be_named() {
    let dir = dir();
    for fd in 3..=9 {
        let close: String = (3..=9).map(|fd| format!(" {fd}>&-")).collect();
        let ran = bash(&dir, &format!("$P run -r /dev/fd/{fd} touch started {close}"));
        let said = format!(
            "procstar: cannot write results to /dev/fd/{fd}: Bad file descriptor (os error 9); it is closed: open it, or redirect it\n"
        );
        assert_eq!((ran.code, ran.err), (Some(125), said));
    }
    assert!(!dir.path().join("started").exists());
}

/// Runs a command as a user who cannot write everywhere.
fn as_ordinary_user(dir: &TempDir, args: &[&str]) -> Ran {
    let mut command = procstar(dir);
    command.args(args).current_dir(dir.path());
    if nix::unistd::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    Ran::of(command.output().unwrap())
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_destination_of_results_is_checked_before_a_process_starts() {
    let dir = dir();
    let at = |name: &str| dir.path().join(name);
    mode(dir.path(), 0o777);
    std::fs::create_dir(at("closed")).unwrap();
    std::fs::write(at("closed/file"), "old").unwrap();
    mode(&at("closed/file"), 0o444);
    mode(&at("closed"), 0o555);
    std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let mut refused =
        vec!["closed/new", "closed/file", ".", "no/such/dir", "spec.json/x", "socket"];
    if nix::unistd::geteuid().is_root() {
        // In a directory with the sticky bit, only the owner of a file can replace it.
        std::fs::create_dir(at("sticky")).unwrap();
        std::fs::write(at("sticky/file"), "old").unwrap();
        mode(&at("sticky"), 0o1777);
        refused.push("sticky/file");
    }
    let long = "x".repeat(300);
    refused.push(&long);
    for path in refused {
        let started = at("started");
        let run = ["run", "-r", path, "touch", started.to_str().unwrap()];
        for (args, code) in [(&run[..], 125), (&["--output", path, "spec.json"], 2)] {
            let ran = as_ordinary_user(&dir, args);
            assert!(
                ran.err.starts_with(&format!("procstar: cannot write results to {path}: ")),
                "{ran:?}"
            );
            assert_eq!(ran.code, Some(code), "{path}: {}", ran.err);
            assert!(!started.exists(), "{path}");
        }
    }
    mode(&at("closed"), 0o755);
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_str().unwrap().starts_with(".procstar")), "{left:?}");
}

#[test]
fn a_file_that_cannot_be_replaced_is_overwritten_in_place() {
    let dir = dir();
    let closed = dir.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    let file = closed.join("file");
    std::fs::write(&file, "x".repeat(100_000)).unwrap();
    mode(dir.path(), 0o777);
    mode(&file, 0o666);
    mode(&closed, 0o555);
    let ran = as_ordinary_user(&dir, &["run", "-r", "closed/file", "true"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let results: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(results["true"]["status"]["exit_code"], 0);
    mode(&closed, 0o755);
}

#[test]
fn every_path_can_name_a_descriptor() {
    let dir = dir();
    let first = |script: &str| bash(&dir, script).good();
    assert!(first("$P --print <(cat spec.json)").starts_with(r#"{"a":{"#));
    assert!(first("$P --print /dev/stdin < spec.json").starts_with(r#"{"a":{"#));
    assert_eq!(first("$P validate <(cat spec.json) | cut -d: -f2"), " valid, 1 process\n");
    let config =
        first("$P --config <(printf '[log]\\nlevel = \"error\"\\n') config show | grep log.level");
    assert!(config.contains("\"error\"") && config.contains("/dev/fd/"), "{config}");
    // An argument of `run` that is also the name of a command does not make procstar read the file
    // earlier: a pipe can be read only once.
    let word = first(
        "$P --config <(printf '[run]\\nallowed_executables = [\"/bin/echo\", \"/usr/bin/echo\"]\\n') run echo ps",
    );
    assert_eq!(word, "ps\n");
    let ran = bash(
        &dir,
        "$P --config <(printf '[run]\\nallowed_executables = [\"/bin/no\"]\\n') run echo ps",
    );
    assert_eq!(ran.code, Some(126), "{}", ran.err);
    let result = first("$P run -r >(cat) true; wait");
    assert!(result.starts_with(r#"{"true":{"#), "{result}");
    let token = first(
        "(umask 077; echo 8ePqYiqbZ4AnXB2hWx8WQg > token); PROCSTAR_HTTP_TOKEN_FILE=/dev/fd/7 $P config show 7< token | grep http.token",
    );
    assert!(token.contains("token"), "{token}");
}

#[test]
fn standard_input_and_output_can_be_a_socket() {
    let dir = dir();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut command = procstar(&dir);
    command.args(["--output", "/dev/stdout", "/dev/stdin"]).current_dir(dir.path());
    let (input, output) = (theirs.try_clone().unwrap(), theirs);
    command.stdin(std::os::fd::OwnedFd::from(input)).stdout(std::os::fd::OwnedFd::from(output));
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut ours = ours;
    std::io::Write::write_all(&mut ours, SPEC.as_bytes()).unwrap();
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    let results: Value = serde_json::from_reader(&ours).unwrap();
    assert_eq!(results["a"]["status"]["exit_code"], 0);
    assert!(child.wait().unwrap().success());
}

#[test]
fn run_passes_its_descriptors_to_the_process() {
    let dir = dir();
    assert_eq!(bash(&dir, "$P run cat <(echo hi)").good(), "hi\n");
    assert_eq!(bash(&dir, "echo five > f; $P run sh -c 'cat <&5' 5< f").good(), "five\n");
    // Except the descriptor of the result: its reader waits until every writer has closed it.
    let ran = bash(&dir, "$P run -r /dev/fd/5 sh -c 'test -e /proc/self/fd/5 && echo five' 5> r");
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    // The result does not contain them.
    let fds = bash(&dir, "$P run -r - true 5< spec.json").good();
    assert_eq!(serde_json::from_str::<Value>(&fds).unwrap()["true"]["fds"], serde_json::json!({}));
    // Processes of a spec get only the fds that the spec names.
    let spec = r#"{"specs": {"a": {"argv": ["/bin/ls", "/proc/self/fd"], "fds": [["1", {"capture": {"encoding": "utf-8"}}]]}}}"#;
    std::fs::write(dir.path().join("ls.json"), spec).unwrap();
    let ls = bash(&dir, "$P --print ls.json 5< spec.json").good();
    let ls: Value = serde_json::from_str(&ls).unwrap();
    assert!(!ls["a"]["fds"]["stdout"]["text"].as_str().unwrap().contains('5'), "{ls}");
}

#[test]
fn run_passes_the_jobserver_of_make() {
    let dir = dir();
    std::fs::write(dir.path().join("Makefile"), "all:\n\t+$(P) run $(MAKE) -f below\n").unwrap();
    std::fs::write(dir.path().join("below"), "all: a b\na b:\n\t@echo $@\n").unwrap();
    if !Path::new("/usr/bin/make").exists() {
        return;
    }
    let ran = bash(&dir, "make -s --no-print-directory -j2");
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
}

#[test]
fn the_next_worker_has_the_configuration_that_came_from_a_pipe() {
    let dir = dir();
    let mut command = Command::new("/bin/bash");
    let script = "exec $P --config <(printf '[agent]\\ngroup_id = \"of-the-pipe\"\\n') --serve --serve-port 0";
    command.args(["-c", script]).env("P", env!("CARGO_BIN_EXE_procstar"));
    command.env("TMPDIR", dir.path()).env("PROCSTAR_SHUTDOWN_KILL_GRACE", "0.1");
    command.env("PROCSTAR_RUN_RUNTIME_DIR", dir.path().join("run"));
    let instance = Instance::start(dir, command);
    instance.ended("a", "true");
    let group = || {
        let shown = instance.run(&["show", "-o", "json", "a"]).json();
        shown["a"]["group_id"].clone()
    };
    let before = group();
    assert!(before.to_string().contains("of-the-pipe"), "{before}");
    let worker = instance.worker_pid();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    eventually("another worker", || {
        let top = instance.run(&["top", "-o", "json"]);
        let top: Value = serde_json::from_str(&top.out).ok()?;
        (top["agent"]["worker_pid"].as_i64()? != i64::from(worker)).then_some(())
    });
    assert_eq!(group(), before);
}
