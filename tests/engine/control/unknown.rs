//! Daemons that escape from a stop, a timeout or a shutdown, because the engine cannot attribute
//! them while several processes run: it reports the survivors as unknown, not as none.

use procstar::engine::Survivors;

use super::*;
use crate::support::wait::eventually;

/// A script that leaves a daemon in its own session by a double fork, writes the daemon's pid, and
/// continues.
const DAEMON: &str = "(setsid bash -c 'echo $$; exec sleep 600 >/dev/null' &); exec sleep 600";

fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
}

/// The clock of `starttime`, which has 100 ticks a second on every Linux.
fn ticks_since_boot() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap();
    std::time::Duration::from(now).as_millis() as u64 / 10
}

#[test]
fn survivors_of_a_stop_are_unknown_if_a_daemon_may_have_escaped() {
    become_subreaper().unwrap();
    for (id, keys) in
        [("stop", json!({})), ("timeout", json!({"timeout": 0.5})), ("shutdown", json!({}))]
    {
        let mut harness = EngineHarness::new(options());
        harness.launch(json!({"other": with("echo $$; exec sleep 600", json!({}))}));
        pids(&mut harness, "other", 1);
        harness.launch(json!({ id: with(DAEMON, keys) }));
        let daemon = pids(&mut harness, id, 1)[0];
        let ours = std::process::id() as i32;
        eventually("the daemon", || {
            ProcFs::default().read_stat(daemon).is_ok_and(|stat| stat.ppid == ours)
        });
        if id != "timeout" {
            let order = StopOrder { shutdown: id == "shutdown", ..within(0.1) };
            stop(&mut harness, id, order, 1).unwrap();
        }
        assert_eq!(harness.end(id).survivors, Survivors::unknown(), "{id}");
        // As long as the daemon lives, the survivors of the other process are unknown too.
        stop(&mut harness, "other", within(0.1), 2).unwrap();
        assert_eq!(harness.end("other").survivors, Survivors::unknown(), "{id}");
        assert!(is_running(daemon));
        // A process that starts in a later tick than the daemon cannot be its origin.
        let made = ProcFs::default().read_stat(daemon).unwrap().starttime;
        eventually("the next tick", || ticks_since_boot() > made);
        harness.launch(json!({"later": with("true", json!({}))}));
        assert_eq!(harness.end("later").survivors, Survivors::default(), "{id}");
        kill(daemon);
    }
}

#[test]
fn known_survivors_are_listed_even_if_others_may_exist() {
    become_subreaper().unwrap();
    let mut harness = EngineHarness::new(options());
    harness.launch(json!({"other": with("echo $$; exec sleep 600", json!({}))}));
    pids(&mut harness, "other", 1);
    // One survivor in its group, and a daemon.
    let script = "sleep 600 >/dev/null & echo $!; \
        (setsid bash -c 'echo $$; exec sleep 600 >/dev/null' &); exec sleep 600";
    harness.launch(json!({"a": with(script, json!({}))}));
    let [member, daemon] = pids(&mut harness, "a", 2)[..] else { panic!() };
    let ours = std::process::id() as i32;
    eventually("the daemon", || {
        ProcFs::default().read_stat(daemon).is_ok_and(|stat| stat.ppid == ours)
    });
    kill(harness.pid("a"));
    let Survivors { listed, unknown, .. } = &harness.end("a").survivors;
    assert_eq!(listed.iter().map(|survivor| survivor.pid).collect::<Vec<_>>(), [member]);
    assert!(unknown);
    [member, daemon, harness.pid("other")].into_iter().for_each(kill);
}

/// Orphans then get another parent.
#[test]
fn survivors_are_unknown_if_the_engine_is_no_subreaper() {
    let (ended, _harness) = run(with("true", json!({})));
    assert_eq!(ended.survivors, Survivors::unknown());
}
