//! The binary as a user runs it in a shell.

mod control_groups;
mod outputs;
mod sparse_output;
mod survivors;
mod users;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::support::private::write_secret;
use serde_json::{Value, json};

fn procstar() -> Command {
    Command::new(env!("CARGO_BIN_EXE_procstar"))
}

/// Runs the program with `spec` on standard input.
fn run_with(mut command: Command, spec: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The program may have exited on an invalid option before reading its input.
    let _ = child.stdin.take().unwrap().write_all(spec.as_bytes());
    child.wait_with_output().unwrap()
}

fn print(spec: &Value) -> Value {
    let mut command = procstar();
    command.args(["--print", "-"]);
    let output = run_with(command, &spec.to_string());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn pipes_files_and_captures() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let results = print(&json!({"specs": {
        "w": {"argv": ["/usr/bin/seq", "9"], "fds": [["1", "pipe-write"]]},
        "r": {"argv": ["/usr/bin/tee", file], "fds": [
            ["0", {"pipe-read": {"proc_id": "w", "fd": "stdout"}}],
            ["1", {"capture": {"encoding": "utf-8"}}],
            ["2", {"capture": {"attached": false}}],
            ["7", {"null": {}}]]},
    }}));
    assert_eq!(results.as_object().unwrap().keys().collect::<Vec<_>>(), ["r", "w"]);
    let fds = &results["r"]["fds"];
    let numbers: String = (1..=9).map(|n| format!("{n}\n")).collect();
    assert_eq!(fds["stdin"], Value::Null);
    assert_eq!(fds["stdout"], json!({"type": "text", "text": numbers, "encoding": "utf-8"}));
    assert_eq!(fds["stderr"], json!({"type": "detached", "length": 0, "encoding": "base64"}));
    assert_eq!(fds["7"], Value::Null);
    assert_eq!(std::fs::read_to_string(file).unwrap(), numbers);
    assert_eq!(results["w"]["status"]["exit_code"], 0);
    assert_eq!(
        results["r"]["captures"]["stdout"],
        json!({"length": 18, "dropped": 0, "complete": true, "reason": null,
            // SHA-256 of the numbers from 1 to 9, one per line.
            "sha256": "90cdaf13f564e4d2e76706f84226a554a2bbdb2542c2e48764d16bffd17bb38a"})
    );
}

#[test]
fn invalid_input_is_exit_code_2_with_its_position() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let good = format!(r#""good": {{"argv": ["/usr/bin/touch", {trace:?}]}}"#);
    for (spec, place) in [
        (
            format!(
                "{{\"specs\": {{{good},\n \"a\": {{\"argv\": [\"x\"], \"fds\": [[\"1\", \"close\"], [\"stdout\", \"close\"]]}}}}}}"
            ),
            ":2:47: specs.a.fds[1]: fd stdout given twice",
        ),
        (
            format!("{{\"specs\": {{{good}, \"a\": {{\"argv\": [], \"x\": 1}}}}}}"),
            "specs.a.x: unknown key `x`",
        ),
        ("{".to_owned(), "1:1: "),
        ("\u{0}".to_owned(), "1:1: "),
    ] {
        let mut command = procstar();
        command.args(["--print", "-"]);
        let output = run_with(command, &spec);
        assert_eq!(output.status.code(), Some(2), "{spec}");
        assert!(stderr(&output).contains(place), "{}", stderr(&output));
        assert!(output.stdout.is_empty());
        assert!(!trace.exists());
    }
    let output = procstar().args(["--exit", "/no/such/spec"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("/no/such/spec: No such file"), "{}", stderr(&output));
}

/// The errors are those of `validate`, one per line, and no process is started.
#[test]
fn all_errors_in_the_input_are_reported_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spec.json");
    let long = "x".repeat(4097);
    let spec = format!(
        "{{\"specs\": {{\"a\": {{\"argvv\": [],\n\"argv\": [\"x\"], \"cwd\": 7}},\n\"b\": 7, \"\": {{\"argv\": [\"x\"]}}, \
         \"{long}\": {{\"argv\": [\"x\"]}}}}}}"
    );
    std::fs::write(&path, spec).unwrap();
    let output = procstar().arg("--print").arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    for part in [
        "specs.a.argvv: unknown key `argvv`",
        ":2:23: specs.a.cwd: invalid type: integer `7`, expected a string",
        ":3:6: specs.b: invalid type: integer `7`, expected an object",
        "specs[\"\"]: invalid process ID of 0 bytes: expected 1 to 4096 bytes",
        "invalid process ID of 4097 bytes: expected 1 to 4096 bytes",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert_eq!(text.matches(path.to_str().unwrap()).count(), 5, "{text}");
}

#[test]
fn results_are_written_completely_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let spec = json!({"specs": {"a": {"argv": ["/bin/true"]}}}).to_string();
    let path = dir.path().join("out.json");
    std::fs::write(&path, "old and longer than what comes".repeat(1000)).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let mut command = procstar();
    command.arg("--output").arg(&link).arg("-");
    assert!(run_with(command, &spec).status.success());
    // The output replaces the link; the target of the link is unchanged.
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("old and longer"));
    let text = std::fs::read_to_string(&link).unwrap();
    assert!(!text.ends_with('\n'));
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["a"]["state"], "terminated");
    assert!(!link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    // An invalid output path is reported before any process is started.
    let trace = dir.path().join("trace");
    let spec = json!({"specs": {"a": {"argv": ["/usr/bin/touch", trace]}}}).to_string();
    for bad in [dir.path().join("no/such/dir/out.json"), dir.path().to_path_buf()] {
        let mut command = procstar();
        command.arg("--output").arg(bad).arg("-");
        let output = run_with(command, &spec);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(!trace.exists());
    }
    // A device is written to, not replaced by a file.
    let mut command = procstar();
    command.args(["--output", "/dev/stdout", "-"]);
    assert!(serde_json::from_slice::<Value>(&run_with(command, &spec).stdout).is_ok());
}

#[test]
fn inherited_ignored_signals_do_not_change_results() {
    let spec = json!({"specs": {"a": {"argv": ["/bin/sh", "-c", "exit 3"]}}}).to_string();
    let mut command = Command::new("/bin/bash");
    command.args([
        "-c",
        "trap '' CHLD PIPE; exec \"$0\" --print -",
        env!("CARGO_BIN_EXE_procstar"),
    ]);
    let output = run_with(command, &spec);
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(results["a"]["status"]["exit_code"], 3);
}

#[test]
fn results_are_printed_after_the_output_of_children() {
    let spec = json!({"specs": {"a": {"argv": ["/bin/echo", "mine"]}}}).to_string();
    let mut command = procstar();
    command.args(["-p", "-"]);
    let output = run_with(command, &spec);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    assert_eq!((lines.len(), lines[0]), (2, "mine\n"));
    assert!(lines[1].ends_with("}\n"));
}

#[test]
fn a_closed_standard_output_is_exit_code_1() {
    let spec = json!({"specs": {"a": {"argv": ["/usr/bin/head", "-c", "1000000", "/dev/zero"],
        "fds": [["1", {"capture": {}}]]}}})
    .to_string();
    let mut command = Command::new("/bin/bash");
    command.args([
        "-c",
        "\"$0\" --print - | head -c 10 > /dev/null; exit ${PIPESTATUS[0]}",
        env!("CARGO_BIN_EXE_procstar"),
    ]);
    let output = run_with(command, &spec);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("cannot write results to standard output"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn an_empty_environment_is_accepted_and_inherited() {
    let mut command = procstar();
    command.env_clear().args(["--print", "-"]);
    let spec = json!({"specs": {"a": {"argv": ["/usr/bin/env"], "fds": [["1", {"capture": {"encoding": "utf-8"}}]]}}});
    let output = run_with(command, &spec.to_string());
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(results["a"]["fds"]["stdout"]["text"], "");
}

#[test]
fn inherited_fds_reach_only_processes_that_name_them() {
    let spec = json!({"specs": {
        "without": {"argv": ["/bin/ls", "/proc/self/fd"], "fds": [["1", {"capture": {"encoding": "utf-8"}}]]},
        "with": {"argv": ["/bin/ls", "/proc/self/fd"], "fds": [["1", {"capture": {"encoding": "utf-8"}}], ["9", "inherit"]]},
    }}).to_string();
    let mut command = Command::new("/bin/bash");
    command.args(["-c", "exec 9</etc/passwd; \"$0\" --print -", env!("CARGO_BIN_EXE_procstar")]);
    let results: Value = serde_json::from_slice(&run_with(command, &spec).stdout).unwrap();
    assert_eq!(results["without"]["fds"]["stdout"]["text"], "0\n1\n2\n3\n");
    assert_eq!(results["with"]["fds"]["stdout"]["text"], "0\n1\n2\n3\n9\n");
}

/// A spec of two processes: one writes more output than a pipe holds, the other makes the shared
/// standard output non-blocking.
fn large_and_unblocking() -> String {
    json!({"specs": {
        "large": {"argv": ["/usr/bin/head", "-c", "1000000", "/dev/zero"],
            "fds": [["stdout", {"capture": {}}]]},
        "dd": {"argv": ["/bin/dd", "if=/dev/null", "oflag=nonblock", "status=none"]},
    }})
    .to_string()
}

#[test]
fn a_child_that_makes_standard_output_non_blocking_costs_no_result() {
    let mut command = procstar();
    command.args(["--print", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(large_and_unblocking().as_bytes()).unwrap();
    let stdout = child.stdout.take().unwrap();
    // Read only once the pipe is full or the program has exited.
    let mut wanted =
        [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&stdout), nix::poll::PollFlags::POLLIN)];
    nix::poll::poll(&mut wanted, nix::poll::PollTimeout::NONE).unwrap();
    let mut last = 0;
    loop {
        let mut ready = 0;
        // SAFETY: the pointer is to a live int.
        unsafe {
            libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&stdout), libc::FIONREAD, &mut ready)
        };
        if ready == last && ready > 0 && (ready >= 60_000 || child.try_wait().unwrap().is_some()) {
            break;
        }
        last = ready;
        std::thread::yield_now();
    }
    let text = std::io::read_to_string(stdout).unwrap();
    assert!(child.wait().unwrap().success());
    let results: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(results["large"]["captures"]["stdout"]["length"], 1_000_000);
}

#[test]
fn results_are_saved_when_printing_fails() {
    let dir = tempfile::tempdir().unwrap();
    // The maximum length of a file name: a temporary file cannot have a longer one.
    let path = dir.path().join("x".repeat(255));
    let mut command = procstar();
    command.args(["--print", "--output"]).arg(&path).arg("-");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let spec = json!({"specs": {"a": {"argv": ["/bin/true"], "fds": [["1", {"null": {}}]]}}});
    child.stdin.take().unwrap().write_all(spec.to_string().as_bytes()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "nobody could read what was printed");
    let results: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(results["a"]["status"]["exit_code"], 0);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// An HTTP service open to everybody is refused; the error lists the missing settings.
#[test]
fn exposed_services_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["agent.example".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    write_secret(&key, made.signing_key.serialize_pem());
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let (cert, key) = (("PROCSTAR_HTTP_TLS_CERT", cert), ("PROCSTAR_HTTP_TLS_KEY", key));
    let token = ("PROCSTAR_HTTP_TOKEN", "8ePqYiqbZ4AnXB2hWx8WQg");
    let wrong_key = ("PROCSTAR_HTTP_TLS_KEY", "/nonexistent");
    let ca = ("PROCSTAR_HTTP_CLIENT_CA", "/nonexistent");
    let weak = ("PROCSTAR_HTTP_TOKEN", "x");
    let table: [(&[_], &[&str]); 9] = [
        (
            &[cert, key, weak],
            &["PROCSTAR_HTTP_TOKEN: expected a token of at least 128 random bits", "openssl rand"],
        ),
        (&[], &["refusing to serve on 0.0.0.0", "http.tls_cert", "http.token", "http.client_ca"]),
        (&[token], &["refusing to serve on 0.0.0.0", "http.tls_cert"]),
        (&[cert, key], &["refusing to serve on 0.0.0.0", "http.token", "http.client_ca"]),
        (&[cert, token], &["http.tls_cert is set without http.tls_key"]),
        (&[key, token], &["http.tls_key is set without http.tls_cert"]),
        (&[ca, token], &["http.client_ca is set without http.tls_cert and http.tls_key"]),
        (&[cert, wrong_key, token], &["/nonexistent", "No such file"]),
        (&[cert, key, ca], &["/nonexistent", "No such file"]),
    ];
    for (env, told) in table {
        let mut command = procstar();
        command.args(["--serve", "--serve-port", "0", "--http-bind", "0.0.0.0", "-"]);
        let marker = dir.path().join("started");
        let spec = json!({"specs": {"a": {"argv": ["/usr/bin/touch", marker]}}});
        let output = run_with(command_with(command, env), &spec.to_string());
        assert_eq!(output.status.code(), Some(2), "{env:?}: {output:?}");
        let text = stderr(&output);
        assert!(told.iter().all(|part| text.contains(part)), "{env:?}: {text}");
        assert!(!text.contains("8ePqYiqb") && !marker.exists());
    }
    let mut command = procstar();
    command.args(["--serve", "--http-bind", "localhost"]);
    let output = run_with(command, "");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("expected an IP address"), "{output:?}");
}

fn command_with(mut command: Command, env: &[(&str, &str)]) -> Command {
    command.envs(env.iter().copied());
    command
}

/// Procstar passes these variables between its own processes. If a user sets them, it exits without
/// touching the file descriptors that they name.
#[test]
fn reserved_variables_are_refused_and_change_no_file() {
    let variables =
        ["PROCSTAR_KEEPER_CHECK", "PROCSTAR_KEEPER_STATE", "PROCSTAR_KEEPER_FD", "PROCSTAR_FILTER"];
    for variable in variables {
        for value in ["0", "1", "2", "3", "x", "", "{}"] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("out");
            let mut out = std::fs::File::create(&path).unwrap();
            out.write_all(b"before\n").unwrap();
            let mut command = command_with(procstar(), &[(variable, value)]);
            command.arg("--version").stdin(Stdio::null()).stdout(out.try_clone().unwrap());
            let refused = command.output().unwrap();
            let wanted =
                format!("procstar: {variable} is reserved for procstar itself; unset it\n");
            assert_eq!((refused.status.code(), stderr(&refused)), (Some(2), wanted), "{value}");
            out.write_all(b"after\n").unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "before\nafter\n");
        }
    }
}
