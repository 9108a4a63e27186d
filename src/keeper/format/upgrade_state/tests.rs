//! The states that older programs hand over.

use super::*;
use crate::keeper::format::{Allowed, Printing};
use std::time::Duration;

use crate::config::LogSettings;
use crate::engine::{Captures, Ended, Started, StopPolicy, Survivors};
use crate::spec::Identity;
use std::sync::Arc;

fn sample_instance() -> serde_json::Value {
    serde_json::json!({
        "dir": "/run/procstar/x", "memory": "/dev/shm/procstar-0/x", "lasting": false, "lock": 5,
        "more": {
            "guard": 6,
            "files": {"path": "/tmp/procstar-0/x", "lock": 7, "guard": 8},
            "memory": {"path": "/dev/shm/procstar-0/x", "lock": 10, "guard": null},
            "link": null,
            "places": ["/run/procstar", "/tmp/procstar-run-0"]}})
}

fn sample_listeners() -> serde_json::Value {
    serde_json::json!({
        "held": [
            {"address": {"Tcp": "127.0.0.1:3000"}, "fd": 21},
            {"address": {"Unix": "/run/procstar/x/http.sock"}, "file": [28, 1234], "fd": 22}],
        "missing": [{"address": {"Tcp": "[::1]:3000"}, "error": "in use"}]})
}

fn sample_settings() -> KeeperSettings {
    KeeperSettings {
        state_dir: None,
        base_dir: "/tmp".into(),
        conn_id: Some("x".into()),
        drain_timeout: Duration::from_secs(1),
        setup_timeout: Duration::from_millis(500),
        allowed: Allowed { executables: vec!["/bin/true".into()], ..Allowed::default() },
        log: LogSettings::default(),
        limits: Default::default(),
    }
}

fn sample() -> UpgradeState {
    let start = TimePoint {
        unix_nanos: 1_700_000_000_000_000_000,
        monotonic_nanos: 5_000_000_000,
        boot_nanos: 0,
    };
    let started = Started {
        id: "ended".into(),
        pid: 41,
        start,
        stat: None,
        statm: None,
        captures: Captures::none(),
        policy: StopPolicy::default(),
        resolved: Default::default(),
        group: None,
    };
    let survivors = Survivors::default();
    let ended = Ended { stop: start, survivors, ..Ended::lost(started.clone()) };
    let identity = Identity { argv: vec!["x".into()], exe: "/bin/x".into(), ..Identity::default() };
    UpgradeState {
        version: STATE_VERSION,
        start,
        fds: vec![9],
        nofile: Some((1024, 20_000)),
        settings: sample_settings(),
        instance: serde_json::from_value(sample_instance()).unwrap(),
        records: vec![ProcessEntry {
            stop_failures: Vec::new(),
            started: Some(started),
            ended: Some(Box::new(ended)),
            identity: Some(Arc::new(identity)),
            ..ProcessEntry::new("ended".into())
        }],
        memory: WorkerState {
            conn_id: Some("x".into()),
            orders: vec![ShutdownCommand::Idle],
            any: true,
            given: vec![5_000_000_001],
            printing: Printing::Begun,
            log_level: None,
            page_key: None,
        },
        orders: vec![ShutdownCommand::Terminate],
        carried: HandoverProcess::samples(),
        mode: Mode::OneShot,
        terminal: true,
        shared: HandoverShared::sample(),
        keeper: Some(40),
        worker: Some(51),
        listeners: serde_json::from_value(sample_listeners()).unwrap(),
        stored: Vec::new(),
    }
}

/// The state of a program of version 1, which stays readable.
#[test]
fn a_state_of_version_1_can_be_read() {
    let frozen = include_bytes!("../../../../tests/fixtures/upgrade-1.bin");
    let state = UpgradeState::from_bytes(frozen).unwrap();
    assert_eq!((state.version, state.carried.len(), state.records.len()), (1, 3, 1));
    assert_eq!(state.carried[0].descriptors().collect::<Vec<_>>(), [17]);
    assert!(state.records[0].identity.is_none());
}

/// The state of a program of version 2, which stays readable.
#[test]
fn a_state_of_version_2_can_be_read() {
    let frozen = include_bytes!("../../../../tests/fixtures/upgrade-2.bin");
    let state = UpgradeState::from_bytes(frozen).unwrap();
    assert_eq!((state.version, state.carried.len(), state.records.len()), (2, 3, 1));
    assert_eq!(state.carried[0].descriptors().collect::<Vec<_>>(), [17]);
    let identity = state.records[0].identity.as_ref().unwrap();
    assert_eq!(
        (identity.argv.as_slice(), identity.exe.as_str()),
        (&["x".to_owned()][..], "/bin/x")
    );
    assert_eq!((state.keeper, state.worker), (None, None));
}

/// The state of a program of version 3, which stays readable.
#[test]
fn a_state_of_version_3_can_be_read() {
    let frozen = include_bytes!("../../../../tests/fixtures/upgrade-3.bin");
    let state = UpgradeState::from_bytes(frozen).unwrap();
    assert_eq!((state.version, state.carried.len(), state.records.len()), (3, 3, 1));
    let open = |at: usize| state.carried[at].descriptors().collect::<Vec<_>>();
    assert_eq!((open(0), open(1)), (vec![17, 18, 19, 20], vec![]));
    assert_eq!((state.keeper, state.worker), (Some(40), Some(51)));
    assert_eq!(state.instance.descriptors(), [5, 6, 7, 8, 10]);
    assert!(state.listeners.is_empty());
}

/// The state of a program of version 4. A new format needs a new version, and this one stays
/// readable.
#[test]
fn the_format_of_version_4_is_unchanged() {
    let frozen = include_bytes!("../../../../tests/fixtures/upgrade-4.bin");
    let state = UpgradeState::from_bytes(frozen).unwrap();
    assert_eq!((state.version, state.carried.len(), state.records.len()), (4, 3, 1));
    let held: Vec<_> = state.listeners.held.iter().map(listeners::PassedListener::fd).collect();
    assert_eq!((held, state.listeners.missing.len()), (vec![21, 22], 1));
    assert!(rmp_serde::to_vec_named(&state).unwrap() == frozen, "the form has changed");
    assert!(rmp_serde::to_vec_named(&sample()).unwrap() == frozen, "the form has changed");
}

/// Only the process that a state was written for accepts it.
#[test]
fn the_state_of_another_process_is_refused() {
    let inherit = |state: UpgradeState| {
        let fd = std::os::fd::IntoRawFd::into_raw_fd(state.to_file().unwrap());
        UpgradeState::inherit(&fd.to_string(), &[fd]).map(drop).map_err(|error| error.to_string())
    };
    let error = "PROCSTAR_KEEPER_STATE is reserved for procstar itself; unset it";
    assert_eq!(inherit(sample()), Err(error.into()));
    assert_eq!(inherit(UpgradeState { keeper: Some(std::process::id()), ..sample() }), Ok(()));
    // A state of version 2 does not name its process.
    assert_eq!(inherit(UpgradeState { keeper: None, ..sample() }), Ok(()));
}

#[test]
fn unknown_states_are_refused() {
    let newer =
        rmp_serde::to_vec_named(&UpgradeState { version: STATE_VERSION + 1, ..sample() }).unwrap();
    let error = UpgradeState::from_bytes(&newer).err().unwrap().to_string();
    assert_eq!(error, "state of version 5, and this program knows 1 to 4");
    let whole = rmp_serde::to_vec_named(&sample()).unwrap();
    for cut in 0..whole.len() {
        assert!(UpgradeState::from_bytes(&whole[..cut]).is_err(), "{cut}");
    }
}

#[test]
#[ignore = "writes the fixture, where fields were added"]
fn write_the_fixture() {
    let path = format!("{}/tests/fixtures/upgrade-{STATE_VERSION}.bin", env!("CARGO_MANIFEST_DIR"));
    std::fs::write(path, rmp_serde::to_vec_named(&sample()).unwrap()).unwrap();
}
