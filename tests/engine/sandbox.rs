//! The sandbox of a process: what the process sees and cannot do, as root and as another user, and
//! what fails if it cannot be had. Each test changes its whole process, so each needs its own, as
//! nextest provides.

use crate::support::engine::*;
use procstar::engine::{Ended, Stage};
use procstar::spec::Attribute;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The user and group of unprivileged tests.
const USER: u32 = 54321;
const GROUP: u32 = 54322;

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("NOT TESTED: it needs root");
    }
    root
}

/// Makes this process one of an unprivileged user, if root runs the test.
fn become_unprivileged() {
    if nix::unistd::geteuid().is_root() {
        nix::unistd::setgroups(&[]).unwrap();
        let (uid, gid) = (USER.into(), GROUP.into());
        nix::unistd::setresgid(gid, gid, gid).unwrap();
        nix::unistd::setresuid(uid, uid, uid).unwrap();
    }
}

/// A shell script in a sandbox, with captured output.
fn sandboxed(script: &str, sandbox: &Value) -> Value {
    let capture = json!({"capture": {"mode": "tempfile", "encoding": "utf-8"}});
    json!({
        "argv": ["/bin/bash", "-c", script],
        "fds": {"stdin": {"null": {}}, "stdout": capture, "stderr": capture},
        "sandbox": sandbox,
    })
}

/// The output of a script in a sandbox that ends well.
fn output_of(script: &str, sandbox: Value) -> String {
    output_of_proc(sandboxed(script, &sandbox))
}

fn output_of_proc(proc: Value) -> String {
    let shown = proc["sandbox"].to_string();
    let (ended, _harness) = run(proc);
    assert!(ended.failures.is_empty(), "{shown}: {:?}", messages(&ended));
    let (out, err) = (text(&ended, "stdout"), text(&ended, "stderr"));
    assert_eq!(ended.status, 0, "{shown}: {out}{err}");
    out
}

fn messages(ended: &Ended) -> Vec<String> {
    ended.failures.iter().map(ToString::to_string).collect()
}

/// The values of keys of `/proc/self/status` in a sandbox.
fn status(mut proc: Value, keys: &[&str]) -> Vec<String> {
    proc["argv"] = json!(["/bin/cat", "/proc/self/status"]);
    let text = output_of_proc(proc);
    let value = |key: &&str| {
        let line = text.lines().find(|line| line.starts_with(&format!("{key}:")));
        line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or_default().to_owned()
    };
    keys.iter().map(value).collect()
}

const CAPABILITIES: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

#[test]
fn no_new_privs_is_set_if_asked_for() {
    let proc = |sandbox| sandboxed("", &sandbox);
    assert_eq!(status(proc(json!({})), &["NoNewPrivs"]), ["0"]);
    assert_eq!(status(proc(json!({"no_new_privs": true})), &["NoNewPrivs"]), ["1"]);
}

#[test]
fn no_new_privs_needs_no_privileges() {
    become_unprivileged();
    let proc = sandboxed("", &json!({"no_new_privs": true}));
    assert_eq!(status(proc, &["NoNewPrivs"]), ["1"]);
}

#[test]
fn root_has_exactly_the_listed_capabilities() {
    if !is_root() {
        return;
    }
    for (list, bits) in
        [(json!([]), 0u64), (json!(["CAP_CHOWN"]), 1), (json!(["net_raw", 10, "cap_kill"]), 0x2420)]
    {
        let proc = sandboxed("", &json!({ "capabilities": list }));
        let bits = format!("{bits:016x}");
        let none = "0".repeat(16);
        let expected = [&*bits, &*bits, &*bits, &*bits, &*none];
        assert_eq!(status(proc, &CAPABILITIES), expected);
    }
}

#[test]
fn another_user_has_the_listed_capabilities_without_privileged_programs() {
    if !is_root() {
        return;
    }
    let mut proc = sandboxed("", &json!({"capabilities": ["CAP_NET_BIND_SERVICE", "CAP_NET_RAW"]}));
    proc["user"] = json!(USER);
    proc["group"] = json!(GROUP);
    let both = format!("{:016x}", 0x2400);
    assert_eq!(status(proc.clone(), &CAPABILITIES), [both.as_str(); 5]);
    let none = "0".repeat(16);
    proc["sandbox"] = json!({"capabilities": []});
    assert_eq!(status(proc, &CAPABILITIES), [none.as_str(); 5]);
}

#[test]
fn an_unprivileged_instance_grants_no_capabilities_and_takes_them_only_with_no_new_privs() {
    become_unprivileged();
    for (sandbox, error) in [
        (
            json!({"capabilities": ["CAP_CHOWN"], "no_new_privs": true}),
            "failed to set sandbox: capabilities: CAP_CHOWN: Operation not permitted (os error 1): procstar does not have \
             it itself; run procstar as root, or remove it from the list",
        ),
        (
            json!({"capabilities": []}),
            "failed to set sandbox: capabilities: Operation not permitted (os error 1): procstar has no CAP_SETPCAP, so \
             the process could gain the others by exec; set no_new_privs to true, or run procstar as root",
        ),
        (
            json!({"capabilities": [60], "no_new_privs": true}),
            "failed to set sandbox: capabilities: 60: Invalid argument (os error 22): this kernel does not have it; \
             remove it from the list",
        ),
    ] {
        let (ended, harness) = run(sandboxed("echo ran", &sandbox));
        assert_eq!(messages(&ended), [error]);
        assert_eq!(text(&ended, "stdout"), "");
        assert!(harness.started.is_empty());
    }
    let both = sandboxed("", &json!({"capabilities": [], "no_new_privs": true}));
    assert_eq!(status(both, &["CapEff", "NoNewPrivs"]), [&*"0".repeat(16), "1"]);
    let isolated = sandboxed("", &json!({"capabilities": [], "private_tmp": true}));
    assert_eq!(status(isolated, &CAPABILITIES), [&*"0".repeat(16); 5]);
}

/// A directory that the test's users can read and write, outside of /tmp.
fn open_dir() -> tempfile::TempDir {
    let base = if nix::unistd::geteuid().is_root() { "/var" } else { "/tmp" };
    let dir = tempfile::tempdir_in(base).unwrap();
    open(dir.path());
    dir
}

fn open(path: &Path) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
}

/// Directories and files of a test of mounts.
fn tree() -> (tempfile::TempDir, String) {
    let dir = open_dir();
    for below in ["ro", "ro/rw", "ro/rw/ro", "secret"] {
        std::fs::create_dir(dir.path().join(below)).unwrap();
        open(&dir.path().join(below));
    }
    for file in ["ro/file", "ro/rw/file", "secret/file", "hidden", "free"] {
        std::fs::write(dir.path().join(file), "x").unwrap();
        std::fs::set_permissions(dir.path().join(file), PermissionsExt::from_mode(0o666)).unwrap();
    }
    let path = dir.path().to_str().unwrap().to_owned();
    (dir, path)
}

/// Tests all keys about files as the present user.
fn paths_are_as_the_sandbox_has_them(path: &str) {
    let sandbox = json!({
        "read_only_paths": [format!("{path}/ro"), format!("{path}/ro/rw/ro")],
        "writable_paths": [format!("{path}/ro/rw")],
        "hidden_paths": [format!("{path}/secret"), format!("{path}/hidden")],
    });
    // Each line tries to write, and prints the result.
    let script = "try() { if ( echo y >> $1 ) 2> /tmp/err.$$; then echo $1; else echo \"$1: $(sed 's/.*: //' /tmp/err.$$)\"; fi; rm -f /tmp/err.$$; }
        try ro/file; try ro/new; try ro/rw/file; try ro/rw/new; try ro/rw/ro/new; try free
        touch -c -d 1990-01-01 ro/file 2> /dev/null || echo times
        ls secret | wc -l; cat secret/file 2> /dev/null || echo gone; cat hidden 2> /dev/null; pwd";
    let mut proc = sandboxed(script, &sandbox);
    proc["cwd"] = json!(path);
    let read_only = "Read-only file system";
    assert_eq!(
        output_of_proc(proc),
        format!(
            "ro/file: {read_only}\nro/new: {read_only}\nro/rw/file\nro/rw/new\nro/rw/ro/new: {read_only}\nfree\ntimes\n\
             0\ngone\n{path}\n"
        )
    );
    assert_eq!(std::fs::read_to_string(format!("{path}/ro/file")).unwrap(), "x");
    assert_eq!(std::fs::read_to_string(format!("{path}/secret/file")).unwrap(), "x");
    std::fs::remove_file(format!("{path}/ro/rw/new")).unwrap();
}

#[test]
fn paths_are_read_only_writable_and_hidden_for_root() {
    let (_dir, path) = tree();
    paths_are_as_the_sandbox_has_them(&path);
}

#[test]
fn paths_are_read_only_writable_and_hidden_for_an_unprivileged_instance() {
    let (_dir, path) = tree();
    become_unprivileged();
    paths_are_as_the_sandbox_has_them(&path);
}

#[test]
fn paths_are_read_only_for_another_user() {
    if !is_root() {
        return;
    }
    let (_dir, path) = tree();
    let mut proc = sandboxed(
        "id -u; grep -o 'NoNewPrivs.*1' /proc/self/status; echo y > ro/new || echo y > ro/rw/new",
        &json!({"read_only_paths": ["/"], "writable_paths": [format!("{path}/ro/rw")], "private_tmp": true}),
    );
    (proc["user"], proc["group"], proc["cwd"]) = (json!(USER), json!(GROUP), json!(path));
    assert_eq!(output_of_proc(proc), format!("{USER}\nNoNewPrivs:\t1\n"));
    assert!(Path::new(&format!("{path}/ro/rw/new")).exists());
    assert!(!Path::new(&format!("{path}/ro/new")).exists());
}

#[test]
fn a_relative_path_leads_through_the_new_mounts() {
    let (_dir, path) = tree();
    std::env::set_current_dir(&path).unwrap();
    for cwd in [json!(null), json!("."), json!("ro")] {
        let mut proc = sandboxed("echo y 2> /dev/null > new", &json!({"read_only_paths": [path]}));
        proc["cwd"] = cwd;
        let (ended, _harness) = run(proc);
        assert_eq!(ended.status, 1 << 8, "{:?}", messages(&ended));
    }
}

fn tmp_is_private() {
    let outer = tempfile::NamedTempFile::new_in("/tmp").unwrap();
    let name = outer.path().to_str().unwrap();
    let script = format!(
        "ls -A /tmp /var/tmp; stat -c %a /tmp; test ! -e {name}; echo inner > {name}; cat {name}"
    );
    let mut proc = sandboxed(&script, &json!({"private_tmp": true}));
    proc["cwd"] = json!("/");
    assert_eq!(output_of_proc(proc), "/tmp:\n\n/var/tmp:\n1777\ninner\n");
    assert_eq!(std::fs::read_to_string(name).unwrap(), "");
}

#[test]
fn tmp_is_private_for_root() {
    tmp_is_private();
}

#[test]
fn tmp_is_private_for_an_unprivileged_instance() {
    become_unprivileged();
    tmp_is_private();
}

fn network_is_as_the_sandbox_has_it() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "(echo > /dev/tcp/127.0.0.1/{port}) 2>&1 | sed 's/.*: //' | uniq; tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '"
    );
    let of = |network: &str| output_of(&script, json!({ "network": network }));
    let host = of("host");
    assert!(!host.contains("refused") && !host.contains("unreachable"), "{host}");
    assert_eq!(of("loopback"), "Connection refused\nlo\n");
    assert_eq!(of("none"), "Network is unreachable\nlo\n");
    // A process reaches itself over loopback.
    let own = "exec 3< <(python3 -c 'import socket
s = socket.create_server((\"127.0.0.1\", 0)); c = socket.create_connection(s.getsockname()); print(s.accept()[1][0])'); cat <&3";
    if Path::new("/usr/bin/python3").exists() {
        let own = own.replace("python3", "/usr/bin/python3");
        assert_eq!(output_of(&own, json!({"network": "loopback"})), "127.0.0.1\n");
    }
}

#[test]
fn the_network_is_none_or_loopback_for_root() {
    network_is_as_the_sandbox_has_it();
}

#[test]
fn the_network_is_none_or_loopback_for_an_unprivileged_instance() {
    become_unprivileged();
    network_is_as_the_sandbox_has_it();
}

#[test]
fn an_unprivileged_process_keeps_its_user_and_cannot_undo_its_mounts() {
    let (_dir, path) = tree();
    become_unprivileged();
    let script = format!(
        "id -u; id -g; grep CapEff /proc/self/status
         umount {path}/ro 2> /dev/null || echo no; mount -o remount,rw {path}/ro 2> /dev/null || echo no
         unshare -rm umount {path}/ro 2> /dev/null || echo no"
    );
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    assert_eq!(
        output_of(&script, json!({"read_only_paths": [format!("{path}/ro")]})),
        format!("{uid}\n{gid}\nCapEff:\t0000000000000000\nno\nno\nno\n")
    );
}

#[test]
fn statuses_and_output_are_those_of_a_process_without_a_sandbox() {
    let strict = json!({"profile": "strict", "capabilities": []});
    for script in
        ["exit 7", "kill -KILL $$", "kill -34 $$", "echo out; echo err >&2", "cd /nowhere"]
    {
        let (plain, _one) = run(sandboxed(script, &json!({})));
        let (boxed, _two) = run(sandboxed(script, &strict));
        assert!(boxed.failures.is_empty(), "{:?}", messages(&boxed));
        assert_eq!(plain.status, boxed.status, "{script}");
        for fd in ["stdout", "stderr"] {
            assert_eq!(text(&plain, fd), text(&boxed, fd), "{script}");
        }
    }
}

#[test]
fn a_sandboxed_process_survives_an_upgrade_with_its_exact_status() {
    let mut harness = EngineHarness::new(options());
    let (go, done) = (open_dir(), "exit 7");
    let fifo = go.path().join("go");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    let script = format!("read line < {}; echo $line; {done}", fifo.display());
    let mut proc = sandboxed(&script, &json!({"profile": "strict", "private_tmp": false}));
    proc["cwd"] = json!("/");
    harness.launch(json!({ "a": proc }));
    harness.pid("a");
    let (_engine, events) = harness.successor();
    std::fs::write(&fifo, "after\n").unwrap();
    let deadline = std::time::Instant::now() + crate::support::wait::DEADLINE;
    let ended = loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        if let procstar::engine::Event::Ended(ended) = events.recv_timeout(left).unwrap() {
            break ended;
        }
    };
    assert_eq!((ended.status, text(&ended, "stdout").as_str()), (7 << 8, "after\n"));
}

#[test]
fn a_death_signal_works_in_a_sandbox() {
    procstar::engine::become_subreaper().unwrap();
    let mut proc = sandboxed("echo fine", &json!({"profile": "strict"}));
    proc["pdeath_signal"] = json!("KILL");
    assert_eq!(output_of_proc(proc), "fine\n");
}

#[test]
fn a_path_that_does_not_exist_fails_the_start() {
    for key in ["read_only_paths", "writable_paths", "hidden_paths"] {
        let mut sandbox = json!({ key: ["/no/such"] });
        if key == "writable_paths" {
            sandbox["read_only_paths"] = json!(["/"]);
        }
        let (ended, harness) = run(sandboxed("echo ran", &sandbox));
        assert_eq!(
            messages(&ended),
            [format!(
                "failed to set sandbox: {key}: /no/such: No such file or directory (os error 2): create it, or remove it \
                 from the list"
            )]
        );
        assert_eq!(ended.failures[0].stage, Stage::Attribute(Attribute::Sandbox));
        assert_eq!(ended.failures[0].exit_code(), 125);
        assert_eq!(text(&ended, "stdout"), "");
        assert!(harness.started.is_empty());
    }
}

#[test]
fn a_working_directory_that_the_sandbox_hides_fails_the_start() {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    std::env::set_current_dir(dir.path()).unwrap();
    let (ended, _harness) = run(sandboxed("echo ran", &json!({"private_tmp": true})));
    let cwd = dir.path().display();
    assert_eq!(
        messages(&ended),
        [format!(
            "failed to set sandbox: working directory {cwd}: No such file or directory (os error 2): it is not accessible in \
             the sandbox; set cwd to a directory that is"
        )]
    );
}

/// Refuses system calls to this process and its children, with EPERM: all calls of a number, or
/// only those with this first argument.
fn refuse(calls: &[(libc::c_long, Option<libc::c_int>)]) {
    let step = |code: u32, jf, k| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let load = |at| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, at);
    // Without a match, the rest of the block is skipped.
    let is = |value, rest| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, rest, value);
    let give = |action| step(libc::BPF_RET | libc::BPF_K, 0, action);
    let refusal = give(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
    let mut program = Vec::new();
    for (call, argument) in calls {
        let call = u32::try_from(*call).unwrap();
        program.extend([load(0), is(call, if argument.is_some() { 3 } else { 1 })]);
        // The lower half of the first argument, on a little-endian machine.
        let argument = argument.map(|value| [load(16), is(value.cast_unsigned(), 1)]);
        program.extend(argument.into_iter().flatten());
        program.push(refusal);
    }
    program.push(give(libc::SECCOMP_RET_ALLOW));
    let len = u16::try_from(program.len()).unwrap();
    let filter = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    let (yes, none): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: the kernel reads the program, which lives here.
    unsafe {
        if !nix::unistd::geteuid().is_root() {
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, yes, none, none, none), 0);
        }
        let mode = libc::SECCOMP_MODE_FILTER as libc::c_ulong;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter), 0);
    }
}

/// Sandboxes that need something of the kernel: each key at least once.
fn each_key(path: &str) -> Vec<(&'static str, Value)> {
    vec![
        ("no_new_privs", json!({"no_new_privs": true})),
        ("capabilities", json!({"capabilities": [], "no_new_privs": false})),
        ("private_tmp", json!({"private_tmp": true})),
        ("read_only_paths", json!({"read_only_paths": [path]})),
        (
            "writable_paths",
            json!({"read_only_paths": ["/"], "writable_paths": [format!("{path}/ro")]}),
        ),
        ("hidden_paths", json!({"hidden_paths": [format!("{path}/secret")]})),
        ("network", json!({"network": "none"})),
        ("network", json!({"network": "loopback"})),
        ("profile", json!({"profile": "basic"})),
        ("profile", json!({"profile": "strict"})),
    ]
}

fn every_key_fails_where_it_cannot_be_had() {
    let (_dir, path) = tree();
    // Every key of the schema is among them.
    let schema = serde_json::to_value(procstar::spec::schema()).unwrap();
    let keys = schema["$defs"]["SandboxSpec"]["properties"].as_object().unwrap();
    let tested = each_key(&path);
    for key in keys.keys() {
        assert!(tested.iter().any(|(name, _)| name == key), "{key} is not tested");
    }
    for (key, sandbox) in tested {
        let (ended, harness) = run(sandboxed("echo ran", &sandbox));
        let [failure] = ended.failures.as_slice() else {
            panic!("{key}: {sandbox}: {:?}", messages(&ended))
        };
        assert_eq!(failure.stage, Stage::Attribute(Attribute::Sandbox), "{key}");
        assert_eq!(failure.errno, libc::EPERM, "{key}");
        let text = failure.to_string();
        assert!(text.contains("Operation not permitted (os error 1): "), "{text}");
        assert_eq!(self::text(&ended, "stdout"), "", "{key}");
        assert!(harness.started.is_empty(), "{key}");
    }
}

#[test]
fn every_key_fails_the_start_where_system_calls_are_refused_to_root() {
    if !is_root() {
        return;
    }
    let prctl = |option| (libc::SYS_prctl, Some(option));
    refuse(&[
        (libc::SYS_unshare, None),
        prctl(libc::PR_CAPBSET_DROP),
        prctl(libc::PR_SET_NO_NEW_PRIVS),
    ]);
    every_key_fails_where_it_cannot_be_had();
}

#[test]
fn mounts_that_are_refused_fail_the_start() {
    let (_dir, path) = tree();
    let sandboxes = |keys: &[&str]| {
        let all = each_key(&path).into_iter();
        all.filter(|(key, _)| keys.contains(key)).map(|(_, sandbox)| sandbox).collect::<Vec<_>>()
    };
    let trees = sandboxes(&["read_only_paths", "writable_paths"]);
    let mounts = sandboxes(&["private_tmp", "hidden_paths", "profile"]);
    refuse(&[(libc::SYS_open_tree, None), (libc::SYS_mount, None)]);
    for sandbox in trees.iter().chain(&mounts) {
        let (ended, _harness) = run(sandboxed("echo ran", sandbox));
        assert_eq!(ended.failures.len(), 1, "{sandbox}");
        assert_eq!(ended.failures[0].errno, libc::EPERM, "{sandbox}");
        assert_eq!(text(&ended, "stdout"), "", "{sandbox}");
    }
}

#[test]
fn an_unprivileged_instance_without_user_namespaces_says_how_to_allow_them() {
    become_unprivileged();
    refuse(&[(libc::SYS_unshare, None)]);
    let (ended, _harness) = run(sandboxed("echo ran", &json!({"private_tmp": true})));
    assert_eq!(
        messages(&ended),
        [
            "failed to set sandbox: private_tmp: Operation not permitted (os error 1): procstar is not root, and this host \
          or container allows no user namespaces (kernel.unprivileged_userns_clone, seccomp); allow them, run procstar \
          as root, or leave the key out"
        ]
    );
}
