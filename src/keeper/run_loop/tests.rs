//! The transitions of the run loop that need a worker process.

use super::upgrade::DONE;
use super::*;
use crate::clock::TimePoint;
use crate::keeper::format::encode;
use crate::keeper::worker_process::tests::worker;
use std::io::Write;

/// The messages of a worker before its end for an upgrade count: after its goodbye there is no
/// upgrade.
#[test]
fn a_goodbye_during_an_upgrade_ends_the_program() {
    let environment = LaunchEnvironment { start: TimePoint::now(), fds: Vec::new(), nofile: None };
    let mut keeper = Keeper::new(environment, WorkerCommand::this_program()).unwrap();
    let (worker, mut theirs) = worker();
    keeper.slot.started(worker, Instant::now());
    let mut bye = Vec::new();
    encode(&ToKeeper::Bye { code: 5, signal: None }, &mut bye).unwrap();
    theirs.write_all(&bye).unwrap();
    assert_eq!(keeper.end_worker_for_upgrade(), Err(DONE.to_owned()));
    assert!(keeper.slot.worker().is_none());
    assert_eq!(keeper.run(), ProgramExit::Code(5));
    // Another worker has sent no message.
    let (worker, _theirs) = self::worker();
    keeper.phase = Phase::AwaitingHello(AwaitingHello::default());
    keeper.slot = WorkerSlot::new(Instant::now());
    keeper.slot.started(worker, Instant::now());
    assert_eq!(keeper.end_worker_for_upgrade(), Ok(()));
    assert!(keeper.slot.worker().is_none() && matches!(keeper.phase, Phase::AwaitingHello(_)));
}

#[test]
fn an_exit_keeps_the_running_instance_until_the_turn_ends() {
    let mut phase = Phase::AwaitingHello(AwaitingHello::default());
    assert!(!phase.is_running() && phase.running().is_none());
    phase.exit(ProgramExit::Code(1));
    phase.exit(ProgramExit::Code(2));
    assert!(matches!(phase, Phase::Exiting(ProgramExit::Code(2), None)));
    assert!(!phase.is_running() && phase.running().is_none());
}
