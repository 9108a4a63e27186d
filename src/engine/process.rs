//! One process, from its launch to its deletion, as a state machine: an [`Input`] reports what
//! happens to it, and the driver applies the resulting [`Effect`]s.
//!
//! A process owns its captures, its stop with the alarms, and its pending signals. It starts no
//! child, sends no signal and reads no clock, so each transition is tested without a child.

pub(super) mod child;
pub(super) mod effect;
pub(super) mod handover;
pub(super) mod output;
mod signals;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::cgroup::Usage;
use crate::clock::{TimePoint, after};
use crate::engine::capture::{Capture, Captures, Truncation, WrittenBy};
use crate::engine::command::ProcessCommand;
use crate::engine::event::{Ended, Event, GroupEnd, Resolved, Started, Survivors};
use crate::engine::failure::StartFailure;
use crate::engine::plan::ChildStatus;
use crate::engine::stop::{StopCause, StopOrder, StopPolicy, StopState};
use crate::mem::text_pages::Floor;
use crate::spec::ProcId;
use child::{ChildExit, ChildFacts, LiveChild};
use effect::{Effect, Effects, ProcessAlarm};
use output::{DrainCheck, OpenCapture, Output};
pub(super) use signals::no_process;
use signals::{Alarms, PendingSignal};

/// The state of a process.
pub(super) enum State {
    /// Requested; its child is being made.
    Launching,
    /// Its child lives, or its end is not known yet.
    Alive(LiveChild),
    /// Its child is reaped; captures are still open, or its tree still has time.
    Draining(Box<ChildExit>),
    /// All captures have ended, and are being sealed.
    Sealing(Box<ChildExit>),
    /// The end is reported. Nothing changes any more.
    Ended,
}

/// An event in the life of a process.
pub(super) enum Input {
    /// The start begins: its child is being made.
    Planned { start: TimePoint, policy: StopPolicy, status: Arc<ChildStatus> },
    /// The set-up of its child takes long. With the child's data, if there is a child whose start
    /// is not reported yet.
    SetupTimeout(Option<Box<ChildFacts>>),
    /// Its child is made. With the child's data, if it runs as specified and its start is not
    /// reported yet.
    Spawned { live: LiveChild, facts: Option<Box<ChildFacts>>, setup: Box<SetupResult> },
    /// It has no child, and will not get one.
    NotSpawned { exit: Box<ChildExit>, setup: Box<SetupResult> },
    /// The child of an earlier engine is watched again.
    Watched(LiveChild),
    /// The child of an earlier engine is gone.
    Lost(Box<ChildExit>),
    /// An earlier engine has reaped its child; it waits again for its captures and its tree.
    Resumed,
    /// Its child is reaped.
    Exited(Box<ChildExit>),
    /// A capture or a descendant has ended.
    Progress,
    /// The drain timeout is over; with the state of the captures.
    DrainTimeout(DrainCheck),
    /// Its captures are sealed, or the seal timeout is over.
    Sealed,
    /// Its timeout is over.
    Deadline,
    /// The grace of its stop may be over.
    KillTimeout,
    /// A command of a client, which has a ticket, or of a process of the same all-or-nothing
    /// request.
    Command { command: ProcessCommand, ticket: Option<u64> },
    /// The keeper passes a signal on to the child's group.
    SignalGroup { signum: i32 },
}

/// The outcome of a child's set-up.
#[derive(Default)]
pub(super) struct SetupResult {
    pub(super) failures: Vec<StartFailure>,
    pub(super) resolved: Option<Resolved>,
    pub(super) floor: Floor,
}

/// One process.
pub(super) struct Process {
    pub(super) id: ProcId,
    state: State,
    start: TimePoint,
    pub(super) output: Output,
    failures: Vec<StartFailure>,
    /// The resolved properties of its spec, once it is made.
    resolved: Resolved,
    /// Whether [`Event::Started`] was reported.
    start_reported: bool,
    /// The child's status during its set-up; `None` before and after.
    status: Option<Arc<ChildStatus>>,
    /// Signals that wait until the child can get them, in order.
    pending: Vec<PendingSignal>,
    /// Whether we have sent the child a SIGKILL: then a death by SIGKILL is no OOM kill.
    sent_sigkill: bool,
    /// Its stop policy and its timeout.
    policy: StopPolicy,
    /// The progress of its stop.
    stop: StopState,
    alarms: Alarms,
    /// The end of the drain timeout, once that has begun.
    drains: Option<u64>,
    /// The end of the timeout for capture writers that still store output; `None` before the drain
    /// timeout is over.
    capture_writers_until: Option<u64>,
    /// The all-or-nothing group of its request, until the group's start is resolved.
    atomic_group: Option<u64>,
    /// Members that still have to end, by the tokens of their pidfds.
    pub(super) exiting: HashMap<u64, OwnedFd>,
    /// Whether the members of its control group still have to end.
    pub(super) awaits_group: bool,
    /// The floor of its `maxrss`.
    floor: Floor,
    /// Whether a second holder has its descriptors.
    pub(super) is_held: bool,
    /// The pidfd of the child that was reaped, for another second holder: the end is reported only
    /// after the captures.
    kept_pidfd: Option<OwnedFd>,
}

impl Process {
    /// A requested process.
    pub(super) fn new(id: ProcId, policy: StopPolicy, atomic_group: Option<u64>) -> Process {
        Process {
            id,
            state: State::Launching,
            start: TimePoint::now(),
            output: Output::new(Captures::new(Vec::new())),
            failures: Vec::new(),
            resolved: Resolved::default(),
            start_reported: false,
            status: None,
            pending: Vec::new(),
            sent_sigkill: false,
            policy,
            stop: StopState::None,
            alarms: Alarms::default(),
            drains: None,
            capture_writers_until: None,
            atomic_group,
            exiting: HashMap::new(),
            awaits_group: false,
            floor: Floor::default(),
            is_held: false,
            kept_pidfd: None,
        }
    }

    /// A process of an earlier engine whose program is gone. The engine reads on from the pipes of
    /// the captures with the indices `held`.
    pub(super) fn adopted(started: &Started, held: &[usize]) -> Process {
        let mut output = Output::new(Arc::clone(&started.captures));
        for (index, (_, capture)) in started.captures.iter().enumerate() {
            if held.contains(&index) {
                continue;
            }
            match capture.map(Capture::written_by) {
                Some(WrittenBy::Process | WrittenBy::CaptureWriter) => {
                    output.open(OpenCapture::File { index });
                }
                // The pipe was lost with the earlier engine.
                Some(WrittenBy::Engine) => output.truncate(index, Truncation::Error),
                None => {}
            }
        }
        Process {
            start: started.start,
            output,
            resolved: started.resolved.clone(),
            start_reported: true,
            ..Process::new(started.id.clone(), started.policy, None)
        }
    }

    /// The child, if it has not been reaped.
    pub(super) fn live(&self) -> Option<&LiveChild> {
        match &self.state {
            State::Alive(live) => Some(live),
            _ => None,
        }
    }

    /// Forgets the epoll token of the child, and returns it.
    pub(super) fn take_token(&mut self) -> Option<u64> {
        match &mut self.state {
            State::Alive(live) => live.token.take(),
            _ => None,
        }
    }

    /// The child's pidfd: while it lives and, if a second holder has it, until the end is reported.
    pub(super) fn pidfd(&self) -> Option<&OwnedFd> {
        self.live().map(|live| &live.child.pidfd).or(self.kept_pidfd.as_ref())
    }

    /// The time by which another process must have reaped the child: `by`, unless it is set.
    pub(super) fn reaped_by(&mut self, by: u64) -> u64 {
        match &mut self.state {
            State::Alive(live) => *live.reaped_by.get_or_insert(by),
            _ => by,
        }
    }

    pub(super) fn is_launching(&self) -> bool {
        matches!(self.state, State::Launching)
    }

    pub(super) fn is_draining(&self) -> bool {
        matches!(self.state, State::Draining(_))
    }

    pub(super) fn is_sealing(&self) -> bool {
        matches!(self.state, State::Sealing(_))
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    pub(super) fn is_start_reported(&self) -> bool {
        self.start_reported
    }

    /// Whether its program was never executed as specified.
    pub(super) fn has_failed(&self) -> bool {
        !self.failures.is_empty()
    }

    /// The pid of a child in its set-up. `None` before there is a child, and once a part of the
    /// set-up has failed: such a child never runs, so its start is never reported.
    pub(in crate::engine) fn pid_in_setup(&self) -> Option<i32> {
        let status = self.status.as_ref().filter(|status| !status.has_failed())?;
        Some(status.pid().load(Ordering::Acquire)).filter(|pid| *pid != 0)
    }

    /// Whether the child in its set-up is a member of its control group.
    pub(in crate::engine) fn is_in_group(&self) -> bool {
        let status = self.status.as_ref();
        status.is_some_and(|status| status.in_group().load(Ordering::Acquire) == 1)
    }

    /// Whether we have sent a SIGKILL to the child.
    pub(super) fn sent_sigkill(&self) -> bool {
        self.sent_sigkill
    }

    /// The floor of the child's `maxrss`: an equal value may not be the child's own.
    pub(super) fn floor(&self) -> &Floor {
        &self.floor
    }

    /// Removes it from its all-or-nothing group, whose start has failed.
    pub(super) fn leave_group(&mut self) {
        self.atomic_group = None;
    }

    /// The number of its descriptors, and whether the end of its child frees any; `None` before it
    /// is made.
    pub(super) fn cost(&self) -> Option<(usize, bool)> {
        if self.is_launching() {
            return None;
        }
        let alive = self.live().is_some();
        let pidfd = usize::from(self.pidfd().is_some());
        Some((self.output.cost() + pidfd + self.exiting.len(), alive))
    }

    /// Applies an input. An input that cannot happen in the present state changes nothing.
    pub(super) fn on(&mut self, input: Input, fx: &mut Effects) {
        match input {
            Input::Planned { start, policy, status } => self.planned(start, policy, status, fx),
            Input::SetupTimeout(facts) => self.setup_timeout(facts, fx),
            Input::Spawned { live, facts, setup } => self.spawned(live, facts, *setup, fx),
            Input::NotSpawned { exit, setup } => self.not_spawned(exit, *setup, fx),
            Input::Watched(live) => {
                if self.is_launching() {
                    self.state = State::Alive(live);
                    self.set_alarms(fx);
                    self.flush_pending(fx);
                }
            }
            Input::Lost(exit) => {
                if self.is_launching() {
                    self.child_ended(exit, fx);
                    self.flush_pending(fx);
                }
            }
            Input::Resumed => self.resumed(fx),
            Input::Exited(exit) => {
                if self.live().is_some() {
                    self.cancel_alarms(fx);
                    self.keep_pidfd();
                    self.child_ended(exit, fx);
                }
            }
            Input::Progress => self.progress(fx),
            Input::DrainTimeout(check) => self.drain_timeout(&check, fx),
            Input::Sealed => self.sealed(fx),
            Input::Deadline => {
                self.alarms.deadline = None;
                tracing::info!(proc_id = %self.id, "time is over, stopping the process");
                self.stop(StopCause::Timeout, StopOrder::default(), None, fx);
            }
            Input::KillTimeout => self.check_grace(fx),
            Input::Command { command, ticket } => self.command(command, ticket, fx),
            Input::SignalGroup { signum } => self.signal_group(signum, fx),
        }
    }

    fn planned(
        &mut self,
        start: TimePoint,
        policy: StopPolicy,
        status: Arc<ChildStatus>,
        fx: &mut Effects,
    ) {
        self.start = start;
        self.policy = policy;
        self.status = Some(status);
        fx.wake_after(fx.patience.setup, ProcessAlarm::SetupTimeout);
        self.set_alarms(fx);
    }

    /// The set-up takes long: reports the process as started, so that clients need not wait.
    fn setup_timeout(&mut self, facts: Option<Box<ChildFacts>>, fx: &mut Effects) {
        if self.status.is_none() {
            return;
        }
        if let Some(facts) = facts {
            self.report_start(facts, fx);
        }
        if self.start_reported {
            // Signals that came before there was a child would otherwise wait for the end of its
            // set-up, which may never come.
            self.flush_pending(fx);
        } else {
            // No thread has begun it yet.
            fx.wake_after(fx.patience.setup, ProcessAlarm::SetupTimeout);
        }
    }

    fn spawned(
        &mut self,
        live: LiveChild,
        facts: Option<Box<ChildFacts>>,
        setup: SetupResult,
        fx: &mut Effects,
    ) {
        if !self.is_launching() {
            return;
        }
        let failed = self.take_setup(setup);
        if let Some(facts) = facts.filter(|_| !failed) {
            self.report_start(facts, fx);
        }
        self.state = State::Alive(live);
        self.flush_pending(fx);
        self.resolve_start(failed, fx);
    }

    fn not_spawned(&mut self, exit: Box<ChildExit>, setup: SetupResult, fx: &mut Effects) {
        if !self.is_launching() {
            return;
        }
        let failed = self.take_setup(setup);
        self.state = State::Draining(exit);
        self.flush_pending(fx);
        self.await_captures(fx);
        self.resolve_start(failed, fx);
    }

    /// Records the outcome of the set-up; returns whether it failed.
    fn take_setup(&mut self, setup: SetupResult) -> bool {
        let SetupResult { failures, resolved, floor } = setup;
        self.status = None;
        self.resolved = resolved.unwrap_or_default();
        self.floor = floor;
        let failed = !failures.is_empty();
        self.failures.extend(failures);
        failed
    }

    fn resolve_start(&mut self, failed: bool, fx: &mut Effects) {
        if let Some(group) = self.atomic_group.take() {
            fx.push(Effect::StartResolved { group, failed });
        }
    }

    fn report_start(&mut self, facts: Box<ChildFacts>, fx: &mut Effects) {
        if std::mem::replace(&mut self.start_reported, true) {
            return;
        }
        let ChildFacts { pid, stat, statm, group } = *facts;
        let early = self.status.as_ref().and_then(|status| status.early().get());
        let resolved = early.unwrap_or(&self.resolved).clone();
        fx.push(Effect::Report(Event::Started(Box::new(Started {
            id: self.id.clone(),
            pid,
            start: self.start,
            stat,
            statm,
            captures: Arc::clone(self.output.captures()),
            policy: self.policy,
            resolved,
            group,
        }))));
    }

    /// Takes the pidfd of an ended child over from the previous program.
    pub(super) fn restore_kept_pidfd(&mut self, pidfd: OwnedFd) {
        self.kept_pidfd = Some(pidfd);
    }

    /// Keeps the pidfd of an ended child for the second holder.
    fn keep_pidfd(&mut self) {
        if let State::Alive(live) = std::mem::replace(&mut self.state, State::Ended)
            && self.is_held
        {
            self.kept_pidfd = Some(live.child.pidfd);
        }
    }

    /// The child has ended, or could not be made.
    fn child_ended(&mut self, exit: Box<ChildExit>, fx: &mut Effects) {
        self.state = State::Draining(exit);
        self.await_captures(fx);
    }

    /// Waits for the captures and the tree, up to their timeouts.
    fn await_captures(&mut self, fx: &mut Effects) {
        if self.awaited() == 0 {
            self.begin_sealing(fx);
        } else {
            self.begin_drain(fx);
        }
    }

    /// Continues the wait of an earlier engine, up to the same deadlines.
    fn resumed(&mut self, fx: &mut Effects) {
        if !self.is_draining() {
            return;
        }
        if self.awaits_members() {
            self.set_alarms(fx);
            self.cancel_alarms(fx);
        }
        self.progress(fx);
    }

    fn progress(&mut self, fx: &mut Effects) {
        if self.is_draining() {
            self.begin_drain(fx);
            if self.awaited() == 0 {
                self.begin_sealing(fx);
            }
        }
    }

    /// Whether it waits for the end of descendants.
    fn awaits_members(&self) -> bool {
        !self.exiting.is_empty() || self.awaits_group
    }

    /// The number of captures and descendants whose end it waits for.
    fn awaited(&self) -> usize {
        self.output.open_count() + self.exiting.len() + usize::from(self.awaits_group)
    }

    /// Begins the drain timeout, unless its tree still has time: only the captures delay the end of
    /// the process now. A timeout of the previous program continues.
    fn begin_drain(&mut self, fx: &mut Effects) {
        if !self.is_draining() || self.tree_has_time() {
            return;
        }
        let until = *self.drains.get_or_insert(after(fx.now, fx.patience.drain));
        if self.capture_writers_until.is_none() {
            self.capture_writers_until = Some(after(until, output::CAPTURE_WRITER_TIMEOUT));
            fx.push(Effect::SetAlarm(until, ProcessAlarm::DrainTimeout));
        }
    }

    /// The drain timeout is over: later output of survivors does not count.
    fn drain_timeout(&mut self, check: &DrainCheck, fx: &mut Effects) {
        if !self.is_draining() {
            return;
        }
        let until = *self
            .capture_writers_until
            .get_or_insert(after(fx.now, output::CAPTURE_WRITER_TIMEOUT));
        if check.may_go_on(until, fx.now) {
            return fx.wake_after(output::CAPTURE_WRITER_POLL_INTERVAL, ProcessAlarm::DrainTimeout);
        }
        self.output.cut(check);
        self.begin_sealing(fx);
    }

    /// Begins to freeze and seal the captures.
    fn begin_sealing(&mut self, fx: &mut Effects) {
        let State::Draining(exit) = std::mem::replace(&mut self.state, State::Ended) else {
            return;
        };
        self.state = State::Sealing(exit);
        if self.awaits_members() {
            fx.push(Effect::ForgetDescendants);
        }
        self.cancel_all_alarms(fx);
        fx.push(Effect::Seal);
    }

    fn sealed(&mut self, fx: &mut Effects) {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Sealing(exit) => {
                self.kept_pidfd = None;
                fx.push(Effect::End(exit));
            }
            other => self.state = other,
        }
    }

    /// A process whose end an earlier engine has reported: a survivor holds some of its pipes.
    pub(super) fn adopted_ended(id: ProcId, captures: Arc<Captures>) -> Process {
        let output = Output::new(captures);
        Process {
            state: State::Ended,
            output,
            start_reported: true,
            ..Process::new(id, StopPolicy::default(), None)
        }
    }

    /// The event of its end; with the figures of its control group, if it has one.
    pub(super) fn ended(
        &mut self,
        exit: ChildExit,
        survivors: Survivors,
        usage: Option<Option<Usage>>,
    ) -> Ended {
        let group = usage.map(|usage| Box::new(GroupEnd { left: exit.left_group, usage }));
        Ended {
            unmeasured: (exit.unmeasured || group.is_some()).then_some(exit.unmeasured),
            group,
            cause: self.cause(),
            survivors,
            id: self.id.clone(),
            pid: exit.pid,
            failures: std::mem::take(&mut self.failures),
            status: exit.status,
            rusage: exit.rusage,
            stat: exit.stat,
            start: self.start,
            stop: exit.stop,
            captures: Arc::clone(self.output.captures()),
            cut_short: self.output.take_truncated(),
            lost: exit.lost,
            io: exit.io,
            out_of_memory: exit.out_of_memory,
            resolved: self.resolved.clone(),
        }
    }
}
