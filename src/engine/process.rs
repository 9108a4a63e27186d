//! One process, from its launch until it is forgotten: what happens to it goes in as an [`Input`],
//! what is to be done about it comes out as [`Effect`]s, which the driver applies.
//!
//! A process owns its captures, its stop with the alarms, and the signals that wait for its child.
//! It starts nothing, signals nobody and reads no clock, so each transition is tested without a
//! child.

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

use crate::clock::{TimePoint, after};
use crate::engine::capture::{Capture, CaptureWriter, Captures, Truncation};
use crate::engine::command::ProcessCommand;
use crate::engine::event::{Ended, Event, Resolved, Started, Survivors};
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

/// Where a process is in its life.
pub(super) enum State {
    /// Asked for; its child is being made.
    Launching,
    /// Its child lives, or its end is not yet known.
    Alive(LiveChild),
    /// Its child is reaped; captures are still open, or its tree still has time.
    Draining(Box<ChildExit>),
    /// Nothing more is written; the contents of its captures are being recorded.
    Sealing(Box<ChildExit>),
    /// All is known. Nothing changes any more.
    Ended,
}

/// What happens to a process.
pub(super) enum Input {
    /// Its turn has come: its child is being made.
    Planned { start: TimePoint, policy: StopPolicy, status: Arc<ChildStatus> },
    /// The set-up of its child takes long. The facts of the child, if there is one and its start is
    /// not reported.
    SetupTimeout(Option<Box<ChildFacts>>),
    /// Its child is made. The facts of the child if it runs as specified and its start is not
    /// reported.
    Spawned { live: LiveChild, facts: Option<Box<ChildFacts>>, setup: Box<SetupResult> },
    /// It has no child, and gets none.
    NotSpawned { exit: Box<ChildExit>, setup: Box<SetupResult> },
    /// A child of an earlier engine is watched again.
    Watched(LiveChild),
    /// A child of an earlier engine is gone.
    Lost(Box<ChildExit>),
    /// A process whose child an earlier engine has reaped waits again for its captures and its
    /// tree.
    Resumed,
    /// Its child is reaped.
    Exited(Box<ChildExit>),
    /// A capture or a descendant that it may have waited for has ended.
    Progress,
    /// The grace for its captures has passed; how far those are.
    DrainTimeout(DrainCheck),
    /// Its captures are recorded, or nobody waits for that any longer.
    Sealed,
    /// It has run for as long as it may.
    Deadline,
    /// The grace of its stop may be over.
    KillTimeout,
    /// A client wants something done to it, or a process that is to start with this one; the first
    /// has a ticket.
    Command { command: ProcessCommand, ticket: Option<u64> },
    /// The keeper passes a signal on to the child's group.
    SignalGroup { signum: i32 },
}

/// What came of the set-up of a child.
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
    /// What its spec has come to, once it is made.
    resolved: Resolved,
    /// Whether [`Event::Started`] was reported.
    start_reported: bool,
    /// What the child reports while it is being made; none before it is planned, and after.
    status: Option<Arc<ChildStatus>>,
    /// Signals that wait for a child that may have them, in the order they came.
    pending: Vec<PendingSignal>,
    /// Whether we have sent the child a SIGKILL: then that is what it dies of.
    sent_sigkill: bool,
    /// How it is stopped, and when its time is over.
    policy: StopPolicy,
    /// How far stopping it has come.
    stop: StopState,
    alarms: Alarms,
    /// Until when its captures may delay its end, once that has begun to count.
    drains: Option<u64>,
    /// Until when it waits for filters that have yet to store what has come; none before the grace
    /// has begun.
    filters_until: Option<u64>,
    /// With which others it starts or not at all, until that is known.
    atomic_group: Option<u64>,
    /// Those of its members that still have to end, by the tokens of their pidfds.
    pub(super) exiting: HashMap<u64, OwnedFd>,
    /// Where the kernel has begun to count its `maxrss`.
    floor: Floor,
}

impl Process {
    /// A process that is about to be made.
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
            filters_until: None,
            atomic_group,
            exiting: HashMap::new(),
            floor: Floor::default(),
        }
    }

    /// A process that an earlier engine, in a program that is gone, has started.
    pub(super) fn adopted(started: &Started) -> Process {
        let mut output = Output::new(Arc::clone(&started.captures));
        for (index, (_, capture)) in started.captures.iter().enumerate() {
            match capture.map(Capture::writer) {
                Some(CaptureWriter::Process | CaptureWriter::Filter) => {
                    output.open(OpenCapture::File { index });
                }
                // Its pipe has gone with the earlier engine.
                Some(CaptureWriter::Engine) => output.truncate(index, Truncation::Error),
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

    /// Whether its child may have been killed by the kernel: nobody else that we know of has.
    pub(super) fn sent_sigkill(&self) -> bool {
        self.sent_sigkill
    }

    /// Whether the kernel began to count the child's `maxrss` with so much, so that the child's own
    /// is not known.
    pub(super) fn floor(&self) -> &Floor {
        &self.floor
    }

    /// Takes it out of the group that starts as a whole, whose start has failed.
    pub(super) fn leave_group(&mut self) {
        self.atomic_group = None;
    }

    /// How many descriptors it costs, and whether it gives any back when its child ends; none if it
    /// is yet to be made.
    pub(super) fn cost(&self) -> Option<(usize, bool)> {
        if self.is_launching() {
            return None;
        }
        let alive = self.live().is_some();
        Some((self.output.cost() + usize::from(alive) + self.exiting.len(), alive))
    }

    /// Moves on by `input`. An input that cannot happen in a state changes nothing.
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

    /// The set-up takes long: the process is reported as started, so that nobody waits for that.
    fn setup_timeout(&mut self, facts: Option<Box<ChildFacts>>, fx: &mut Effects) {
        if self.status.is_none() {
            return;
        }
        if let Some(facts) = facts {
            self.report_start(facts, fx);
        }
        if self.start_reported {
            // Signals that came before there was a child would else wait for the end of its set-up,
            // which may never be.
            self.flush_pending(fx);
        } else {
            // No thread has come to it yet.
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

    /// Notes what came of the set-up; returns whether it failed.
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
        let ChildFacts { pid, stat, statm } = *facts;
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
        }))));
    }

    /// The child has ended, or there was none.
    fn child_ended(&mut self, exit: Box<ChildExit>, fx: &mut Effects) {
        self.state = State::Draining(exit);
        self.await_captures(fx);
    }

    /// Waits for the captures and the tree, but no longer than they have time.
    fn await_captures(&mut self, fx: &mut Effects) {
        if self.awaited() == 0 {
            self.begin_sealing(fx);
        } else {
            self.begin_drain(fx);
        }
    }

    /// Goes on where an earlier engine was: no longer than that one would have.
    fn resumed(&mut self, fx: &mut Effects) {
        if !self.is_draining() {
            return;
        }
        if !self.exiting.is_empty() {
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

    /// How many captures and descendants have to end before its end can be reported.
    fn awaited(&self) -> usize {
        self.output.open_count() + self.exiting.len()
    }

    /// From now on its captures alone may delay the end of the process, and no longer than their
    /// grace; unless its tree still has time. A grace that began in the program before us goes on.
    fn begin_drain(&mut self, fx: &mut Effects) {
        if !self.is_draining() || self.tree_has_time() {
            return;
        }
        let until = *self.drains.get_or_insert(after(fx.now, fx.patience.drain));
        if self.filters_until.is_none() {
            self.filters_until = Some(after(until, output::FILTER_PATIENCE));
            fx.push(Effect::SetAlarm(until, ProcessAlarm::DrainTimeout));
        }
    }

    /// The grace has passed: what survivors have written so far counts, and no more.
    fn drain_timeout(&mut self, check: &DrainCheck, fx: &mut Effects) {
        if !self.is_draining() {
            return;
        }
        let until = *self.filters_until.get_or_insert(after(fx.now, output::FILTER_PATIENCE));
        if check.may_go_on(until, fx.now) {
            return fx.wake_after(output::FILTER_POLL, ProcessAlarm::DrainTimeout);
        }
        self.output.cut(check);
        self.begin_sealing(fx);
    }

    /// Nothing more counts: the captures are frozen and recorded.
    fn begin_sealing(&mut self, fx: &mut Effects) {
        let State::Draining(exit) = std::mem::replace(&mut self.state, State::Ended) else {
            return;
        };
        self.state = State::Sealing(exit);
        if !self.exiting.is_empty() {
            fx.push(Effect::ForgetDescendants);
        }
        self.cancel_all_alarms(fx);
        fx.push(Effect::Seal);
    }

    fn sealed(&mut self, fx: &mut Effects) {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Sealing(exit) => fx.push(Effect::End(exit)),
            other => self.state = other,
        }
    }

    /// The event of its end.
    pub(super) fn ended(&mut self, exit: ChildExit, survivors: Survivors) -> Ended {
        Ended {
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
