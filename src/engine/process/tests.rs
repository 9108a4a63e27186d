//! Every transition of a process, without a child: a file replaces its pidfd.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::atomic::Ordering;
use std::time::Duration;

mod random;

use super::effect::Patience;
use super::*;
use crate::engine::containment::HandoverMembers;
use crate::engine::failure::Stage;
use crate::engine::owned_child::OwnedChild;
use crate::engine::plan::SetupFailure;
use crate::spec::Stopping;

const SECOND: u64 = 1_000_000_000;
const SETUP: u64 = 5 * SECOND;
const DRAIN: u64 = 2 * SECOND;
const FILTERS: u64 = 30 * SECOND;

/// A process with a driver that records its effects.
struct Driver {
    process: Process,
    status: Arc<ChildStatus>,
    now: u64,
    /// The effects of the last input, as texts.
    last: Vec<String>,
    answered: BTreeMap<u64, u32>,
    alarms: BTreeSet<(u64, ProcessAlarm)>,
    started: u32,
    ended: u32,
}

fn nothing() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

fn child() -> LiveChild {
    LiveChild {
        child: OwnedChild { pid: 42, pidfd: nothing() },
        token: None,
        adopted: false,
        reaped_by: None,
    }
}

fn facts() -> Option<Box<ChildFacts>> {
    Some(Box::new(ChildFacts { pid: 42, stat: None, statm: None, group: None }))
}

fn exit() -> Box<ChildExit> {
    Box::new(ChildExit { pid: Some(42), ..ChildExit::without_child() })
}

fn failed() -> Box<SetupResult> {
    let failures = vec![StartFailure::new(Stage::Sibling, libc::ENOENT, None)];
    Box::new(SetupResult { failures, ..SetupResult::default() })
}

fn stop(signum: Option<i32>, grace: Option<u64>, ticket: u64) -> Input {
    let grace = grace.map(Duration::from_secs);
    let order = StopOrder { signum, grace, ..StopOrder::default() };
    Input::Command { command: ProcessCommand::Stop(order), ticket: Some(ticket) }
}

fn signal(signum: i32, ticket: u64) -> Input {
    Input::Command { command: ProcessCommand::Signal(signum), ticket: Some(ticket) }
}

impl Driver {
    /// A requested process with this many open captures.
    fn new(captures: usize) -> Driver {
        let stopping = Stopping { signum: 15, grace: 10.0, given: true };
        let policy = StopPolicy { deadline: None, stopping };
        let mut process = Process::new("p".into(), policy, None);
        (0..captures).for_each(|index| process.output.open(OpenCapture::File { index }));
        Driver {
            process,
            status: Arc::new(ChildStatus::new(0, false)),
            now: SECOND,
            last: Vec::new(),
            answered: BTreeMap::new(),
            alarms: BTreeSet::new(),
            started: 0,
            ended: 0,
        }
    }

    fn planned(captures: usize) -> Driver {
        let mut driver = Driver::new(captures);
        driver.plan(None);
        driver
    }

    fn running(captures: usize) -> Driver {
        let mut driver = Driver::planned(captures);
        driver.spawn();
        driver
    }

    fn plan(&mut self, timeout: Option<f64>) -> &[String] {
        let start = TimePoint { monotonic_nanos: self.now, ..TimePoint::default() };
        let policy = StopPolicy::new(start, timeout, self.process.policy.stopping);
        self.on(Input::Planned { start, policy, status: Arc::clone(&self.status) })
    }

    fn spawn(&mut self) -> &[String] {
        self.on(Input::Spawned { live: child(), facts: facts(), setup: Box::default() })
    }

    /// The child exists, and is still in its set-up.
    fn clone_child(&self) {
        self.status.pidfd().store(3, Ordering::Release);
        self.status.pid().store(42, Ordering::Release);
    }

    fn await_descendant(&mut self, token: u64) {
        self.process.exiting.insert(token, nothing());
    }

    fn on(&mut self, input: Input) -> &[String] {
        let patience =
            Patience { setup: Duration::from_nanos(SETUP), drain: Duration::from_nanos(DRAIN) };
        let mut effects = Effects::at(self.now, patience, Vec::new());
        self.process.on(input, &mut effects);
        self.last = effects.into_list().into_iter().map(|effect| self.apply(effect)).collect();
        &self.last
    }

    fn answer(&mut self, ticket: Option<u64>) {
        if let Some(ticket) = ticket {
            *self.answered.entry(ticket).or_default() += 1;
        }
    }

    fn apply(&mut self, effect: Effect) -> String {
        match effect {
            Effect::Report(Event::Started(_)) => {
                self.started += 1;
                "started".into()
            }
            Effect::Report(Event::Signaled { ticket, result, .. }) => {
                self.answer(Some(ticket));
                format!("answer {ticket} {}", if result.is_ok() { "ok" } else { "gone" })
            }
            Effect::Report(_) => "event".into(),
            Effect::Signal { signum, to, ticket } => {
                self.answer(ticket);
                format!("signal {signum} {to:?}")
            }
            Effect::KillTree { ticket } => {
                self.answer(ticket);
                "kill tree".into()
            }
            Effect::KillLeftovers => "kill leftovers".into(),
            Effect::ForgetDescendants => {
                self.process.exiting.clear();
                "forget descendants".into()
            }
            Effect::SetAlarm(at, alarm) => {
                assert!(self.alarms.insert((at, alarm)) || !is_owned(alarm), "set twice");
                format!("set {alarm:?} {}", at / SECOND)
            }
            Effect::CancelAlarm(at, alarm) => {
                assert!(self.alarms.remove(&(at, alarm)), "not set, or gone off");
                format!("cancel {alarm:?}")
            }
            Effect::StartResolved { group, failed } => format!("resolved {group} {failed}"),
            Effect::Seal => "seal".into(),
            Effect::End(_) => {
                self.ended += 1;
                "end".into()
            }
        }
    }

    /// Fires the alarms that are due.
    fn wait(&mut self, nanos: u64) {
        self.now += nanos;
        while let Some((at, alarm)) = self.alarms.first().copied().filter(|(at, _)| *at <= self.now)
        {
            self.alarms.remove(&(at, alarm));
            match alarm {
                ProcessAlarm::SetupTimeout => {
                    let seen = self.process.pid_in_setup().and_then(|_| facts());
                    self.on(Input::SetupTimeout(seen));
                }
                ProcessAlarm::DrainTimeout => {
                    self.on(Input::DrainTimeout(DrainCheck::default()));
                }
                ProcessAlarm::Deadline => {
                    self.on(Input::Deadline);
                }
                ProcessAlarm::Kill => {
                    self.on(Input::KillTimeout);
                }
                ProcessAlarm::ChildPoll | ProcessAlarm::SealTimeout | ProcessAlarm::FilePoll => {}
            }
        }
    }

    fn owned_alarms(&self) -> usize {
        self.alarms.iter().filter(|(_, alarm)| is_owned(*alarm)).count()
    }
}

/// Whether a process cancels such an alarm.
fn is_owned(alarm: ProcessAlarm) -> bool {
    matches!(alarm, ProcessAlarm::Deadline | ProcessAlarm::Kill)
}

#[test]
fn a_process_starts_runs_and_ends() {
    let mut driver = Driver::new(0);
    assert_eq!(driver.plan(Some(60.0)), ["set SetupTimeout 6", "set Deadline 61"]);
    assert_eq!(driver.spawn(), ["started"]);
    assert_eq!(driver.on(Input::Exited(exit())), ["cancel Deadline", "seal"]);
    assert_eq!(driver.on(Input::Sealed), ["end"]);
    assert!(driver.process.is_ended());
    assert_eq!(driver.on(Input::Sealed), [""; 0]);
}

#[test]
fn captures_delay_the_end_until_they_are_closed() {
    let mut driver = Driver::running(2);
    assert_eq!(driver.on(Input::Exited(exit())), ["set DrainTimeout 3"]);
    driver.process.output.close(0);
    assert_eq!(driver.on(Input::Progress), [""; 0]);
    driver.process.output.close(1);
    assert_eq!(driver.on(Input::Progress), ["seal"]);
    assert_eq!(driver.on(Input::Progress), [""; 0]);
}

#[test]
fn captures_delay_the_end_no_longer_than_their_grace() {
    let mut driver = Driver::running(1);
    driver.on(Input::Exited(exit()));
    driver.now += DRAIN;
    assert_eq!(driver.on(Input::DrainTimeout(DrainCheck::default())), ["seal"]);
    assert_eq!(driver.process.output.open_count(), 0);
}

#[test]
fn a_filter_that_still_stores_has_thirty_seconds_more() {
    let mut driver = Driver::running(1);
    driver.on(Input::Exited(exit()));
    driver.now += DRAIN;
    let storing = || DrainCheck { storing: vec![0], unseen: false };
    assert_eq!(driver.on(Input::DrainTimeout(storing())), ["set DrainTimeout 3"]);
    driver.now += FILTERS;
    assert_eq!(driver.on(Input::DrainTimeout(storing())), ["seal"]);
}

#[test]
fn a_named_file_is_examined_for_five_more_seconds() {
    let mut driver = Driver::running(1);
    driver.on(Input::Exited(exit()));
    driver.now += DRAIN;
    let unseen = || DrainCheck { storing: Vec::new(), unseen: true };
    assert_eq!(driver.on(Input::DrainTimeout(unseen())), ["set DrainTimeout 3"]);
    driver.now += 5 * SECOND;
    assert_eq!(driver.on(Input::DrainTimeout(unseen())), ["seal"]);
}

#[test]
fn a_process_that_cannot_be_made_ends_without_a_start() {
    let mut driver = Driver::planned(0);
    let input = Input::NotSpawned { exit: exit(), setup: failed() };
    assert_eq!(driver.on(input), ["seal"]);
    assert!(driver.process.has_failed());
    assert_eq!(driver.on(Input::Sealed), ["end"]);
    assert_eq!(driver.started, 0);
}

#[test]
fn a_child_whose_setup_failed_is_reaped_without_a_start() {
    let mut driver = Driver::planned(0);
    let input = Input::Spawned { live: child(), facts: None, setup: failed() };
    assert_eq!(driver.on(input), [""; 0]);
    assert_eq!(driver.on(Input::Exited(exit())), ["seal"]);
}

#[test]
fn a_long_setup_is_reported_as_a_start_once() {
    let mut driver = Driver::planned(0);
    // There is no child yet: the alarm is set again.
    assert_eq!(driver.on(Input::SetupTimeout(None)), ["set SetupTimeout 6"]);
    driver.clone_child();
    assert_eq!(driver.on(Input::SetupTimeout(facts())), ["started"]);
    assert_eq!(driver.on(Input::SetupTimeout(facts())), [""; 0]);
    assert_eq!(driver.spawn(), [""; 0]);
    assert_eq!(driver.on(Input::SetupTimeout(None)), [""; 0]);
}

#[test]
fn a_long_setup_that_has_failed_is_not_reported_as_a_start() {
    let mut driver = Driver::planned(0);
    driver.clone_child();
    driver.status.fail(SetupFailure::Session, libc::EPERM);
    driver.wait(3 * SETUP);
    let input = Input::Spawned { live: child(), facts: None, setup: failed() };
    assert_eq!(driver.on(input), [""; 0]);
    assert_eq!(driver.on(Input::Exited(exit())), ["seal"]);
    assert_eq!(driver.started, 0);
}

#[test]
fn signals_wait_for_the_child_in_the_order_they_came() {
    let mut driver = Driver::planned(0);
    assert_eq!(driver.on(signal(10, 1)), [""; 0]);
    assert_eq!(driver.on(stop(None, None, 2)), ["set Kill 11"]);
    assert_eq!(driver.on(signal(12, 3)), [""; 0]);
    assert_eq!(driver.spawn(), ["started", "signal 10 Child", "signal 15 Tree", "signal 12 Child"]);
    assert_eq!(driver.answered, BTreeMap::from([(1, 1), (2, 1), (3, 1)]));
}

#[test]
fn a_child_whose_setup_is_not_reported_gets_signals_at_once_but_no_dumping_ones() {
    let mut driver = Driver::planned(0);
    driver.clone_child();
    assert_eq!(driver.on(signal(10, 1)), ["signal 10 Child"]);
    assert_eq!(driver.on(signal(libc::SIGQUIT, 2)), [""; 0]);
    assert_eq!(driver.on(stop(None, None, 3)), ["set Kill 11", "signal 15 Tree"]);
    assert_eq!(driver.on(Input::SetupTimeout(facts())), ["started"]);
    assert_eq!(driver.spawn(), ["signal 3 Child"]);
}

#[test]
fn signals_for_a_process_that_gets_no_child_are_answered() {
    let mut driver = Driver::planned(0);
    driver.on(signal(10, 1));
    driver.on(stop(Some(9), None, 2));
    let input = Input::NotSpawned { exit: exit(), setup: failed() };
    assert_eq!(driver.on(input), ["answer 1 gone", "answer 2 gone", "seal"]);
    assert_eq!(driver.on(signal(10, 3)), ["answer 3 gone"]);
    assert_eq!(driver.on(stop(None, None, 4)), ["answer 4 gone"]);
}

#[test]
fn the_group_gets_a_signal_only_while_there_is_a_child() {
    let mut driver = Driver::planned(0);
    assert_eq!(driver.on(Input::SignalGroup { signum: 28 }), [""; 0]);
    driver.clone_child();
    assert_eq!(driver.on(Input::SignalGroup { signum: 28 }), ["signal 28 Group"]);
    assert_eq!(driver.on(Input::SignalGroup { signum: libc::SIGQUIT }), [""; 0]);
    driver.spawn();
    assert_eq!(driver.on(Input::SignalGroup { signum: 28 }), ["signal 28 Group"]);
    driver.on(Input::Exited(exit()));
    assert_eq!(driver.on(Input::SignalGroup { signum: 28 }), [""; 0]);
}

#[test]
fn a_stopped_process_gets_its_signal_then_sigkill() {
    let mut driver = Driver::running(0);
    assert_eq!(driver.on(stop(None, Some(3), 1)), ["set Kill 4", "signal 15 Tree"]);
    // A client shortens the grace.
    let sooner = ["cancel Kill", "set Kill 2", "signal 2 Tree"];
    assert_eq!(driver.on(stop(Some(2), Some(1), 2)), sooner);
    driver.wait(SECOND);
    assert_eq!(driver.last, ["kill tree"]);
    assert_eq!(driver.on(stop(None, None, 3)), ["answer 3 ok"]);
    assert_eq!(driver.on(Input::Exited(exit())), ["seal"]);
    assert_eq!(driver.process.cause(), Some(StopCause::Stopped));
}

#[test]
fn a_kill_that_comes_before_the_child_finds_it() {
    let mut driver = Driver::planned(0);
    assert_eq!(driver.on(stop(Some(9), None, 1)), [""; 0]);
    assert_eq!(driver.spawn(), ["started", "signal 9 Tree", "kill tree"]);
}

#[test]
fn the_deadline_stops_the_process() {
    let mut driver = Driver::new(0);
    driver.plan(Some(7.0));
    driver.spawn();
    driver.wait(7 * SECOND);
    assert_eq!(driver.last, ["set Kill 18", "signal 15 Tree"]);
    assert_eq!(driver.process.cause(), Some(StopCause::Timeout));
    assert_eq!(driver.on(Input::Exited(exit())), ["cancel Kill", "seal"]);
}

#[test]
fn a_process_waits_for_its_tree_which_has_the_rest_of_the_grace() {
    let mut driver = Driver::running(1);
    driver.on(stop(None, None, 1));
    driver.await_descendant(7);
    // The drain timeout begins after the end of the tree.
    assert_eq!(driver.on(Input::Exited(exit())), [""; 0]);
    assert_eq!(driver.on(stop(Some(2), None, 2)), ["signal 2 Leftovers"]);
    assert_eq!(driver.on(signal(10, 3)), ["answer 3 gone"]);
    driver.wait(10 * SECOND);
    assert_eq!(driver.last, ["kill leftovers", "set DrainTimeout 13"]);
    driver.process.exiting.clear();
    driver.process.output.close(0);
    assert_eq!(driver.on(Input::Progress), ["seal"]);
}

#[test]
fn who_is_still_there_when_the_grace_for_captures_is_over_is_waited_for_no_longer() {
    let mut driver = Driver::running(0);
    driver.on(stop(Some(9), None, 1));
    driver.await_descendant(7);
    assert_eq!(driver.on(Input::Exited(exit())), ["set DrainTimeout 3"]);
    driver.now += DRAIN;
    let over = Input::DrainTimeout(DrainCheck::default());
    assert_eq!(driver.on(over), ["forget descendants", "seal"]);
}

#[test]
fn the_group_that_starts_as_a_whole_is_told_once() {
    let mut driver = Driver::new(0);
    driver.process.atomic_group = Some(5);
    driver.plan(None);
    assert_eq!(driver.spawn(), ["started", "resolved 5 false"]);

    let mut driver = Driver::new(0);
    driver.process.atomic_group = Some(5);
    let input = Input::NotSpawned { exit: exit(), setup: failed() };
    assert_eq!(driver.on(input), ["seal", "resolved 5 true"]);

    let mut driver = Driver::new(0);
    driver.process.atomic_group = Some(5);
    driver.process.leave_group();
    assert_eq!(driver.spawn(), ["started"]);
}

#[test]
fn a_watched_process_has_its_deadline_and_is_not_reported_again() {
    let mut driver = Driver::new(0);
    driver.process.policy.deadline = Some(3 * SECOND);
    driver.process.start_reported = true;
    assert_eq!(driver.on(Input::Watched(child())), ["set Deadline 3"]);
    let mut driver = Driver::new(1);
    assert_eq!(driver.on(Input::Lost(exit())), ["set DrainTimeout 3"]);
}

#[test]
fn a_draining_process_goes_on_after_an_upgrade() {
    let mut driver = Driver::new(1);
    driver.process.state = State::Draining(exit());
    driver.process.drains = Some(2 * SECOND);
    assert_eq!(driver.on(Input::Resumed), ["set DrainTimeout 2"]);
    // A process whose tree has time left of the grace.
    let mut driver = Driver::new(0);
    driver.process.state = State::Draining(exit());
    driver.process.stop =
        StopState::Signaled { cause: StopCause::Timeout, until: Some(4 * SECOND) };
    driver.await_descendant(7);
    assert_eq!(driver.on(Input::Resumed), ["set Kill 4"]);
    // A process whose tree is gone.
    let mut driver = Driver::new(0);
    driver.process.state = State::Draining(exit());
    assert_eq!(driver.on(Input::Resumed), ["set DrainTimeout 3", "seal"]);
}

#[test]
fn a_process_being_sealed_is_handed_over_as_one_that_drains() {
    let mut driver = Driver::running(0);
    driver.on(Input::Exited(exit()));
    assert!(driver.process.is_sealing());
    let handed = driver.process.hand_over(HandoverMembers::default(), |_| None).unwrap();
    let restored = Process::restored(handed);
    assert!(restored.process.is_draining() && restored.child.is_none());
    driver.on(Input::Sealed);
    assert!(driver.process.hand_over(HandoverMembers::default(), |_| None).is_none());
}
