//! The worker's slot, without processes.

use super::*;
use proptest::prelude::*;

type Slot = WorkerSlot<()>;

fn code(code: i32) -> ExitStatus {
    ExitStatus::from_raw(code << 8)
}

fn signal(signum: i32) -> ExitStatus {
    ExitStatus::from_raw(signum)
}

/// A slot whose worker was started `now`.
fn starting(now: Instant) -> Slot {
    let mut slot = Slot::new(now);
    assert!(slot.is_due(now));
    slot.started((), now);
    assert!(!slot.is_due(now) && slot.start_at().is_none());
    slot
}

fn up(now: Instant) -> Slot {
    let mut slot = starting(now);
    slot.welcome();
    assert!(slot.up().is_some());
    slot
}

#[test]
fn before_any_start_the_workers_exit_ends_the_program() {
    let now = Instant::now();
    for (status, wanted) in [
        (code(0), WorkerEnd::Exit(ProgramExit::Code(0))),
        (code(2), WorkerEnd::Exit(ProgramExit::Code(2))),
        (signal(libc::SIGTERM), WorkerEnd::Exit(ProgramExit::Signal(libc::SIGTERM))),
        (signal(libc::SIGKILL), WorkerEnd::Restart { died_of: None }),
    ] {
        assert_eq!(starting(now).ended(status, false, now), wanted);
    }
}

#[test]
fn once_a_process_runs_an_ended_worker_is_replaced() {
    let now = Instant::now();
    for (status, died_of) in
        [(code(0), None), (signal(libc::SIGKILL), None), (signal(libc::SIGINT), Some(libc::SIGINT))]
    {
        for mut slot in [starting(now), up(now)] {
            assert_eq!(slot.ended(status, true, now), WorkerEnd::Restart { died_of });
            assert_eq!(slot.start_at(), Some(now + FIRST_BACKOFF));
        }
    }
}

#[test]
fn a_goodbye_decides_how_the_program_ends() {
    let now = Instant::now();
    for running in [true, false] {
        let mut slot = up(now);
        slot.goodbye(ProgramExit::Code(7));
        assert!(slot.is_leaving() && slot.up().is_some(), "it still receives events");
        assert_eq!(slot.ended(code(1), running, now), WorkerEnd::Exit(ProgramExit::Code(7)));
        // The exit code of a refused worker is used, unless it was killed.
        for (status, wanted) in [(code(5), 5), (signal(libc::SIGKILL), 2)] {
            let mut slot = starting(now);
            slot.refuse(ProgramExit::Code(2));
            slot.welcome();
            assert!(slot.is_leaving() && slot.up().is_none());
            let end = slot.ended(status, running, now);
            assert_eq!(end, WorkerEnd::Exit(ProgramExit::Code(wanted)));
            assert!(matches!(slot, WorkerSlot::Empty) && !slot.is_due(now + MAX_BACKOFF));
        }
    }
}

#[test]
fn a_worker_ended_for_an_upgrade_is_replaced_at_once() {
    let now = Instant::now();
    let mut slot = up(now);
    assert_eq!(slot.vacate(now), None);
    assert!(slot.is_due(now));
    let mut slot = up(now);
    slot.goodbye(ProgramExit::Signal(2));
    assert_eq!(slot.vacate(now), Some(ProgramExit::Signal(2)));
    assert!(!slot.is_due(now + MAX_BACKOFF));
}

#[test]
fn a_goodbye_without_a_worker_changes_nothing() {
    let now = Instant::now();
    let mut slot = Slot::new(now);
    slot.goodbye(ProgramExit::Code(3));
    slot.welcome();
    assert!(slot.is_due(now) && slot.take().is_none());
}

/// An event in the life of a worker.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The worker cannot be started.
    StartFails,
    /// The worker lives `millis` milliseconds, and ends with `status`; `welcome`: it has introduced
    /// itself.
    Lives { welcome: bool, millis: u64, status: i32 },
    /// The worker is ended for an upgrade.
    Vacated,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lives = (any::<bool>(), 0u64..2000, prop_oneof![Just(0), Just(9), Just(15), Just(256)])
        .prop_map(|(welcome, millis, status)| Step::Lives { welcome, millis, status });
    prop::collection::vec(
        prop_oneof![1 => Just(Step::StartFails), 6 => lives, 1 => Just(Step::Vacated)],
        0..40,
    )
}

proptest! {
    /// The count of crashes, the delay and the end of all attempts follow the rules, whatever
    /// workers do.
    #[test]
    fn crashes_are_counted_and_waited_for(steps in steps()) {
        let mut now = Instant::now();
        let mut slot = Slot::new(now);
        let mut crashes = 0;
        for step in steps {
            // The next worker starts exactly when it is due.
            let at = slot.start_at().unwrap();
            if at > now {
                prop_assert!(!slot.is_due(at - Duration::from_nanos(1)));
                now = at;
            }
            prop_assert!(slot.is_due(now));
            let end = match step {
                Step::StartFails => {
                    crashes += 1;
                    slot.start_failed(true, now)
                }
                Step::Lives { welcome, millis, status } => {
                    slot.started((), now);
                    prop_assert_eq!(slot.crashed_too_often(true), crashes >= MAX_CRASHES);
                    prop_assert!(!slot.crashed_too_often(false));
                    if welcome {
                        slot.welcome();
                        prop_assert!(!slot.crashed_too_often(true));
                    }
                    let life = Duration::from_millis(millis);
                    now += life;
                    crashes = if welcome && life >= MIN_UPTIME { 0 } else { crashes + 1 };
                    slot.ended(ExitStatus::from_raw(status), true, now)
                }
                Step::Vacated => {
                    slot.started((), now);
                    prop_assert_eq!(slot.vacate(now), None);
                    prop_assert!(slot.is_due(now));
                    continue;
                }
            };
            prop_assert!(matches!(end, WorkerEnd::Restart { .. }), "processes need a worker");
            prop_assert_eq!(slot.crashes(), crashes);
            prop_assert_eq!(slot.crashed_too_often(false), crashes >= MAX_CRASHES);
            prop_assert_eq!(slot.start_at(), Some(now + backoff(crashes)));
            prop_assert!(backoff(crashes) <= MAX_BACKOFF && backoff(crashes) <= backoff(crashes + 1));
        }
    }

    /// Before any process has started, `MAX_CRASHES` crashes in a row end the program, and fewer do
    /// not.
    #[test]
    fn without_processes_the_keeper_gives_up(failures in prop::collection::vec(any::<bool>(), 5)) {
        let mut now = Instant::now();
        let mut slot = Slot::new(now);
        for (n, fails_to_start) in (1..).zip(failures) {
            now = slot.start_at().unwrap();
            let end = if fails_to_start {
                slot.start_failed(false, now)
            } else {
                slot.started((), now);
                slot.ended(signal(libc::SIGKILL), false, now)
            };
            let wanted = if n == MAX_CRASHES {
                WorkerEnd::GiveUp
            } else {
                WorkerEnd::Restart { died_of: None }
            };
            prop_assert_eq!(end, wanted);
        }
        prop_assert!(matches!(slot, WorkerSlot::Empty));
    }
}
