//! What a process has of the program that starts it, if it is another user's, or if the program has capabilities: none of its privileges,
//! keys, variables and files. All of it needs root.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use super::*;

/// Users without an entry in the user database: an owner of programs, and one of processes.
const ALICE: u32 = 65_001;
const BATCH: u32 = 65_002;

/// Whether the test can switch users.
fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("NOT TESTED: it takes root to switch users");
    }
    root
}

/// A directory that this user may work in, and everybody look into.
fn place(uid: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    chown(dir.path(), Some(uid), Some(uid)).unwrap();
    dir
}

/// The program as this user, with what this option of setpriv(1) says.
fn procstar_as(uid: u32, capabilities: &str, dir: &Path) -> Command {
    let mut command = Command::new("/usr/bin/setpriv");
    if uid != 0 {
        command.args(["--clear-groups", "--reuid", &uid.to_string(), "--regid", &uid.to_string()]);
    }
    if !capabilities.is_empty() {
        let options = ["--inh-caps", "--ambient-caps"];
        command.args(options.map(|option| format!("{option}={capabilities}")));
    }
    command.arg(env!("CARGO_BIN_EXE_procstar")).env_clear();
    command.env("PATH", "/usr/bin:/bin").env("TMPDIR", dir);
    command.env("PROCSTAR_RUN_RUNTIME_DIR", dir.join(format!("run-{uid}")));
    command
}

/// The results of these processes, by this program.
fn results_of(mut command: Command, specs: &Value) -> Value {
    command.args(["--print", "-"]);
    let output = run_with(command, &json!({ "specs": specs }).to_string());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The standard output of a process that has succeeded.
fn text(result: &Value) -> &str {
    assert_eq!(result["status"]["exit_code"], 0, "{result}");
    result["fds"]["stdout"]["text"].as_str().unwrap()
}

fn captured() -> Value {
    json!([["stdout", {"capture": {"encoding": "utf-8"}}]])
}

/// A process of a user, or of none that is named, with more keys.
fn process(argv: &[&str], user: Option<u32>, more: &Value) -> Value {
    let mut process = json!({"argv": argv, "fds": captured()});
    if let Some(uid) = user {
        process["user"] = uid.into();
        process["group"] = uid.into();
    }
    process.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    process
}

/// The capabilities of a process as it sees them, and whether it can gain more.
#[derive(Debug, PartialEq, Eq)]
struct Powers {
    /// Inheritable, permitted, effective and ambient.
    sets: [u64; 4],
    bounding: u64,
    no_new_privileges: bool,
}

impl Powers {
    const NONE: Powers = Powers { sets: [0; 4], bounding: 0, no_new_privileges: false };

    fn of(status: &str) -> Powers {
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        Powers {
            sets: ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"].map(line),
            bounding: line("CapBnd:"),
            no_new_privileges: line("NoNewPrivs:") == 1,
        }
    }
}

const STATUS: [&str; 2] = ["/bin/cat", "/proc/self/status"];

#[test]
fn no_process_has_capabilities_but_roots_by_root() {
    if !is_root() {
        return;
    }
    let ours = Powers::of(&std::fs::read_to_string("/proc/self/status").unwrap());
    let nothing = json!({});
    // Its parent is not the thread that clones it.
    let proxied = json!({"pdeath_signal": "KILL"});
    let specs = json!({
        "same": process(&STATUS, None, &nothing),
        "other": process(&STATUS, Some(BATCH), &nothing),
        "root": process(&STATUS, Some(0), &nothing),
        "same, proxied": process(&STATUS, None, &proxied),
        "other, proxied": process(&STATUS, Some(BATCH), &proxied),
    });
    let confined = || Powers { bounding: ours.bounding, no_new_privileges: true, ..Powers::NONE };
    let few = "+setuid,+setgid,+kill";
    for (uid, capabilities, gain, same, other, root) in [
        (0, "", false, None, Some(Powers::NONE), None),
        (0, few, false, None, Some(Powers::NONE), None),
        // What cannot be taken out of the bounding set cannot be gained.
        (ALICE, few, false, Some(confined()), Some(confined()), Some(confined())),
        (
            ALICE,
            "+setuid,+setgid,+setpcap,+dac_override",
            false,
            Some(Powers::NONE),
            Some(Powers::NONE),
            Some(Powers::NONE),
        ),
        (0, "", true, None, Some(Powers { bounding: ours.bounding, ..Powers::NONE }), None),
    ] {
        let dir = place(uid);
        let mut command = procstar_as(uid, capabilities, dir.path());
        command.env("PROCSTAR_RUN_GAIN_PRIVILEGES", gain.to_string());
        let results = results_of(command, &specs);
        for (id, expected) in [
            ("same", &same),
            ("same, proxied", &same),
            ("other", &other),
            ("other, proxied", &other),
            ("root", &root),
        ] {
            let found = Powers::of(text(&results[id]));
            match expected {
                Some(expected) => assert_eq!(found, *expected, "{uid} {capabilities} {gain} {id}"),
                None => {
                    assert_eq!(found.bounding, ours.bounding, "{uid} {capabilities} {id}");
                    assert_eq!(found.sets[1..3], [ours.bounding; 2], "{uid} {capabilities} {id}");
                }
            }
        }
    }
}

#[test]
fn a_program_without_capabilities_changes_nothing() {
    if !is_root() {
        return;
    }
    let ours = Powers::of(&std::fs::read_to_string("/proc/self/status").unwrap());
    let dir = place(ALICE);
    let specs = json!({"same": process(&STATUS, None, &json!({}))});
    let results = results_of(procstar_as(ALICE, "", dir.path()), &specs);
    let as_at_a_login = Powers { bounding: ours.bounding, ..Powers::NONE };
    assert_eq!(Powers::of(text(&results["same"])), as_at_a_login);
}

#[test]
fn set_user_id_programs_grant_no_capability_unless_configured() {
    if !is_root() {
        return;
    }
    let dir = place(0);
    let program = dir.path().join("cat");
    std::fs::copy("/bin/cat", &program).unwrap();
    std::fs::set_permissions(&program, Permissions::from_mode(0o4755)).unwrap();
    let argv = [program.to_str().unwrap(), "/proc/self/status"];
    let specs = json!({"other": process(&argv, Some(BATCH), &json!({}))});
    for gain in [false, true] {
        let mut command = procstar_as(0, "", dir.path());
        command.env("PROCSTAR_RUN_GAIN_PRIVILEGES", gain.to_string());
        let results = results_of(command, &specs);
        let [_, permitted, effective, _] = Powers::of(text(&results["other"])).sets;
        assert_eq!((permitted != 0, effective != 0), (gain, gain));
    }
}

#[test]
fn files_are_opened_without_the_programs_capabilities() {
    if !is_root() {
        return;
    }
    let dir = place(ALICE);
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "root's\n").unwrap();
    std::fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    let fds = json!({"fds": [
        ["stdin", {"file": {"path": secret}}],
        ["stdout", {"capture": {"encoding": "utf-8"}}],
    ]});
    let command = procstar_as(ALICE, "+dac_override", dir.path());
    let results = results_of(command, &json!({"same": process(&["/bin/cat"], None, &fds)}));
    let denied = "failed to set up fd 0: Permission denied (os error 13)";
    assert_eq!(results["same"]["errors"], json!([denied]));
}

/// Joins a new session keyring, puts a key into it, and executes its arguments.
const WITH_KEY: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
ADD_KEY, KEYCTL = {"x86_64": (248, 250), "aarch64": (217, 219)}[os.uname().machine]
if libc.syscall(KEYCTL, 1, None) < 0:
    sys.exit("keyrings: " + os.strerror(ctypes.get_errno()))
libc.syscall(ADD_KEY, b"user", b"procstar-test", b"secret", 6, ctypes.c_int(-3))
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// Reads that key, if it can be found.
const READ_KEY: &str = r#"
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
KEYCTL = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
key = libc.syscall(KEYCTL, 10, ctypes.c_int(-3), b"user", b"procstar-test", 0)
if key < 0:
    print("no key:", os.strerror(ctypes.get_errno()))
else:
    secret = ctypes.create_string_buffer(6)
    libc.syscall(KEYCTL, 11, key, secret, 6)
    print(secret.raw.decode())
"#;

#[test]
fn another_user_has_a_session_keyring_of_its_own() {
    if !is_root() {
        return;
    }
    let dir = place(0);
    let reader = ["/usr/bin/python3", "-c", READ_KEY];
    let proxied = json!({"pdeath_signal": "KILL"});
    let specs = json!({
        "same": process(&reader, None, &json!({})),
        "other": process(&reader, Some(BATCH), &json!({})),
        "other, proxied": process(&reader, Some(BATCH), &proxied),
    });
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", WITH_KEY, env!("CARGO_BIN_EXE_procstar")]).env_clear();
    command.env("PATH", "/usr/bin:/bin").env("TMPDIR", dir.path());
    command.env("PROCSTAR_RUN_RUNTIME_DIR", dir.path().join("run"));
    let results = results_of(command, &specs);
    assert_eq!(text(&results["same"]), "secret\n");
    for other in ["other", "other, proxied"] {
        assert_eq!(text(&results[other]), "no key: Required key not available\n", "{other}");
    }
}

/// The environment of a process of a user, as it sees it.
fn environment(user: &Value, env: &Value) -> Vec<String> {
    let dir = place(0);
    let mut command = procstar_as(0, "", dir.path());
    command.args(["--print", "-"]);
    for (name, value) in [
        ("HOME", "/root"),
        ("USER", "root"),
        ("LOGNAME", "root"),
        ("SHELL", "/bin/bash"),
        ("MAIL", "/var/mail/root"),
        ("SSH_AUTH_SOCK", "/run/agent"),
        ("LANG", "C.UTF-8"),
        ("LC_ALL", "C"),
        ("TZ", "UTC"),
    ] {
        command.env(name, value);
    }
    let mut process = json!({"argv": ["/usr/bin/env"], "env": env, "fds": captured()});
    if !user.is_null() {
        process["user"] = user.clone();
        process["group"] = 65534.into();
    }
    let output = run_with(command, &json!({"specs": {"a": process}}).to_string());
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut lines: Vec<String> = text(&results["a"]).lines().map(str::to_owned).collect();
    lines.retain(|line| !line.starts_with("TMPDIR=") && !line.starts_with("PROCSTAR_"));
    lines.sort_unstable();
    lines
}

#[test]
fn another_user_has_an_environment_of_its_own() {
    if !is_root() {
        return;
    }
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let home = format!("HOME={}", nobody.dir.display());
    let shell = format!("SHELL={}", nobody.shell.display());
    let of_nobody = [&home, "LOGNAME=nobody", &shell, "USER=nobody"];
    let neutral = ["LANG=C.UTF-8", "LC_ALL=C", "PATH=/usr/bin:/bin", "TZ=UTC"];
    let rest = ["MAIL=/var/mail/root", "SSH_AUTH_SOCK=/run/agent"];
    let sorted = |parts: &[&[&str]]| {
        let mut lines: Vec<String> = parts.concat().into_iter().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let nobody = json!("nobody");
    let default = sorted(&[&of_nobody, &neutral]);
    assert_eq!(environment(&nobody, &json!({})), default);
    assert_eq!(environment(&nobody, &json!({"inherit": null})), default);
    // Variables of the spec override the others.
    let all = sorted(&[&of_nobody, &neutral, &rest]);
    assert_eq!(environment(&nobody, &json!({"inherit": true})), all);
    assert_eq!(environment(&nobody, &json!({"inherit": false})), sorted(&[&of_nobody]));
    let some = environment(&nobody, &json!({"inherit": ["MAIL", "HOME"]}));
    assert_eq!(some, sorted(&[&of_nobody[1..], &rest[..1], &["HOME=/root"]]));
    let vars = json!({"vars": {"HOME": "/srv", "SHELL": null, "TZ": null, "MAIL": "x"}});
    let set = ["HOME=/srv", "LOGNAME=nobody", "USER=nobody", "MAIL=x"];
    assert_eq!(environment(&nobody, &vars), sorted(&[&set, &neutral[..3]]));
    // Nothing is known of one without an entry.
    let unknown = environment(&json!(BATCH), &json!({"inherit": true}));
    assert_eq!(unknown, sorted(&[&["HOME=/", "SHELL=/bin/sh"], &neutral, &rest]));
    // A process of procstar's own user inherits all variables.
    for own in [Value::Null, json!("root")] {
        let own = environment(&own, &json!({}));
        assert!(own.contains(&"HOME=/root".to_owned()), "{own:?}");
        assert!(own.contains(&"MAIL=/var/mail/root".to_owned()), "{own:?}");
    }
}

#[test]
fn results_mask_secrets_in_the_environment_of_another_user() {
    if !is_root() {
        return;
    }
    let dir = place(0);
    let env =
        json!({"env": {"in_result": true, "vars": {"TOKEN": {"value": "x", "secret": true}}}});
    let specs = json!({"other": process(&["/bin/true"], Some(BATCH), &env)});
    let results = results_of(procstar_as(0, "", dir.path()), &specs);
    let shown = json!({"PATH": "/usr/bin:/bin", "HOME": "/", "SHELL": "/bin/sh", "TOKEN": "***"});
    assert_eq!(results["other"]["env"], shown);
}

#[test]
fn another_user_has_no_file_of_the_programs() {
    if !is_root() {
        return;
    }
    let dir = place(0);
    let path = dir.path().join("log");
    let mut log: File =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    log.write_all(b"root's log\n").unwrap();
    log.seek(SeekFrom::Start(0)).unwrap();
    // Reads what it can, empties what it can, and says what its fds are. Fd 9 is whatever it was told.
    let script = "import os, sys\n\
        for fd in (0, 1, 2):\n    \
            try: os.ftruncate(fd, 0)\n    \
            except OSError: pass\n\
        read = os.read(0, 100)\n\
        fds = [os.readlink(f'/proc/self/fd/{fd}') for fd in (0, 1, 2)]\n\
        os.write(9, f'{read} {fds}'.encode())";
    let argv = ["/usr/bin/python3", "-c", script];
    let at_nine = json!(["9", {"capture": {"encoding": "utf-8"}}]);
    let specs = json!({
        "unnamed": process(&argv, Some(BATCH), &json!({"fds": [at_nine]})),
        "duplicates": process(&argv, Some(BATCH), &json!({"fds": [["2", {"dup": {"fd": 1}}], at_nine]})),
    });
    let specs_file = dir.path().join("specs.json");
    std::fs::write(&specs_file, json!({ "specs": specs }).to_string()).unwrap();
    let results = dir.path().join("results.json");
    let mut command = procstar_as(0, "", dir.path());
    command.arg("--output").arg(&results).arg(&specs_file);
    for fd in 0..3 {
        let log = Stdio::from(log.try_clone().unwrap());
        match fd {
            0 => command.stdin(log),
            1 => command.stdout(log),
            _ => command.stderr(log),
        };
    }
    assert!(command.status().unwrap().success());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "root's log\n");
    let results: Value = serde_json::from_slice(&std::fs::read(results).unwrap()).unwrap();
    for id in ["unnamed", "duplicates"] {
        let seen = results[id]["fds"]["9"]["text"].as_str().unwrap();
        assert_eq!(seen, "b'' ['/dev/null', '/dev/null', '/dev/null']", "{}", results[id]);
    }
}

#[test]
fn a_command_in_the_foreground_keeps_its_redirections_as_another_user() {
    if !is_root() {
        return;
    }
    let dir = place(0);
    let mut command = procstar_as(0, "", dir.path());
    command.args(["run", "-u", "65534", "-g", "65534", "-e", "MAIL", "--", "sh", "-c"]);
    command.arg("cat; echo $MAIL $LANG $SSH_AUTH_SOCK; echo $HOME >&2; ls /proc/self/fd | wc -w");
    command.env("MAIL", "/m").env("LANG", "C").env("SSH_AUTH_SOCK", "/s").env("HOME", "/root");
    let output = run_with(command, "in\n");
    let home = nix::unistd::User::from_uid(65534.into()).unwrap().unwrap().dir;
    // ls has a descriptor of the directory beside the three.
    assert_eq!(String::from_utf8_lossy(&output.stdout), "in\n/m C\n4\n", "{output:?}");
    assert_eq!(stderr(&output), format!("{}\n", home.display()));
}
