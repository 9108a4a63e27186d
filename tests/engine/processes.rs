//! The engine with real children.

mod descriptors;

use crate::support::engine::*;
use crate::support::wait::{DEADLINE, eventually};
use procstar::engine::{Ended, Inherited, ProcessCommand, Stage, Truncation};
use proptest::prelude::*;
use serde_json::json;
use std::sync::Arc;

fn messages(ended: &Ended) -> Vec<String> {
    ended.failures.iter().map(ToString::to_string).collect()
}

fn captured(mode: &str) -> serde_json::Value {
    json!([["stdin", {"null": {}}], ["stdout", {"capture": {"mode": mode}}], ["stderr", {"capture": {"mode": mode}}]])
}

#[test]
fn exit_codes_signals_and_output() {
    for mode in ["tempfile", "memory"] {
        let mut harness = EngineHarness::new(options());
        harness.launch(json!({
            "ok": sh("echo out; echo err >&2", captured(mode)),
            "seven": sh("exit 7", captured(mode)),
            "killed": sh("kill -KILL $$", captured(mode)),
            "stkflt": sh("kill -16 $$", captured(mode)),
            "rtmin": sh("kill -34 $$", captured(mode)),
        }));
        for (id, status) in
            [("ok", 0), ("seven", 7 << 8), ("killed", 9), ("stkflt", 16), ("rtmin", 34)]
        {
            let ended = harness.end(id);
            assert_eq!(ended.status, status, "{id}");
            assert!(ended.failures.is_empty() && ended.cut_short.is_empty());
            assert_eq!(ended.stat.as_ref().unwrap().pid, ended.pid.unwrap());
            // Negative if the value may be that of this process.
            assert!(ended.rusage.ru_maxrss != 0);
            assert!(ended.stop.seconds_since(ended.start) > 0.0);
        }
        assert_eq!(text(&harness.ended["ok"], "stdout"), "out\n");
        assert_eq!(text(&harness.ended["ok"], "stderr"), "err\n");
        assert_eq!(harness.started.len(), 5);
        assert_eq!(harness.started["ok"].pid, harness.ended["ok"].pid.unwrap());
    }
}

#[test]
fn execve_failures_are_reported_with_exit_code_126_or_127() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let script = script.to_str().unwrap();
    for (exe, code, error) in [
        ("/no/such/exe", 127, "No such file or directory (os error 2)"),
        ("/etc/passwd/x", 127, "Not a directory (os error 20)"),
        (
            "sh",
            127,
            "No such file or directory (os error 2): only the working directory was searched; set \
             `lookup_path: true` in the spec to search PATH, or give an absolute path",
        ),
        (
            "/etc/passwd",
            126,
            "Permission denied (os error 13): it has no execute permission (chmod +x sets it)",
        ),
        ("/tmp", 126, "Permission denied (os error 13): it is a directory"),
        (
            script,
            126,
            "No such file or directory (os error 2): its interpreter /no/such/interpreter, \
             which its `#!` line names, does not exist",
        ),
    ] {
        let (ended, _harness) = run(json!({"argv": ["x"], "exe": exe, "fds": captured("memory")}));
        assert_eq!(messages(&ended), [format!("execve failed: {exe}: {error}")]);
        assert_eq!(ended.failures[0].exit_code(), code, "{exe}");
        assert_eq!(text(&ended, "stderr"), "");
    }
}

fn allowlist(paths: &[&str]) -> Allowlist {
    Allowlist::new(paths.iter().map(|path| (*path).to_owned()).collect()).unwrap()
}

#[test]
fn restricted_executable() {
    let restriction = Some(Arc::new(Restriction::new(allowlist(&["/bin/true"]))));
    let mut harness = EngineHarness::new(EngineOptions { restriction, ..options() });
    harness.launch(json!({
        "no": {"argv": ["/bin/echo"], "fds": [["1", "pipe-write"], ["2", {"capture": {}}]]},
        "yes": {"argv": ["x"], "exe": "/bin/true", "fds": [["0", {"pipe-read": {"proc_id": "no", "fd": "1"}}]]},
    }));
    let ended = harness.end("no");
    assert_eq!(messages(ended), ["restricted executable: /bin/true"]);
    assert_eq!(ended.failures[0].stage, Stage::NotAllowed);
    assert_eq!(ended.pid, None);
    assert_eq!(harness.end("yes").status, 0);
    assert!(!harness.started.contains_key("no"));
}

use procstar::engine::{Allowlist, CaptureDirs, EngineOptions, Restriction};

#[test]
fn pipes_between_processes() {
    let mut harness = EngineHarness::new(options());
    harness.launch(json!({
        "last": {"argv": ["/usr/bin/wc", "-l"], "fds": [["0", {"pipe-read": {"proc_id": "mid", "fd": "5"}}], ["1", {"capture": {}}]]},
        "first": {"argv": ["/usr/bin/seq", "100000"], "fds": [["1", "pipe-write"]]},
        "mid": sh("cat >&5", json!([["0", {"pipe-read": {"proc_id": "first", "fd": "stdout"}}], ["5", "pipe-write"]])),
    }));
    assert_eq!(text(harness.end("last"), "stdout"), "100000\n");
    harness.end("first");
    harness.end("mid");
}

#[test]
fn a_pipe_whose_peer_fails_ends() {
    let mut harness = EngineHarness::new(options());
    harness.launch(json!({
        "reader": {"argv": ["/bin/cat"], "fds": [["0", {"pipe-read": {"proc_id": "w", "fd": "1"}}]]},
        "w": {"argv": ["/nope"], "fds": [["1", "pipe-write"]]},
        "writer": sh("trap '' PIPE; until ! echo x; do :; done 2>&-", json!([["1", "pipe-write"]])),
        "r": {"argv": ["/nope"], "fds": [["0", {"pipe-read": {"proc_id": "writer", "fd": "1"}}]]},
    }));
    assert_eq!(harness.end("reader").status, 0);
    assert_eq!(harness.end("writer").status, 0);
}

#[test]
fn a_child_starts_clean() {
    // The keeper has an fd without close-on-exec, an ignored signal, and a blocked one.
    let leaked = std::fs::File::open("/etc/hostname").unwrap();
    let inherited = std::fs::File::open("/etc/passwd").unwrap();
    use std::os::fd::AsRawFd;
    // SAFETY: plain system calls; no handler is installed.
    unsafe {
        libc::fcntl(leaked.as_raw_fd(), libc::F_SETFD, 0);
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
    }
    let n = inherited.as_raw_fd();
    let inherited = Inherited::new([], &[], [n], Some((777, 7777)));
    let mut harness =
        EngineHarness::new(EngineOptions { inherited: Arc::new(inherited), ..options() });
    let fds =
        json!([["stdin", {"null": {}}], ["stdout", {"capture": {}}], ["stderr", {"capture": {}}]]);
    let mut with = fds.clone();
    with.as_array_mut().unwrap().push(json!([n.to_string(), "inherit"]));
    with.as_array_mut().unwrap().push(json!([(n + 50).to_string(), {"dup": {"fd": n}}]));
    harness.launch(json!({
        "fds": {"argv": ["/bin/ls", "/proc/self/fd"], "fds": fds},
        "with": {"argv": ["/bin/ls", "/proc/self/fd"], "fds": with},
        "status": {"argv": ["/bin/cat", "/proc/self/status"], "fds": fds},
        "limit": sh("ulimit -Sn; ulimit -Hn", fds.clone()),
        "session": sh("set -- $(</proc/self/stat); echo $(($1 == $5 && $1 == $6))", fds.clone()),
        "env": {"argv": ["/usr/bin/env"], "fds": fds},
    }));
    // ls also has the directory itself open.
    assert_eq!(
        text(harness.end("fds"), "stdout").split_whitespace().collect::<Vec<_>>(),
        ["0", "1", "2", "3"]
    );
    let with = text(harness.end("with"), "stdout");
    for fd in [n, n + 50] {
        assert!(with.split_whitespace().any(|f| f == fd.to_string()), "{fd}: {with}");
    }
    let status = text(harness.end("status"), "stdout");
    for set in ["SigBlk", "SigIgn", "SigCgt", "SigPnd"] {
        let line = status.lines().find(|line| line.starts_with(set)).unwrap();
        assert!(line.ends_with("0000000000000000"), "{line}");
    }
    assert_eq!(text(harness.end("limit"), "stdout"), "777\n7777\n");
    assert_eq!(text(harness.end("session"), "stdout"), "1\n");
    assert_eq!(text(harness.end("env"), "stdout"), "");
}

#[test]
fn env_of_a_spec_inherits_sets_and_removes_variables() {
    let variables = [("A", "1"), ("B", "2"), ("SECRET", "x"), ("A2", "=")];
    let inherited =
        Inherited::new(variables.map(|(n, v)| (n.into(), v.into())), &["SECRET"], [], None);
    let inherited = Arc::new(inherited);
    let table = [
        (json!({}), "A2==\nA=1\nB=2\n"),
        (json!({"inherit": false}), ""),
        (json!({"inherit": ["B", "SECRET", "NONE"]}), "B=2\n"),
        (
            json!({"vars": {"A": "new", "B": null, "C": "3\u{e4}", "SECRET": "own"}}),
            "A2==\nA=new\nC=3\u{e4}\nSECRET=own\n",
        ),
        (json!({"inherit": ["A"], "vars": {"A": null, "E": ""}}), "E=\n"),
    ];
    for (env, wanted) in table {
        let mut harness =
            EngineHarness::new(EngineOptions { inherited: Arc::clone(&inherited), ..options() });
        harness.launch(
            json!({"a": {"argv": ["/usr/bin/env"], "env": env, "fds": [["1", {"capture": {}}]]}}),
        );
        let printed = text(harness.end("a"), "stdout");
        let mut lines: Vec<_> = printed.lines().collect();
        lines.sort();
        let mut wanted: Vec<_> = wanted.lines().collect();
        wanted.sort();
        assert_eq!(lines, wanted, "{env}");
    }
}

#[test]
fn output_is_read_by_range_while_written() {
    for mode in ["tempfile", "memory"] {
        let mut harness = EngineHarness::new(options());
        let size = 100_000_000u64;
        let script = format!("head -c {size} /dev/zero | tr '\\0' 'x'");
        harness.launch(json!({"a": sh(&script, json!([["1", {"capture": {"mode": mode}}]]))}));
        harness.pid("a");
        let captures = Arc::clone(&harness.started["a"].captures);
        let capture = captures.get("stdout".parse().unwrap()).unwrap();
        let mut buf = vec![0; 100_000];
        let mut reads = 0;
        let mut last = 0;
        while reads < 1000 || last < size {
            let length = capture.len();
            assert!(length >= last);
            last = length;
            let n = capture.read_at(fastrand::u64(0..=length), &mut buf).unwrap();
            assert!(buf[..n].iter().all(|b| *b == b'x'));
            reads += 1;
        }
        let ended = harness.end("a");
        let bytes = output(&ended.captures, "1");
        assert_eq!(bytes.len() as u64, size);
        assert!(bytes.iter().all(|b| *b == b'x'), "{mode}");
        assert!(ended.cut_short.is_empty());
    }
}

#[test]
fn a_survivor_delays_the_end_by_the_drain_timeout_only() {
    for mode in ["tempfile", "memory"] {
        let fds = json!([["0", {"null": {}}], ["1", {"capture": {"mode": mode}}]]);
        let mut harness = EngineHarness::new(options());
        harness.launch(json!({"a": sh("sleep 100 & echo $!", fds)}));
        let ended = harness.end("a");
        assert_eq!(ended.cut_short, [("1".parse().unwrap(), Truncation::HeldOpen)], "{mode}");
        let survivor: i32 = text(ended, "stdout").trim().parse().unwrap();
        let took = ended.stop.seconds_since(ended.start);
        assert!(took < 0.3, "the process itself has ended at once, not after {took} s");
        // SAFETY: plain system call, on a process of this test.
        unsafe { libc::kill(survivor, libc::SIGKILL) };
    }
}

#[test]
fn output_of_a_survivor_within_the_drain_timeout_is_captured() {
    for mode in ["tempfile", "memory"] {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let fds = json!([["0", {"null": {}}], ["1", {"capture": {"mode": mode}}]]);
        let mut harness =
            EngineHarness::new(EngineOptions { drain_timeout: DEADLINE, ..options() });
        harness.launch(json!({"a": sh(&format!("(read x < {f}; echo late) & echo early", f = fifo.display()), fds)}));
        let pid = harness.pid("a");
        // The process is reaped: only the survivor holds the capture.
        eventually("the exit", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
        std::fs::write(&fifo, "go\n").unwrap();
        let ended = harness.end("a");
        assert_eq!(text(ended, "stdout"), "early\nlate\n", "{mode}");
        assert!(ended.cut_short.is_empty());
    }
}

#[test]
fn late_output_of_a_survivor_does_not_change_the_capture() {
    for mode in ["tempfile", "memory"] {
        let fds = json!([["0", {"null": {}}], ["1", {"capture": {"mode": mode}}]]);
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut harness = EngineHarness::new(options());
        let script = format!(
            "(read x < {f}; for i in {{1..20000}}; do echo too late; done; echo > {f}) & echo early",
            f = fifo.display()
        );
        harness.launch(json!({"a": sh(&script, fds)}));
        let ended = harness.end("a");
        assert_eq!(text(ended, "stdout"), "early\n", "{mode}");
        // The survivor continues: no full pipe blocks it, and no closed pipe kills it.
        std::fs::write(&fifo, "go\n").unwrap();
        std::fs::read(&fifo).unwrap();
        assert_eq!(text(harness.end("a"), "stdout"), "early\n", "{mode}");
    }
}

#[test]
fn signals_are_sent_and_their_errors_are_returned() {
    let mut harness = EngineHarness::new(options());
    harness.launch(json!({"a": {"argv": ["/bin/sleep", "100"]}}));
    harness.pid("a");
    harness.engine.command("a".into(), ProcessCommand::Signal(0), 1);
    harness.engine.command("a".into(), ProcessCommand::Signal(999), 2);
    harness.engine.command("b".into(), ProcessCommand::Signal(15), 3);
    harness.engine.command("a".into(), ProcessCommand::Signal(libc::SIGUSR2), 4);
    assert_eq!(harness.end("a").status, libc::SIGUSR2);
    harness.engine.command("a".into(), ProcessCommand::Signal(15), 5);
    harness.until("five answers", |harness| harness.signaled.len() == 5);
    let errno =
        |ticket| harness.signaled[&ticket].as_ref().err().map(|e| e.raw_os_error().unwrap());
    assert_eq!(
        [1, 2, 3, 4, 5].map(errno),
        [None, Some(libc::EINVAL), Some(libc::ESRCH), None, Some(libc::ESRCH)]
    );
}

#[test]
fn a_blocked_setup_delays_no_other_process_and_can_be_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut harness = EngineHarness::new(options());
    let mut specs = serde_json::Map::new();
    for i in 0..12 {
        let fifo = dir.path().join(i.to_string());
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        specs.insert(
            i.to_string(),
            json!({"argv": ["/bin/cat"], "fds": [
            ["0", {"file": {"path": fifo}}], ["1", {"capture": {"mode": "memory"}}]]}),
        );
    }
    harness.launch(specs.into());
    harness.launch(json!({"free": sh("echo free", captured("memory"))}));
    assert_eq!(text(harness.end("free"), "stdout"), "free\n");
    harness.until("twelve reported as running", |harness| harness.started.len() == 13);
    harness.engine.command("0".into(), ProcessCommand::Signal(libc::SIGTERM), 1);
    let ended = harness.end("0");
    assert_eq!(ended.failures[0].stage, Stage::KilledInSetup);
    for i in 1..12 {
        std::fs::write(dir.path().join(i.to_string()), i.to_string()).unwrap();
        assert_eq!(text(harness.end(&i.to_string()), "stdout"), i.to_string());
    }
}

#[test]
fn nothing_remains_of_deleted_processes() {
    let mut harness = EngineHarness::new(options());
    let round = |harness: &mut EngineHarness, name: &str| {
        let specs: serde_json::Map<_, _> = (0..50)
            .map(|i| (format!("{name}{i}"), sh("head -c 70000 /dev/zero", captured("memory"))))
            .collect();
        harness.launch(specs.into());
        harness.until("fifty ends", |harness| harness.ended.len() == 50);
        harness.started.clear();
        for (id, _) in harness.ended.drain() {
            harness.engine.forget(id.as_str().into());
        }
        // The answer to a later command shows that the engine has handled the earlier ones.
        harness.engine.command("none".into(), ProcessCommand::Signal(0), 1);
        harness.signaled.clear();
        harness.until("the engine", |harness| !harness.signaled.is_empty());
    };
    round(&mut harness, "warm");
    let before = open_fds();
    round(&mut harness, "again");
    assert_eq!(open_fds(), before);
}

#[test]
fn hundreds_of_processes_start_in_one_request() {
    let mut harness = EngineHarness::new(options());
    let specs: serde_json::Map<_, _> = (0..1000)
        .map(|i| {
            (
                i.to_string(),
                json!({"argv": ["/bin/echo", i.to_string()], "fds": captured("tempfile")}),
            )
        })
        .collect();
    harness.launch(specs.into());
    harness.until("a thousand ends", |harness| harness.ended.len() == 1000);
    for (id, ended) in &harness.ended {
        assert_eq!((text(ended, "stdout"), ended.status), (format!("{id}\n"), 0));
    }
    assert_eq!(harness.started.len(), 1000);
}

#[test]
fn a_missing_capture_directory_fails_only_its_processes() {
    let dir = tempfile::tempdir().unwrap();
    let mut harness = EngineHarness::new(EngineOptions {
        capture_dirs: CaptureDirs { files: "/nowhere".into(), memory: dir.path().into() },
        ..options()
    });
    harness.launch(json!({
        "a": sh("true", captured("tempfile")),
        "b": sh("echo fine", captured("memory")),
    }));
    let ended = harness.end("a");
    assert_eq!(
        messages(ended),
        [
            "failed to set up fd 1: No such file or directory (os error 2)",
            "failed to set up fd 2: No such file or directory (os error 2)"
        ]
    );
    assert_eq!(ended.cut_short.len(), 2);
    assert_eq!(text(harness.end("b"), "stdout"), "fine\n");
}

#[test]
fn a_signal_reaches_a_process_in_the_start_queue() {
    let mut harness = EngineHarness::new(options());
    let ids: Vec<String> = (0..200).map(|i| i.to_string()).collect();
    let sleep = json!({"argv": ["/bin/sleep", "100"]});
    let specs: serde_json::Map<_, _> = ids.iter().map(|id| (id.clone(), sleep.clone())).collect();
    harness.launch(specs.into());
    // Most are not planned yet; SIGQUIT waits until a child has finished its set-up.
    for (ticket, id) in (0..).zip(&ids) {
        let signum = if ticket % 2 == 0 { libc::SIGKILL } else { libc::SIGQUIT };
        harness.engine.command(id.as_str().into(), ProcessCommand::Signal(signum), ticket);
    }
    harness.until("every answer and end", |harness| {
        harness.signaled.len() == 200 && harness.ended.len() == 200
    });
    for (ticket, id) in (0..).zip(&ids) {
        assert!(harness.signaled[&ticket].is_ok(), "{id}: {:?}", harness.signaled[&ticket]);
        assert_ne!(harness.ended[id].status, 0);
    }
}

#[test]
fn hundreds_of_setups_can_wait_for_later_processes() {
    let dir = tempfile::tempdir().unwrap();
    let mut specs = serde_json::Map::new();
    let fifo = |i| dir.path().join(format!("{i}"));
    for i in 0..300 {
        nix::unistd::mkfifo(&fifo(i), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let fds = json!([["0", {"file": {"path": fifo(i)}}], ["1", {"capture": {}}]]);
        specs.insert(format!("r{i}"), json!({"argv": ["/bin/cat"], "fds": fds}));
    }
    for i in 0..300 {
        let fds = json!([["1", {"file": {"path": fifo(i), "flags": "Append"}}]]);
        specs.insert(format!("w{i}"), json!({"argv": ["/bin/echo", i.to_string()], "fds": fds}));
    }
    let mut harness = EngineHarness::new(options());
    harness.launch(specs.into());
    for i in 0..300 {
        assert_eq!(text(harness.end(&format!("r{i}")), "1"), format!("{i}\n"));
    }
}

#[test]
fn a_failed_fork_ends_the_process_without_a_drain_timeout() {
    let mut harness =
        EngineHarness::new(EngineOptions { drain_timeout: DEADLINE * 2, ..options() });
    use std::os::fd::AsRawFd;
    let free = std::fs::File::open("/dev/null").unwrap().as_raw_fd() as u64;
    // Descriptors suffice for a capture, but not for a pidfd.
    let (_, hard) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, free + 1, hard)
        .unwrap();
    harness.launch(json!({"a": sh("true", json!([["1", {"capture": {}}]]))}));
    let ended = harness.end("a");
    assert_eq!(messages(ended), ["fork failed: Too many open files (os error 24)"]);
    assert_eq!(ended.cut_short, [("stdout".parse().unwrap(), Truncation::NotStarted)]);
}

/// CPU time of this whole process.
fn cpu_time() -> std::time::Duration {
    let clock = nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID;
    nix::time::clock_gettime(clock).unwrap().into()
}

#[test]
fn waiting_for_a_traced_zombie_uses_hardly_any_cpu() {
    let mut harness = EngineHarness::new(options());
    harness.launch(json!({"a": {"argv": ["/bin/sleep", "100"]}}));
    let pid = harness.pid("a");
    let (reader, writer) = nix::unistd::pipe().unwrap();
    use std::os::fd::AsRawFd;
    // A tracer that does not wait for its tracee. Before the tracer ends, no other process can reap
    // the tracee.
    // SAFETY: the child calls only async-signal-safe functions.
    let tracer = unsafe { libc::fork() };
    if tracer == 0 {
        // SAFETY: `seized` is one byte, a bool; the other calls take no pointers that are read.
        unsafe {
            let seized = libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) == 0;
            libc::write(writer.as_raw_fd(), (&raw const seized).cast(), 1);
            loop {
                libc::pause();
            }
        }
    }
    let mut seized = [0];
    nix::unistd::read(&reader, &mut seized).unwrap();
    if seized == [1] {
        harness.engine.command("a".into(), ProcessCommand::Signal(libc::SIGKILL), 1);
        let stat = format!("/proc/{pid}/stat");
        eventually("the zombie", || std::fs::read_to_string(&stat).unwrap().contains(") Z "));
        // While the engine polls ten times, it uses hardly any CPU.
        let (began, before) = (std::time::Instant::now(), cpu_time());
        let (_silent, nothing) = std::sync::mpsc::channel::<()>();
        let _ = nothing.recv_timeout(std::time::Duration::from_millis(500));
        assert!(cpu_time() - before < began.elapsed() / 4, "a busy loop");
        assert!(!harness.ended.contains_key("a"));
    }
    // SAFETY: plain system call, on a process of this test.
    unsafe { libc::kill(tracer, libc::SIGKILL) };
    harness.engine.command("a".into(), ProcessCommand::Signal(libc::SIGKILL), 2);
    assert_eq!(harness.end("a").status, libc::SIGKILL);
    // SAFETY: the null pointer requests no status.
    unsafe { libc::waitpid(tracer, std::ptr::null_mut(), 0) };
}
