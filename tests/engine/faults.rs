//! Every system call of a start fails once, in turn: only that one process gets an error, and
//! nothing remains of it.

use std::collections::{BTreeMap, HashSet};

use crate::support::engine::*;
use crate::support::wait::{DEADLINE, eventually};
use procstar::engine::failpoints::{self, Call, calls};
use procstar::engine::{Allowlist, Ended, EngineOptions, Restriction, Stage, StartFailure};
use procstar::spec::{Attribute, Resource};
use serde_json::{Value, json};

/// A process that needs every call. As root it changes to another user, otherwise to its own.
fn everything(dir: &str) -> Value {
    let capture = |mode| json!({"capture": {"mode": mode, "encoding": "utf-8"}});
    let root = nix::unistd::geteuid().is_root();
    let (user, group, groups) = if root { (54321, 54322, vec![54323]) } else { skipped() };
    json!({
        "argv": ["/bin/true"],
        "env": {"vars": {"FROM_FILE": {"file": format!("{dir}/value")}}},
        "cwd": dir,
        "umask": "0027",
        "user": user,
        "group": group,
        "groups": groups,
        "rlimits": {"core": 0, "nofile": 100},
        "nice": 1,
        "oom_score_adj": 900,
        "cpu_affinity": [0, 1, 2, 3],
        "io_priority": {"class": "idle"},
        "pdeath_signal": "KILL",
        "signals": {"ignore": ["USR1"], "block": ["USR2"]},
        "sandbox": {"no_new_privs": true, "hidden_paths": ["/var/tmp"], "network": "loopback"},
        "fds": [
            ["stdin", {"data": {"text": "in"}}],
            ["stdout", capture("memory")],
            ["stderr", capture("tempfile")],
            ["7", {"file": {"path": "/dev/null"}}],
            ["8", {"dup": {"fd": 7}}],
        ],
    })
}

fn skipped() -> (u32, u32, Vec<u32>) {
    eprintln!("NOT TESTED: the change of user, groups and group needs root");
    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw(), vec![])
}

/// The possible stages of a call's failure.
fn stages(call: Call) -> Vec<Stage> {
    let fds = |numbers: &[i32]| numbers.iter().map(|fd| Stage::Fd(*fd)).collect();
    match call {
        Call::CaptureFile => fds(&[1, 2]),
        Call::Pipe | Call::Nonblocking | Call::Watch => fds(&[1]),
        Call::DataFile | Call::DataWrite | Call::DataOpen => fds(&[0]),
        Call::EnvFile => vec![Stage::Env],
        Call::Account => vec![
            Stage::Attribute(Attribute::User),
            Stage::Attribute(Attribute::Group),
            Stage::Attribute(Attribute::Groups),
        ],
        Call::OpenExe => vec![Stage::NotAllowed],
        Call::CloneHelper | Call::Clone => vec![Stage::Fork],
        Call::Session => vec![Stage::Session],
        Call::Limit => vec![Stage::Limits(Resource::Core), Stage::Limits(Resource::Nofile)],
        Call::OomWrite => vec![Stage::Attribute(Attribute::OomScoreAdj)],
        Call::Bounding => vec![Stage::Attribute(Attribute::Capabilities)],
        Call::Attribute(attribute) => vec![Stage::Attribute(attribute)],
        // The last source that is moved is the executable's.
        Call::MoveSource => [fds(&[0, 1, 2]), vec![Stage::Exec { missing: false }]].concat(),
        Call::Open => fds(&[7]),
        Call::Place => fds(&[0, 1, 2, 7, 8]),
        Call::Exec => vec![Stage::Exec { missing: false }],
    }
}

/// The failure of a call: the only one, except for the fd that duplicates the failed one.
fn only_failure(call: Call, ended: &Ended) -> &StartFailure {
    match ended.failures.as_slice() {
        [failure] => failure,
        [failure, StartFailure { stage: Stage::Fd(8), errno: libc::EBADF, .. }]
            if failure.stage == Stage::Fd(7) =>
        {
            failure
        }
        failures => panic!("{call:?}: {failures:?}"),
    }
}

fn children() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .map(|children| children.split_whitespace().count())
        .sum()
}

fn files(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Launches a process, and waits for its end and its cleanup.
fn launch(harness: &mut EngineHarness, id: &str, proc: &Value) -> Ended {
    harness.launch(json!({ id: proc }));
    harness.end(id);
    harness.engine.forget(id.into());
    // Ends the clone helpers, so that each start makes a new one.
    drop(harness.engine.quiesce(DEADLINE).unwrap());
    harness.ended.remove(id).unwrap()
}

/// Fails every call in turn with `errno`; returns the number of failures of each.
fn fail_each(
    options: EngineOptions,
    proc: &Value,
    captures: &std::path::Path,
    errno: i32,
) -> BTreeMap<String, usize> {
    procstar::engine::become_subreaper().unwrap();
    let mut harness = EngineHarness::new(options);
    let good = launch(&mut harness, "first", proc);
    assert!(good.failures.is_empty(), "{:?}", good.failures);
    eventually("the end of what the first one needed", || files(captures).is_empty());
    let (fds, mut hits) = (open_fds(), BTreeMap::new());
    for passing in 0.. {
        failpoints::arm(passing, errno);
        let ended = launch(&mut harness, &format!("failing {passing}"), proc);
        let Some(call) = failpoints::disarm() else {
            // The start has fewer calls: all have failed once.
            assert!(ended.failures.is_empty(), "{:?}", ended.failures);
            break;
        };
        *hits.entry(format!("{call:?}")).or_default() += 1;
        let failure = only_failure(call, &ended);
        assert!(stages(call).contains(&failure.stage), "{call:?}: {failure:?}");
        assert_eq!(failure.errno, if call == Call::OpenExe { 0 } else { errno }, "{call:?}");
        assert!(!harness.started.contains_key(&format!("failing {passing}")), "{call:?}");
        // Nothing remains, and the next process runs.
        let next = launch(&mut harness, &format!("next {passing}"), proc);
        assert!(next.failures.is_empty() && next.status == 0, "{call:?}: {:?}", next.failures);
        eventually("as many descriptors as before", || open_fds() == fds);
        eventually("no child is left", || children() == 0);
        eventually("no file is left", || files(captures).is_empty());
    }
    hits
}

/// The engine's options, with the captures in a directory that the test inspects.
fn options_in(dir: &tempfile::TempDir) -> (EngineOptions, std::path::PathBuf) {
    let captures = dir.path().join("captures");
    std::fs::create_dir(&captures).unwrap();
    std::fs::write(dir.path().join("value"), "x").unwrap();
    // The user of the process needs access, too.
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let capture_dirs =
        procstar::engine::CaptureDirs { files: captures.clone(), memory: captures.clone() };
    let executables = Allowlist::new(vec!["/bin/*".into(), "/usr/bin/*".into()]).unwrap();
    let restriction = Restriction::new(executables).allow_directories(vec![dir.path().into()]);
    let restriction = Some(restriction.into());
    // On a busy machine, the setup of a failing process may be so slow that the engine reports a
    // start.
    (EngineOptions { capture_dirs, restriction, setup_timeout: DEADLINE, ..options() }, captures)
}

/// A kernel without keyrings, or whose seccomp filter refuses them, cannot read a key either: no
/// harm comes from ENOSYS and EPERM.
#[test]
fn a_refused_keyring_is_an_error_only_for_edquot() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("NOT TESTED: only root can become another user");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (options, _) = options_in(&dir);
    let mut harness = EngineHarness::new(options);
    let proc = json!({"argv": ["/bin/true"], "user": 54321, "group": 54322});
    for errno in [libc::ENOSYS, libc::EPERM, libc::EDQUOT] {
        for passing in 0.. {
            failpoints::arm(passing, errno);
            let ended = launch(&mut harness, &format!("{errno} {passing}"), &proc);
            let hit = failpoints::disarm();
            assert!(hit.is_some(), "the keyring was never joined");
            if hit == Some(Call::Attribute(Attribute::Keyring)) {
                let failures: Vec<_> = ended.failures.iter().map(ToString::to_string).collect();
                let full = "failed to set keyring: the program's user has as many keys as it may: raise \
                            kernel.keys.maxkeys and kernel.keys.maxbytes (root_maxkeys and root_maxbytes for root)";
                let expected: &[&str] = if errno == libc::EDQUOT { &[full] } else { &[] };
                assert_eq!(failures, expected);
                break;
            }
        }
    }
}

#[test]
fn every_call_fails_once() {
    let dir = tempfile::tempdir().unwrap();
    let (options, captures) = options_in(&dir);
    let proc = everything(dir.path().to_str().unwrap());
    let mut seen = HashSet::new();
    seen.extend(fail_each(options, &proc, &captures, libc::ENOMEM).into_keys());
    for call in calls().map(|call| format!("{call:?}")) {
        let unprivileged = ["Groups", "Group", "User", "Bounding", "Keyring", "Capabilities"]
            .contains(&call.as_str())
            && !nix::unistd::geteuid().is_root();
        assert!(seen.contains(&call) || unprivileged, "{call} was not failed");
    }
}
