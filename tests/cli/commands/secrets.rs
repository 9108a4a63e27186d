//! What a process of the worker's own user can read of the worker: not the tokens that the program
//! was started with.
//!
//! As root, these tests run the program as another user, for root can read everything.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::harness::{Instance, Ran, procstar};
use crate::support::wait::eventually;

/// The user whose worker it is, where the test has a choice.
const ALICE: u32 = 65_002;
const TOKEN: &str = "0123456789abcdef0123456789abcdef-of-the-test";
const OTHER: &str = "fedcba9876543210fedcba9876543210-of-the-test";

/// Makes a command run as the user of the worker.
fn as_alice(command: &mut Command) -> &mut Command {
    if nix::unistd::geteuid().is_root() {
        command.uid(ALICE).gid(ALICE);
    }
    command
}

/// An instance of alice's with both tokens in its environment.
fn instance(more: &[(&str, &str)]) -> Instance {
    let dir = tempfile::tempdir().unwrap();
    if nix::unistd::geteuid().is_root() {
        chown(dir.path(), Some(ALICE), Some(ALICE)).unwrap();
    }
    let mut command = procstar(&dir);
    command.arg("--serve").env("PROCSTAR_HTTP_PORT", "0").envs(more.iter().copied());
    command.env("PROCSTAR_HTTP_TOKEN", TOKEN).env("PROCSTAR_AGENT_TOKEN", TOKEN);
    command.env("PROCSTAR_AGENT_KEY", TOKEN).stderr(Stdio::null());
    Instance::start(dir, {
        as_alice(&mut command);
        command
    })
}

fn run(instance: &Instance, args: &[&str]) -> Ran {
    Ran::of(as_alice(&mut instance.command(args)).output().unwrap())
}

/// Keeper and worker.
fn both(instance: &Instance) -> [i32; 2] {
    let top = run(instance, &["top", "-o", "json"]).json();
    let worker = i32::try_from(top["agent"]["worker_pid"].as_i64().unwrap()).unwrap();
    [instance.pid().cast_signed(), worker]
}

/// A job tries to read the environment, memory and descriptors of its parent, keeper and worker.
#[test]
fn a_job_of_the_same_user_does_not_read_the_tokens() {
    let instance = instance(&[]);
    let [keeper, worker] = both(&instance);
    let script = format!(
        "for p in $PPID {keeper} {worker}; do cat /proc/$p/environ /proc/$p/maps; ls /proc/$p/fd; \
         dd if=/proc/$p/mem bs=1 count=1; done 2>&1; echo own; tr '\\0' '\\n' < /proc/self/environ; \
         cat /proc/self/oom_score_adj"
    );
    run(&instance, &["start", "--id", "spy", "--", "/bin/sh", "-c", &script]).good();
    run(&instance, &["wait", "spy"]);
    let found = run(&instance, &["logs", "spy"]).good();
    let (of_others, own) = found.split_once("\nown\n").unwrap();
    assert!(!found.contains("0123456789abcdef"), "{found}");
    assert!(!of_others.contains("PROCSTAR") && !of_others.contains("socket"), "{of_others}");
    assert_eq!(of_others.matches("/environ: Permission denied").count(), 3, "{of_others}");
    assert!(own.contains("PATH=") && own.ends_with("0\n"), "what it executes is its own: {own}");
}

/// Every process of ours, and the processes that it makes.
#[test]
fn keeper_and_worker_are_not_dumpable_but_jobs_are() {
    let instance = instance(&[]);
    let spec = json!({
        "zipped": {"argv": ["/bin/sh", "-c", "echo x; exec sleep 1000"],
                   "fds": [["stdout", {"capture": {"compress": "zstd"}}]]},
        // Cloned by a clone helper.
        "tied": {"argv": ["/bin/sleep", "1000"], "pdeath_signal": "SIGKILL"},
    });
    let file = instance.dir.path().join("spec.json");
    std::fs::write(&file, json!({ "specs": spec }).to_string()).unwrap();
    run(&instance, &["start", file.to_str().unwrap()]).good();
    let pid = |id: &str| {
        let shown = run(&instance, &["ps", "-o", "json"]).json();
        i32::try_from(shown[id]["pid"].as_i64().unwrap()).unwrap()
    };
    let jobs: BTreeSet<i32> = ["zipped", "tied"].map(pid).into();
    assert_eq!(jobs.len(), 2);
    let keeper = instance.pid().cast_signed();
    let children = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children"));
    let tasks = std::fs::read_dir(format!("/proc/{keeper}/task")).unwrap().flatten();
    let mut ours: Vec<i32> = Vec::new();
    for list in tasks.filter_map(|task| children(task).ok()) {
        ours.extend(list.split_whitespace().map(|pid| pid.parse::<i32>().unwrap()));
    }
    ours.retain(|pid| !jobs.contains(pid));
    ours.push(keeper);
    // The keeper, the worker, a capture writer, a clone helper.
    assert!(ours.len() >= 4, "{ours:?}");
    let owner = |pid: i32| std::fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid();
    let user = std::fs::metadata(format!("/proc/{keeper}")).unwrap().uid();
    for pid in ours {
        // The kernel makes root the owner of the /proc files of a process that is not dumpable.
        eventually("a process that is not dumpable", || owner(pid) == 0);
    }
    for pid in jobs {
        eventually("a dumpable job", || owner(pid) == user);
    }
}

/// Not even root finds a token in an environment, but each later worker and keeper still has it.
#[test]
fn tokens_reach_every_worker_and_successor_outside_of_the_environment() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let settings = [("PROCSTAR_HTTP_REQUIRE_TOKEN", "true"), ("PROCSTAR_HTTP_PORT", &port)];
    let instance = instance(&settings);
    let check = || {
        for pid in both(&instance) {
            let environ = std::fs::read(format!("/proc/{pid}/environ"));
            if nix::unistd::geteuid().is_root() {
                let environ = String::from_utf8_lossy(&environ.unwrap()).into_owned();
                assert!(environ.contains("PROCSTAR_HTTP_REQUIRE_TOKEN"), "{environ}");
                assert!(!environ.contains("0123456789abcdef"), "{environ}");
            }
        }
    };
    let asks = |token: &str| {
        let url = format!("http://127.0.0.1:{port}");
        let mut command = instance.command(&["ps", "--url", &url]);
        as_alice(command.env("PROCSTAR_HTTP_TOKEN", token)).output().unwrap().status.code()
    };
    check();
    assert_eq!((asks(TOKEN), asks(OTHER)), (Some(0), Some(1)));
    let [_, worker] = both(&instance);
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    eventually("another worker", || both(&instance)[1] != worker);
    check();
    assert_eq!((asks(TOKEN), asks(OTHER)), (Some(0), Some(1)));
    run(&instance, &["upgrade", &instance.pid().to_string()]).good();
    check();
    assert_eq!((asks(TOKEN), asks(OTHER)), (Some(0), Some(1)));
}

/// What a process asks for that is written to a file of `/proc` in its set-up.
#[test]
fn a_score_for_the_oom_killer_can_be_set_without_privileges() {
    let instance = instance(&[]);
    let process = json!({"argv": ["/bin/cat", "/proc/self/oom_score_adj"], "oom_score_adj": 321,
        "fds": [["stdout", {"capture": {"mode": "memory"}}]]});
    let specs: serde_json::Map<_, _> =
        (0..20).map(|n| (format!("p{n}"), process.clone())).collect();
    let file = instance.dir.path().join("spec.json");
    std::fs::write(&file, json!({ "specs": specs }).to_string()).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    run(&instance, &["start", file.to_str().unwrap()]).good();
    for n in 0..20 {
        let id = format!("p{n}");
        assert_eq!(run(&instance, &["wait", &id]).code, Some(0));
        assert_eq!(run(&instance, &["logs", &id]).good(), "321\n");
    }
}

#[test]
fn the_variable_of_the_secrets_cannot_be_set_by_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = procstar(&dir);
    let output = command.env("PROCSTAR_KEEPER_SECRETS", "0").arg("ps").output().unwrap();
    let ran = Ran::of(output);
    assert_eq!(ran.code, Some(2));
    let wanted = "procstar: PROCSTAR_KEEPER_SECRETS is reserved for procstar itself; unset it\n";
    assert_eq!(ran.err, wanted);
}
