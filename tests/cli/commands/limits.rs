//! Limits in the configuration: a request beyond a limit is refused entirely; the error has the
//! name and value of the limit.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::harness::*;
use crate::support::wait::eventually;
use serde_json::{Value, json};

fn instance(settings: &[(&str, &str)]) -> Instance {
    let dir = tempfile::tempdir().unwrap();
    let mut command = procstar(&dir);
    command.args(["--serve", "--serve-port", "0"]).envs(settings.iter().copied());
    Instance::start(dir, command)
}

/// Posts a body to `/procs`; returns the status and body of the response.
fn post(instance: &Instance, body: &[u8]) -> (u16, String) {
    // The socket file exists shortly before the service listens on it.
    let mut socket = eventually("connection", || UnixStream::connect(&instance.socket).ok());
    let head = format!(
        "POST /procs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).unwrap();
    // The service may refuse the request by its header, and not read the body.
    let _ = socket.write_all(body);
    let mut answer = String::new();
    // Closing a connection with unread bytes resets it.
    let _ = socket.read_to_string(&mut answer);
    let status = answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_default();
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

fn start(instance: &Instance, specs: &Value) -> (u16, String) {
    post(instance, json!({ "specs": specs }).to_string().as_bytes())
}

/// Asserts this status, and these words in the body.
fn refused((status, body): (u16, String), expected: u16, words: &[&str]) {
    assert_eq!(status, expected, "{body}");
    assert!(words.iter().all(|word| body.contains(word)), "{body}");
}

#[test]
fn max_running_and_max_processes_limit_starts() {
    let instance =
        instance(&[("PROCSTAR_RUN_MAX_RUNNING", "2"), ("PROCSTAR_RUN_MAX_PROCESSES", "3")]);
    let sleep = json!({"argv": ["/bin/sleep", "600"]});
    let truth = json!({"argv": ["/bin/true"]});
    let running = ["run.max_running is 2", "cannot start"];
    refused(start(&instance, &json!({"a": sleep, "b": sleep, "c": sleep})), 429, &running);
    assert_eq!(instance.run(&["ps", "-o", "json"]).json(), json!({}));
    assert_eq!(start(&instance, &json!({"a": sleep})).0, 200);
    refused(start(&instance, &json!({"b": truth, "c": truth})), 429, &running);
    for id in ["b", "c"] {
        assert_eq!(start(&instance, &json!({ id: truth })).0, 200);
        instance.run(&["wait", id]);
    }
    let kept = ["run.max_processes is 3", "3 are kept"];
    refused(start(&instance, &json!({"d": truth})), 429, &kept);
    // The next worker has the same counts.
    let worker = instance.worker_pid();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker), nix::sys::signal::SIGKILL).unwrap();
    eventually("the next worker", || {
        let answer = instance.run(&["top", "-o", "json"]);
        answer.code == Some(0) && instance.worker_pid() != worker
    });
    refused(start(&instance, &json!({"d": truth})), 429, &kept);
    instance.run(&["rm", "b"]).good();
    assert_eq!(start(&instance, &json!({"d": truth})).0, 200);
}

#[test]
fn max_total_limits_the_captured_output_of_all_processes() {
    let instance = instance(&[("PROCSTAR_CAPTURE_MAX_TOTAL", "300000")]);
    let writes = |mode: &str| {
        let fds = json!([["stdout", {"capture": {"mode": mode}}]]);
        json!({"argv": ["/usr/bin/head", "-c", "200000", "/dev/urandom"], "fds": fds})
    };
    for (id, mode) in [("file", "tempfile"), ("memory", "memory")] {
        assert_eq!(start(&instance, &json!({ id: writes(mode) })).0, 200);
        instance.run(&["wait", id]);
    }
    let full = ["capture.max_total is 300000", "delete ended processes"];
    refused(start(&instance, &json!({"more": writes("tempfile")})), 429, &full);
    instance.run(&["rm", "file"]).good();
    assert_eq!(start(&instance, &json!({"more": writes("tempfile")})).0, 200);
    instance.run(&["wait", "more"]);
    instance.run(&["rm", "more", "memory"]).good();
    // The output of running processes counts; a hole in a file does not.
    let fds = json!([["stdout", {"capture": {}}]]);
    let script = "truncate -s 1G /dev/stdout; echo; exec sleep 600";
    let sparse = json!({"argv": ["/bin/sh", "-c", script], "fds": fds});
    assert_eq!(start(&instance, &json!({"sparse": sparse})).0, 200);
    let script = "head -c 400000 /dev/urandom; exec sleep 600";
    let writer = json!({"argv": ["/bin/sh", "-c", script], "fds": fds});
    assert_eq!(start(&instance, &json!({"writer": writer})).0, 200);
    let mut number = 0;
    let answer = eventually("refusal", || {
        number += 1;
        let answer = start(&instance, &json!({number.to_string(): {"argv": ["/bin/true"]}}));
        (answer.0 != 200).then_some(answer)
    });
    refused(answer, 429, &full);
}

#[test]
fn no_spec_raises_the_limit_of_a_capture() {
    let limits = [("PROCSTAR_CAPTURE_KEEP_HEAD", "1000"), ("PROCSTAR_CAPTURE_KEEP_TAIL", "500")];
    let instance = instance(&limits);
    let with = |limit: Value| {
        let fds = json!([["stdout", {"capture": {"keep": limit}}]]);
        json!({"a": {"argv": ["/usr/bin/seq", "100000"], "fds": fds}})
    };
    let named =
        ["stdout of process", "1501 bytes", "capture.keep_head and capture.keep_tail are 1500"];
    refused(start(&instance, &with(json!({"head": 1, "tail": 1500}))), 400, &named);
    assert_eq!(start(&instance, &with(json!({"tail": 1500}))).0, 200);
    // The limits hold for the spec of a one-shot, too.
    let mut command = instance.command(&["--print", "-"]);
    command.envs(limits);
    let file = instance.dir.path().join("spec.json");
    let spec = json!({"specs": with(json!({"head": 1501}))});
    std::fs::write(&file, spec.to_string()).unwrap();
    command.stdin(std::fs::File::open(&file).unwrap());
    let ran = Ran::of(command.output().unwrap());
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:?}");
    assert!(named[2..].iter().all(|word| ran.err.contains(word)), "{ran:?}");
}

#[test]
fn errors_name_what_exceeds_the_kernels_argument_limits() {
    let instance = instance(&[]);
    let executed = |id: &str, spec: Value| {
        assert_eq!(start(&instance, &json!({ id: spec })).0, 200);
        instance.run(&["wait", id]);
        let result = instance.run(&["show", id, "-o", "json"]).json();
        let result = &result[id];
        assert_eq!(result["status"]["exit_code"], 126, "{result}");
        result["errors"][0].as_str().unwrap().to_owned()
    };
    let begins = "execve failed: /bin/true: Argument list too long (os error 7): ";
    let many = vec!["x".repeat(1000); 3000];
    let argv = [vec!["/bin/true".to_owned()], many].concat();
    // The kernel allows a quarter of the stack limit for arguments.
    let limits = json!({"stack": 4 << 20});
    let error = executed("many", json!({"argv": argv, "rlimits": limits}));
    assert!(error.starts_with(begins), "{error}");
    assert!(error.ends_with("; the kernel takes 1048576, by the stack's limit"), "{error}");
    let error = executed("long", json!({"argv": ["/bin/true", "x".repeat(200_000)]}));
    assert_eq!(error, format!("{begins}argument 1 has 200000 bytes; the kernel takes 131071"));
    let vars = json!({"vars": {"LONG": "x".repeat(200_000)}});
    let error = executed("variable", json!({"argv": ["/bin/true"], "env": vars}));
    assert_eq!(error, format!("{begins}variable LONG has 200005 bytes; the kernel takes 131071"));
}

#[test]
fn bodies_are_limited_in_bytes_and_in_processes() {
    let small = instance(&[("PROCSTAR_HTTP_MAX_BODY", "1000")]);
    refused(post(&small, &[b' '; 1001]), 413, &["1000 bytes (http.max_body)"]);
    let instance = instance(&[]);
    refused(post(&instance, &vec![b' '; (16 << 20) + 1]), 413, &["http.max_body"]);
    let processes: Vec<String> =
        (0..65_537).map(|id| format!(r#""{id}":{{"argv":["/bin/true"]}}"#)).collect();
    let body = format!(r#"{{"specs":{{{}}}}}"#, processes.join(","));
    refused(post(&instance, body.as_bytes()), 400, &["more than 65536 processes"]);
}

/// The peak resident memory of a process, in bytes.
fn peak(pid: i32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn memory_for_a_body_is_proportional_to_its_size() {
    const SIZE: usize = 15 << 20;
    let fill = |head: &str, unit: &dyn Fn(usize) -> String, tail: &str| {
        let mut body = head.to_owned();
        for number in 0.. {
            let unit = unit(number);
            if body.len() + unit.len() + tail.len() > SIZE {
                break;
            }
            body.push_str(&unit);
        }
        body + tail
    };
    let one = r#"{"specs":{"a":{"argv":["/bin/true""#;
    for (what, body) in [
        ("arguments", fill(one, &|_| r#","""#.into(), "]}}}")),
        ("invalid arguments", fill(one, &|_| r#","\u0000""#.into(), "]}}}")),
        (
            "variables",
            fill(
                one,
                &|n| {
                    if n == 0 {
                        r#"],"env":{"vars":{"x":"""#.into()
                    } else {
                        format!(r#","{n:x}":"""#)
                    }
                },
                "}}}}}",
            ),
        ),
        (
            "labels",
            fill(
                one,
                &|n| {
                    if n == 0 { r#"],"labels":{"x":"""#.into() } else { format!(r#","{n:x}":"""#) }
                },
                "}}}}",
            ),
        ),
    ] {
        let instance = instance(&[]);
        let worker = instance.worker_pid();
        let (status, answer) = post(&instance, body.as_bytes());
        assert_eq!(status, 400, "{what}: {answer}");
        assert!(answer.contains("values and keys") || answer.contains("NUL"), "{what}: {answer}");
        for pid in [worker, instance.pid() as i32] {
            assert!(peak(pid) < 10 * SIZE, "{what}: {} bytes", peak(pid));
        }
    }
}

#[test]
fn memory_for_large_stdin_data_is_proportional_to_its_size() {
    let instance = instance(&[]);
    let worker = instance.worker_pid();
    let text = "x".repeat(15 << 20);
    let fds = json!([["stdin", {"data": {"text": text}}], ["stdout", {"capture": {"encoding": "utf-8"}}]]);
    let argv = ["/usr/bin/wc", "-c"];
    assert_eq!(start(&instance, &json!({"data": {"argv": argv, "fds": fds}})).0, 200);
    instance.run(&["wait", "data"]);
    assert_eq!(instance.run(&["logs", "data"]).good(), format!("{}\n", text.len()));
    for pid in [worker, instance.pid() as i32] {
        assert!(peak(pid) < 10 * text.len(), "{} bytes", peak(pid));
    }
}
