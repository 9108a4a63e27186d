//! Stopping processes with all their descendants, and survivors of an ordinary end.
//!
//! Orphans become children of the process that runs the engine: each test needs its own, as nextest
//! provides.

mod grace;
mod unknown;

use crate::support::engine::*;
use crate::support::process::is_running;
use crate::support::wait::{DEADLINE, eventually};
use procstar::engine::{
    Engine, ProcessCommand, Relation, Stage, StopCause, StopOrder, become_subreaper,
};
use procstar::procfs::ProcFs;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A shell script with these further keys in its spec; its output is captured.
fn with(script: &str, keys: Value) -> Value {
    let mut proc = sh(script, json!([["stdin", {"null": {}}], ["stdout", {"capture": {}}]]));
    proc.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    proc
}

/// Waits for `count` numbers in the output of a process, and returns them.
fn pids(harness: &mut EngineHarness, id: &str, count: usize) -> Vec<i32> {
    harness.pid(id);
    let captures = harness.started[id].captures.clone();
    let read = || -> Vec<i32> {
        let text = String::from_utf8(output(&captures, "stdout")).unwrap();
        text.split_inclusive('\n').filter_map(|l| l.strip_suffix('\n')?.parse().ok()).collect()
    };
    eventually("pids", || read().len() >= count);
    read()
}

fn within(seconds: f64) -> StopOrder {
    StopOrder { grace: Some(Duration::from_secs_f64(seconds)), ..StopOrder::default() }
}

fn stop(
    harness: &mut EngineHarness,
    id: &str,
    order: StopOrder,
    ticket: u64,
) -> std::io::Result<()> {
    harness.engine.command(id.into(), ProcessCommand::Stop(order), ticket);
    harness.until("the outcome", |harness| harness.signaled.contains_key(&ticket));
    harness.signaled.remove(&ticket).unwrap()
}

#[test]
fn a_timeout_sends_sigterm_and_the_process_ends() {
    let (ended, _harness) = run(with("sleep 600", json!({"timeout": 0.05})));
    assert_eq!((ended.status, ended.cause), (libc::SIGTERM, Some(StopCause::Timeout)));
    assert!(ended.stop.seconds_since(ended.start) >= 0.05);
    assert!(ended.survivors.listed.is_empty());
    // A process that ends before was not stopped.
    let (ended, _harness) = run(with("exit 3", json!({"timeout": 600})));
    assert_eq!((ended.status, ended.cause), (3 << 8, None));
}

#[test]
fn a_stop_sends_the_signal_of_the_spec() {
    let script = "trap 'echo asked; exit 4' USR2; echo ready; while :; do sleep 0.01; done";
    let mut harness = EngineHarness::new(options());
    harness.launch(json!({"a": with(script, json!({"stop": {"signal": "USR2", "grace": 600}}))}));
    harness.pid("a");
    let captures = harness.started["a"].captures.clone();
    eventually("the trap", || output(&captures, "stdout") == b"ready\n");
    stop(&mut harness, "a", StopOrder::default(), 1).unwrap();
    let ended = harness.end("a");
    assert_eq!((ended.status, ended.cause), (4 << 8, Some(StopCause::Stopped)));
    assert_eq!(output(&ended.captures, "stdout"), b"ready\nasked\n");
    let error = stop(&mut harness, "a", StopOrder::default(), 2).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
    let error = stop(&mut harness, "stranger", StopOrder::default(), 3).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
}

#[test]
fn the_whole_tree_is_killed_when_the_grace_is_over() {
    become_subreaper().unwrap();
    // All ignore SIGTERM; one is in its own session, with children; one is an orphan already.
    let script = "trap '' TERM
        setsid bash -c 'echo $$; sleep 600 & echo $!; wait' &
        (sleep 600 & echo $!)
        echo $$; wait";
    let mut harness = EngineHarness::new(options());
    harness.launch(json!({"a": with(script, json!({"stop": {"grace": 0.1}})), "b": with("echo $$; read x < /dev/zero; sleep 600", json!({}))}));
    let members = pids(&mut harness, "a", 4);
    let other = pids(&mut harness, "b", 1);
    stop(&mut harness, "a", StopOrder::default(), 1).unwrap();
    let ended = harness.end("a");
    assert_eq!((ended.status, ended.cause), (libc::SIGKILL, Some(StopCause::Stopped)));
    assert!(ended.survivors.listed.is_empty() && ended.cut_short.is_empty());
    for pid in members {
        assert!(!is_running(pid), "{pid}");
    }
    assert!(is_running(other[0]));
    stop(&mut harness, "b", StopOrder { signum: Some(libc::SIGKILL), ..within(600.0) }, 2).unwrap();
    assert_eq!(harness.end("b").status, libc::SIGKILL);
}

/// A stop ends a set-up that blocks in the child, and a waiting process as soon as it starts.
#[test]
fn a_stop_ends_a_process_in_setup() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let held = json!({"argv": ["/bin/true"], "fds": [["stdin", {"file": {"path": fifo}}]]});
    let mut timed = held.clone();
    timed["timeout"] = json!(0.02);
    let mut harness = EngineHarness::new(options());
    harness.launch(json!({"timed": timed, "stopped": held.clone(), "killed": held}));
    let kill = StopOrder { signum: Some(libc::SIGKILL), ..StopOrder::default() };
    stop(&mut harness, "stopped", within(600.0), 1).unwrap();
    stop(&mut harness, "killed", kill, 2).unwrap();
    for (id, cause) in [
        ("timed", StopCause::Timeout),
        ("stopped", StopCause::Stopped),
        ("killed", StopCause::Stopped),
    ] {
        let ended = harness.end(id);
        assert_eq!(ended.cause, Some(cause), "{id}");
        assert!(ended.failures[0].to_string().starts_with("the set-up was ended"), "{id}");
    }
}

/// A stop continues in the program that restores the process.
#[test]
fn a_stop_and_a_timeout_cross_an_upgrade() {
    let mut harness = EngineHarness::new(options());
    let deaf = "trap '' TERM; echo $$; while :; do sleep 0.01; done";
    harness.launch(json!({
        "stopped": with(deaf, json!({})),
        "timed": with(deaf, json!({"timeout": 0.5, "stop": {"grace": 0.1}})),
    }));
    pids(&mut harness, "stopped", 1);
    pids(&mut harness, "timed", 1);
    stop(&mut harness, "stopped", within(0.3), 1).unwrap();
    let (_next, events) = harness.successor();
    let mut causes = std::collections::BTreeMap::new();
    while causes.len() < 2 {
        if let procstar::engine::Event::Ended(ended) = events.recv_timeout(DEADLINE).unwrap() {
            assert_eq!(ended.status, libc::SIGKILL);
            causes.insert(ended.id.to_string(), ended.cause);
        }
    }
    assert_eq!(causes["stopped"], Some(StopCause::Stopped));
    assert_eq!(causes["timed"], Some(StopCause::Timeout));
}

/// An adopted process still has its deadline.
#[test]
fn a_timeout_counts_for_an_adopted_process() {
    let mut harness = EngineHarness::new(options());
    harness.launch(json!({"a": with("sleep 600", json!({"timeout": 1}))}));
    harness.pid("a");
    let started = harness.started["a"].clone();
    // The first engine continues in this test; only the second one knows the deadline.
    let (tx, events) = std::sync::mpsc::channel();
    let next = Engine::start(harness.options(), move |event| drop(tx.send(event))).unwrap();
    let mut adopted: procstar::engine::Started =
        rmp_serde::from_slice(&rmp_serde::to_vec(&started).unwrap()).unwrap();
    adopted.policy.deadline = Some(1);
    next.adopt(adopted, None);
    match events.recv_timeout(DEADLINE).unwrap() {
        procstar::engine::Event::Ended(ended) => {
            assert_eq!(ended.cause, Some(StopCause::Timeout));
        }
        _ => panic!("its end"),
    }
}

#[test]
fn survivors_are_listed_with_their_relation_to_the_process() {
    become_subreaper().unwrap();
    let mut harness = EngineHarness::new(options());
    let table = [
        // First, because later processes have several possible origins.
        ("daemon", "setsid sleep 600 & echo $!; sleep 0.1", vec![Relation::Inferred]),
        ("none", "true", vec![]),
        ("holds", "sleep 600 & echo $!", vec![Relation::Group]),
        (
            "below",
            "(sleep 600 & echo $!; wait) & echo $!; read x < <(sleep 0.05)",
            vec![Relation::Group, Relation::Descendant],
        ),
        ("group", "set -m; sleep 600 >&2 & echo $!", vec![Relation::Session]),
    ];
    for (id, script, how) in table {
        let mut proc = with(script, json!({}));
        proc["fds"].as_array_mut().unwrap().push(json!(["stderr", {"null": {}}]));
        harness.launch(json!({ id: proc }));
        let listed = harness.end(id).survivors.listed.clone();
        let told: Vec<i32> = {
            let text = String::from_utf8(output(&harness.ended[id].captures, "stdout")).unwrap();
            text.lines().map(|line| line.parse().unwrap()).collect()
        };
        let mut sorted = told.clone();
        sorted.sort_unstable();
        assert_eq!(listed.iter().map(|s| s.pid).collect::<Vec<_>>(), sorted, "{id}");
        let mut kinds: Vec<_> = listed.iter().map(|s| format!("{:?}", s.relation)).collect();
        let mut wanted: Vec<_> = how.iter().map(|how| format!("{how:?}")).collect();
        kinds.sort();
        wanted.sort();
        assert_eq!(kinds, wanted, "{id}");
        assert_eq!(harness.ended[id].cause, None);
        // Survivors of an ordinary end are not killed.
        for pid in told {
            assert!(is_running(pid), "{id}");
            let pid = nix::unistd::Pid::from_raw(pid);
            nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).unwrap();
        }
    }
    // The engine reaps orphans after their end. In a test, the main thread does not block SIGCHLD,
    // so the engine does not notice orphans that are zombies already when it becomes their parent.
    // The end of a process triggers a scan.
    let procfs = ProcFs::default();
    let mut scans = 0;
    eventually("the reaping of the orphans", || {
        scans += 1;
        let id = format!("scan {scans}");
        harness.launch(json!({ id.as_str(): with("true", json!({})) }));
        harness.end(&id);
        procfs.children(std::process::id() as i32).is_empty()
    });
}

/// A process may leave an orphan and end before the engine receives the report of its start. With
/// 150 processes at once, this happens often.
#[test]
fn each_of_many_processes_lists_its_own_survivor() {
    become_subreaper().unwrap();
    let mut harness = EngineHarness::new(options());
    let ids: Vec<String> = (0..150).map(|n| n.to_string()).collect();
    let proc = with("sleep 600 >&- & echo $!", json!({}));
    let specs = ids.iter().map(|id| (id.clone(), proc.clone()));
    harness.launch(Value::Object(specs.collect()));
    let mut told = Vec::new();
    for id in &ids {
        let survivors: Vec<_> = {
            let listed = &harness.end(id).survivors.listed;
            listed.iter().map(|s| (s.pid, format!("{:?}", s.relation))).collect()
        };
        let text = String::from_utf8(output(&harness.ended[id].captures, "stdout")).unwrap();
        let pid: i32 = text.trim().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
        told.push((vec![(pid, "Group".to_owned())], survivors));
    }
    let (wanted, listed): (Vec<_>, Vec<_>) = told.into_iter().unzip();
    assert_eq!(listed, wanted);
}

#[test]
fn many_survivors_are_listed_up_to_a_limit_and_all_are_counted() {
    become_subreaper().unwrap();
    let (ended, _harness) = run(with("for i in {1..80}; do sleep 600 & done; echo $$", json!({})));
    assert_eq!((ended.survivors.listed.len(), ended.survivors.more), (64, 16));
    nix::sys::signal::killpg(
        nix::unistd::Pid::from_raw(ended.pid.unwrap()),
        nix::sys::signal::SIGKILL,
    )
    .unwrap();
}

/// An all-or-nothing request.
fn all_or_nothing(specs: Value) -> procstar::spec::Validated {
    let text = json!({"specs": specs, "all_or_nothing": true}).to_string();
    procstar::spec::from_json(text.as_bytes()).unwrap()
}

#[test]
fn a_failed_start_stops_all_processes_of_an_all_or_nothing_request() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let mut harness = EngineHarness::new(options());
    let mut specs = serde_json::Map::new();
    specs.insert("bad".into(), json!({"argv": ["/nope"]}));
    // More than can be planned before the failure is known, on a busy machine too.
    const COUNT: usize = 600;
    for i in 0..COUNT {
        let script = format!("echo {i} >> {}; exec sleep 600", trace.display());
        specs.insert(format!("later-{i}"), with(&script, json!({})));
    }
    harness.engine.launch(all_or_nothing(Value::Object(specs)));
    assert_eq!(harness.end("bad").failures[0].exit_code(), 127);
    let mut not_started = 0;
    for i in 0..COUNT {
        let ended = harness.end(&format!("later-{i}"));
        match ended.failures.first() {
            Some(failure) if failure.stage == Stage::Sibling => {
                not_started += 1;
                let text = "not started: process \"bad\" of the same request failed";
                assert_eq!((failure.to_string().as_str(), failure.exit_code()), (text, 125));
                assert_eq!((ended.pid, ended.cause), (None, None));
            }
            // Either in its set-up or later.
            _ => assert_eq!(ended.cause, Some(StopCause::Stopped)),
        }
    }
    assert!(not_started > 100, "{not_started}");
    assert!(harness.started.len() + not_started <= COUNT);
    // The IDs are free again, and an all-or-nothing request without a failure starts.
    harness.launch(json!({"next": with("exit 0", json!({}))}));
    harness.engine.launch(all_or_nothing(
        json!({"x": with("exit 1", json!({})), "y": with("exit 2", json!({}))}),
    ));
    assert_eq!(harness.end("x").status, 1 << 8);
    let y = harness.end("y");
    assert_eq!((y.status, y.cause), (2 << 8, None));
}

/// The process fails late, when the others already run.
#[test]
fn a_late_failure_stops_running_processes_with_the_signals_of_their_specs() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut harness = EngineHarness::new(options());
    let late = json!({"argv": ["/nope"], "fds": [["stdin", {"file": {"path": fifo}}]]});
    let own = "trap 'exit 6' USR1; echo $$; while :; do sleep 0.01; done";
    harness.engine.launch(all_or_nothing(json!({
        "late": late,
        "plain": with("echo $$; sleep 600", json!({})),
        "own": with(own, json!({"stop": {"signal": "USR1"}})),
    })));
    pids(&mut harness, "plain", 1);
    pids(&mut harness, "own", 1);
    drop(std::fs::File::create(&fifo).unwrap());
    assert_eq!(harness.end("late").failures[0].exit_code(), 127);
    let plain = harness.end("plain");
    assert_eq!((plain.status, plain.cause), (libc::SIGTERM, Some(StopCause::Stopped)));
    let own = harness.end("own");
    assert_eq!((own.status, own.cause), (6 << 8, Some(StopCause::Stopped)));
}

#[test]
fn without_all_or_nothing_the_other_processes_run_and_pipes_end() {
    let mut harness = EngineHarness::new(options());
    let from = |id: &str| json!({"pipe-read": {"proc_id": id, "fd": "1"}});
    harness.launch(json!({
        "no-writer": {"argv": ["/nope"], "fds": [["1", "pipe-write"]]},
        "reader": {"argv": ["/usr/bin/wc", "-c"], "fds": [["0", from("no-writer")], ["1", {"capture": {}}]]},
        "writer": {"argv": ["/usr/bin/yes"], "fds": [["1", "pipe-write"], ["2", {"null": {}}]]},
        "no-reader": {"argv": ["x"], "exe": "/bin/true", "fds": [["0", from("writer")], ["1", {"file": {"path": "/nowhere/x"}}]]},
    }));
    assert_eq!(output(&harness.end("reader").captures, "stdout"), b"0\n");
    assert_eq!(harness.end("writer").status, libc::SIGPIPE);
    assert_eq!(harness.end("no-writer").failures[0].exit_code(), 127);
    assert_eq!(harness.end("no-reader").failures[0].exit_code(), 125);
}

/// Limits the open files of this process to the present number plus `count`.
fn leave_descriptors(count: u64) {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let resource = nix::sys::resource::Resource::RLIMIT_NOFILE;
    nix::sys::resource::setrlimit(resource, open + count, open + count).unwrap();
}

/// With more processes than descriptors, processes wait for each other; those joined by pipes wait
/// together.
#[test]
fn a_burst_under_a_small_open_file_limit() {
    leave_descriptors(50);
    let mut harness = EngineHarness::new(options());
    let both = json!([["0", {"null": {}}], ["1", {"capture": {"mode": "memory"}}], ["2", {"capture": {"mode": "memory"}}]]);
    let mut specs = serde_json::Map::new();
    for i in 0..100 {
        specs.insert(format!("p{i}"), sh("echo x; echo y >&2", both.clone()));
    }
    // The readers first: each waits for a writer that comes after all of them.
    for i in 0..50 {
        let from = json!({"pipe-read": {"proc_id": format!("w{i}"), "fd": "1"}});
        specs.insert(
            format!("r{i}"),
            json!({"argv": ["/bin/cat"], "fds": [["0", from], ["1", {"capture": {}}]]}),
        );
    }
    for i in 0..50 {
        specs.insert(format!("w{i}"), sh("echo z", json!([["1", "pipe-write"]])));
    }
    harness.launch(Value::Object(specs));
    for (kind, count, wanted) in [("p", 100, "x\n"), ("r", 50, "z\n"), ("w", 50, "")] {
        for i in 0..count {
            let ended = harness.end(&format!("{kind}{i}"));
            let errors: Vec<String> = ended.failures.iter().map(ToString::to_string).collect();
            assert_eq!((ended.status, errors), (0, vec![]), "{kind}{i}");
            if !wanted.is_empty() {
                assert_eq!(text(ended, "stdout"), wanted);
            }
        }
    }
}

/// The process needs more than the whole budget; the next one runs.
#[test]
fn a_process_that_needs_too_many_descriptors_fails() {
    leave_descriptors(50);
    let mut harness = EngineHarness::new(options());
    let fds: Vec<Value> =
        (3..35).map(|fd| json!([fd.to_string(), {"capture": {"mode": "memory"}}])).collect();
    harness.launch(
        json!({"large": {"argv": ["/bin/true"], "fds": fds}, "small": with("exit 5", json!({}))}),
    );
    let ended = harness.end("large");
    assert!(!ended.failures.is_empty());
    for failure in &ended.failures {
        assert!(failure.to_string().ends_with("Too many open files (os error 24)"), "{failure}");
    }
    assert_eq!(harness.end("small").status, 5 << 8);
}
