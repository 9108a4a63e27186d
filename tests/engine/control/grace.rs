//! The stop signal and the grace period of a whole tree, also if its leader ends first or its
//! processes are paused by SIGSTOP.

use super::*;
use crate::support::wait::{DEADLINE, eventually};
use procstar::engine::ProcessCommand;

/// A part of a script that runs a loop, and continues for a while after the signal.
fn saves(name: &str) -> String {
    format!("trap 'sleep 0.2; echo {name} saved; exit' TERM; echo $$; while :; do sleep 0.05; done")
}

/// The sorted lines of output that are not numbers.
fn text_lines(ended: &procstar::engine::Ended) -> Vec<String> {
    let text = String::from_utf8(output(&ended.captures, "stdout")).unwrap();
    let lines = text.lines().filter(|line| line.parse::<i32>().is_err());
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    lines.sort();
    lines
}

fn state(pid: i32) -> char {
    ProcFs::default().read_stat(pid).map_or('X', |stat| stat.state)
}

fn send(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

#[test]
fn descendants_get_the_signal_and_the_grace_if_the_leader_ends_first() {
    become_subreaper().unwrap();
    // The shell, which has no trap, ends at once.
    let script = format!("(exec bash -c \"{}\"); true", saves("child").replace('$', "\\$"));
    for (id, keys) in [
        ("timeout", json!({"timeout": 1, "stop": {"grace": 600}})),
        ("stop", json!({"stop": {"grace": 600}})),
        ("shutdown", json!({})),
    ] {
        let mut harness = EngineHarness::new(options());
        harness.launch(json!({ id: with(&script, keys) }));
        let members = pids(&mut harness, id, 1);
        if id != "timeout" {
            let order = StopOrder { shutdown: id == "shutdown", ..StopOrder::default() };
            stop(&mut harness, id, order, 1).unwrap();
        }
        let ended = harness.end(id);
        assert_eq!(ended.status, libc::SIGTERM, "{id}");
        assert_eq!(text_lines(ended), ["child saved"], "{id}");
        assert!(ended.cut_short.is_empty() && ended.survivors.listed.is_empty(), "{id}");
        assert!(!is_running(members[0]));
    }
}

#[test]
fn every_group_and_session_of_the_tree_gets_the_signal() {
    become_subreaper().unwrap();
    // One process is in its own session below the shell, and one is an orphan when the signal
    // comes. Children of their traps do not get the signal.
    let script = format!(
        "setsid bash -c \"{}\" & (setsid bash -c \"{}\" &); trap '' TERM; wait; wait",
        saves("session").replace('$', "\\$"),
        saves("orphan").replace('$', "\\$"),
    );
    let mut harness = EngineHarness::new(options());
    harness.launch(json!({"a": with(&script, json!({"stop": {"grace": 600}}))}));
    pids(&mut harness, "a", 2);
    stop(&mut harness, "a", StopOrder::default(), 1).unwrap();
    assert_eq!(text_lines(harness.end("a")), ["orphan saved", "session saved"]);
}

#[test]
fn descendants_are_killed_after_the_grace() {
    become_subreaper().unwrap();
    let script = "(trap '' TERM; sleep 600 & echo $!; exec sleep 600) & echo $!; wait";
    let mut harness = EngineHarness::new(options());
    harness.launch(json!({"a": with(script, json!({"stop": {"grace": 0.5}}))}));
    let members = pids(&mut harness, "a", 2);
    let asked = Instant::now();
    stop(&mut harness, "a", StopOrder::default(), 1).unwrap();
    let ended = harness.end("a");
    assert!(asked.elapsed() >= Duration::from_millis(500));
    assert_eq!((ended.status, ended.cause), (libc::SIGTERM, Some(StopCause::Stopped)));
    // All members, and so all holders of the capture, are gone before the end is reported.
    assert!(ended.survivors.listed.is_empty() && ended.cut_short.is_empty());
    assert!(members.into_iter().all(|pid| !is_running(pid)));
}

/// During the grace of the descendants, a stop can shorten it, and a signal fails with ESRCH.
#[test]
fn a_second_stop_reaches_the_descendants_of_an_exited_leader() {
    become_subreaper().unwrap();
    let script = "(trap '' TERM; sleep 600 & echo $!; exec sleep 600) & echo $!; wait";
    let kill = StopOrder { signum: Some(libc::SIGKILL), ..StopOrder::default() };
    let asked = StopOrder { signum: Some(libc::SIGUSR1), ..StopOrder::default() };
    for second in [kill, within(0.1), asked] {
        let mut harness = EngineHarness::new(options());
        harness.launch(json!({"a": with(script, json!({}))}));
        let members = pids(&mut harness, "a", 2);
        let leader = harness.pid("a");
        stop(&mut harness, "a", within(600.0), 1).unwrap();
        eventually("the leader's end", || !is_running(leader));
        stop(&mut harness, "a", second, 2).unwrap();
        let ended = harness.end("a");
        assert_eq!((ended.status, ended.cause), (libc::SIGTERM, Some(StopCause::Stopped)));
        assert!(members.into_iter().all(|pid| !is_running(pid)), "{second:?}");
    }
}

#[test]
fn a_shutdown_kills_the_whole_tree() {
    become_subreaper().unwrap();
    let mut harness = EngineHarness::new(options());
    let script = "sleep 600 & echo $!; setsid sleep 600 & echo $!; wait";
    harness.launch(
        json!({"plain": with(script, json!({})), "own": with(script, json!({"stop": {}}))}),
    );
    let (plain, own) = (pids(&mut harness, "plain", 2), pids(&mut harness, "own", 2));
    let order = StopOrder { shutdown: true, ..StopOrder::default() };
    stop(&mut harness, "plain", order, 1).unwrap();
    stop(&mut harness, "own", order, 2).unwrap();
    for id in ["own", "plain"] {
        let ended = harness.end(id);
        assert_eq!((ended.status, ended.cause), (libc::SIGTERM, Some(StopCause::Stopped)));
        assert_eq!(ended.survivors.listed, []);
    }
    assert!(plain.into_iter().chain(own).all(|pid| !is_running(pid)));
}

#[test]
fn processes_paused_by_sigstop_act_on_the_stop_signal() {
    become_subreaper().unwrap();
    let script = "trap 'echo leader asked; exit 7' TERM
        (trap 'echo child asked; exit' TERM; echo $BASHPID; while :; do sleep 0.05; done) &
        echo $$; while :; do wait; done";
    for (id, keys) in
        [("stop", json!({})), ("timeout", json!({"timeout": 2, "stop": {"grace": 600}}))]
    {
        let mut harness = EngineHarness::new(options());
        harness.launch(json!({ id: with(script, keys) }));
        let members = pids(&mut harness, id, 2);
        for pid in &members {
            send(*pid, nix::sys::signal::SIGSTOP);
            eventually("the stop", || state(*pid) == 'T');
        }
        if id == "stop" {
            stop(&mut harness, id, within(600.0), 1).unwrap();
        }
        let ended = harness.end(id);
        assert_eq!(ended.status, 7 << 8, "{id}");
        assert_eq!(text_lines(ended), ["child asked", "leader asked"], "{id}");
    }
}

#[test]
fn a_plain_signal_leaves_a_stopped_process_stopped() {
    let mut harness = EngineHarness::new(options());
    harness.launch(json!({"a": with("echo $$; exec sleep 600", json!({}))}));
    let leader = pids(&mut harness, "a", 1)[0];
    for (ticket, signum) in [(1, libc::SIGSTOP), (2, libc::SIGTERM)] {
        harness.engine.command("a".into(), ProcessCommand::Signal(signum), ticket);
        harness.until("the signal", |harness| harness.signaled.contains_key(&ticket));
        eventually("the stop", || state(leader) == 'T');
    }
    harness.engine.command("a".into(), ProcessCommand::Signal(libc::SIGCONT), 3);
    assert_eq!(harness.end("a").status, libc::SIGTERM);
}

#[test]
fn a_stop_with_sigstop_is_not_followed_by_sigcont() {
    let mut harness = EngineHarness::new(options());
    harness.launch(json!({"a": with("echo $$; sleep 600", json!({}))}));
    let leader = pids(&mut harness, "a", 1)[0];
    let order = StopOrder { signum: Some(libc::SIGSTOP), ..within(600.0) };
    stop(&mut harness, "a", order, 1).unwrap();
    eventually("the stop", || state(leader) == 'T');
    let kill = StopOrder { signum: Some(libc::SIGKILL), ..StopOrder::default() };
    stop(&mut harness, "a", kill, 2).unwrap();
    assert_eq!(harness.end("a").status, libc::SIGKILL);
}

/// After the upgrade, the leader's descendants have only the rest of their grace.
#[test]
fn the_grace_of_the_descendants_crosses_an_upgrade() {
    become_subreaper().unwrap();
    let mut harness = EngineHarness::new(options());
    let rest = "(trap '' TERM; echo $BASHPID; exec sleep 600) & wait";
    // Long enough for the upgrade to precede the exit, even on a busy machine.
    let saves = saves("child").replace("sleep 0.2", "sleep 2").replace('$', "\\$");
    let script = format!("(exec bash -c \"{saves}\"); true");
    harness.launch(json!({"deaf": with(rest, json!({})), "saves": with(&script, json!({}))}));
    let deaf = pids(&mut harness, "deaf", 1)[0];
    pids(&mut harness, "saves", 1);
    let leaders = [harness.pid("deaf"), harness.pid("saves")];
    stop(&mut harness, "deaf", within(1.0), 1).unwrap();
    stop(&mut harness, "saves", within(600.0), 2).unwrap();
    eventually("the leaders' ends", || leaders.iter().all(|pid| !is_running(*pid)));
    harness.settle();
    let (_next, events) = harness.successor();
    let mut ended = std::collections::BTreeMap::new();
    while ended.len() < 2 {
        if let procstar::engine::Event::Ended(end) = events.recv_timeout(DEADLINE).unwrap() {
            assert_eq!((end.status, end.cause), (libc::SIGTERM, Some(StopCause::Stopped)));
            ended.insert(end.id.to_string(), text_lines(&end));
        }
    }
    assert_eq!(ended["deaf"], Vec::<String>::new());
    assert_eq!(ended["saves"], ["child saved"]);
    assert!(!is_running(deaf));
}
