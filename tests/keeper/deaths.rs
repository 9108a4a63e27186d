//! A process of ours dies at each step of an upgrade and of a succession.

use super::harness::*;
use super::succession::{ends, start, waits};
use crate::support::wait::eventually;
use procstar::engine::death_points::{DeathPoint, Part};
use serde_json::json;

/// Whether another process holds the descriptors at this step, and becomes the keeper. Otherwise
/// both are gone, and the next start on the same directory adopts the processes.
fn has_holder(point: DeathPoint) -> bool {
    match point {
        DeathPoint::UpgradeChecked => true,
        DeathPoint::UpgradeWorkerEnded
        | DeathPoint::UpgradeQuiesced
        | DeathPoint::UpgradeStateWritten
        | DeathPoint::UpgradeResumed
        | DeathPoint::UpgradeRestored
        | DeathPoint::SuccessionBegun
        | DeathPoint::SuccessionStateWritten
        | DeathPoint::SuccessionExecuted
        | DeathPoint::SuccessionAdopted => false,
        DeathPoint::OutputMoved => unreachable!("tests/engine/holdings.rs has it"),
    }
}

fn dies_at(point: DeathPoint) {
    let mut keeper = TestKeeper::with_state_dir();
    let (mut worker, _) = keeper.welcomed();
    let gate = keeper.dir.path().join("gate");
    start(
        &mut worker,
        json!({
            "file": captured(&waits(&gate, "exit 7"), "tempfile"),
            "pipe": captured(&waits(&gate, "exit 8"), "memory"),
        }),
    );
    worker.launch(json!({"ended": captured("echo early; exit 6", "memory")}));
    worker.until("ended ended 1536");
    worker.heard();
    let armed = keeper.arm(point);
    match point.part() {
        Part::Upgrade => {
            keeper.let_worker_succeed();
            keeper.upgrade("");
        }
        Part::Succession => keeper.succeed(&worker, ""),
        Part::Capture => unreachable!("no part of this test"),
    }
    eventually("the death", || !armed.exists());
    if !has_holder(point) {
        keeper.restart_keeper();
    }
    let (mut next, welcome) = keeper.welcomed();
    std::fs::write(gate, "").unwrap();
    let ended = ends(&mut next, welcome, 3);
    let both = "begun\nwent on\n";
    let name = point.name();
    for (id, status, output) in [("ended", 6, "early\n"), ("file", 7, both), ("pipe", 8, both)] {
        let end = &ended[id];
        assert!(!end.lost, "{name}: {id} is lost");
        if id == "pipe" && !has_holder(point) {
            // The next write finds no reader; what was written before is there.
            assert_eq!(end.status & 0x7f, libc::SIGPIPE, "{name}");
            assert_eq!(stdout(&end.captures), "begun\n", "{name}");
            continue;
        }
        assert_eq!((end.status, stdout(&end.captures)), (status << 8, output.into()), "{name}");
        assert!(end.cut_short.is_empty(), "{name}: {id}");
    }
    next.bye(0);
}

fn points(part: Part) -> impl Iterator<Item = DeathPoint> {
    DeathPoint::ALL.iter().copied().filter(move |point| point.part() == part)
}

#[test]
fn no_status_is_lost_by_a_death_at_any_step_of_an_upgrade() {
    points(Part::Upgrade).for_each(dies_at);
}

#[test]
fn no_status_is_lost_by_a_death_at_any_step_of_a_succession() {
    points(Part::Succession).for_each(dies_at);
}
