//! The signals of a process: pending ones, and those that stop it.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

use super::effect::{Effect, Effects, ProcessAlarm, Recipients};
use super::{Process, State};
use crate::engine::command::ProcessCommand;
use crate::engine::containment::Target;
use crate::engine::event::Event;
use crate::engine::failure::Stage;
use crate::engine::stop::{StopAction, StopCause, StopOrder, StopState};

/// Signals that dump core. A child in its set-up shares our memory, and before Linux 5.16 a dump
/// kills every process that does: these signals wait until it has exec'd.
const DUMPING: [i32; 10] = [
    libc::SIGQUIT,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGSYS,
];

/// A signal that waits until the child can get it.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingSignal {
    signum: i32,
    scope: Scope,
    /// The ticket of the answer.
    ticket: Option<u64>,
}

/// The target of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Child,
    Tree,
}

/// The alarms of a process that may expire late: its end cancels them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Alarms {
    pub(super) deadline: Option<u64>,
    pub(super) kill: Option<u64>,
}

impl Process {
    /// The child, if there is one that has not been reaped.
    pub(in crate::engine) fn target(&self) -> Option<Target> {
        match &self.state {
            State::Alive(live) => {
                Some(Target { pid: live.child.pid, pidfd: live.child.pidfd.as_raw_fd() })
            }
            State::Launching => {
                let status = self.status.as_ref()?;
                let pidfd = status.running_pidfd()?;
                Some(Target { pid: status.pid().load(Ordering::Acquire), pidfd })
            }
            State::Draining(_) | State::Sealing(_) | State::Ended => None,
        }
    }

    /// Whether its child has ended, and members of its tree still have time.
    pub(super) fn awaits_tree(&self) -> bool {
        matches!(self.state, State::Draining(_)) && self.awaits_members()
    }

    /// Whether the drain timeout must wait, because its tree has its own grace.
    pub(super) fn tree_has_time(&self) -> bool {
        self.awaits_members() && !self.stop.is_killed()
    }

    /// Whether it is being stopped: its tree will end with it.
    pub(in crate::engine) fn is_stopping(&self) -> bool {
        self.stop.takes_all()
    }

    /// Whether its tree has been killed, so that no member has any time left.
    pub(in crate::engine) fn is_killed(&self) -> bool {
        self.stop.is_killed()
    }

    /// The cause of its end, if it was stopped; a failure of its start takes precedence.
    pub(super) fn cause(&self) -> Option<StopCause> {
        let ran = self.failures.iter().all(|failure| matches!(failure.stage, Stage::KilledInSetup));
        self.stop.cause().filter(|_| ran)
    }

    /// Carries out a command.
    pub(super) fn command(
        &mut self,
        command: ProcessCommand,
        ticket: Option<u64>,
        fx: &mut Effects,
    ) {
        match command {
            ProcessCommand::Signal(signum) => self.signal(signum, ticket, fx),
            ProcessCommand::Stop(order) => self.stop(StopCause::Stopped, order, ticket, fx),
        }
    }

    /// Sends a client's signal to the child.
    fn signal(&mut self, signum: i32, ticket: Option<u64>, fx: &mut Effects) {
        self.sent_sigkill |= signum == libc::SIGKILL;
        let signal = PendingSignal { signum, scope: Scope::Child, ticket };
        self.deliver(signal, fx);
    }

    /// Sends a client's signal to the child's group. Before there is a child, the signal is
    /// dropped.
    pub(super) fn signal_group(&self, signum: i32, fx: &mut Effects) {
        if self.target().is_some() && !self.must_wait(signum) {
            fx.push(Effect::Signal { signum, to: Recipients::Group, ticket: None });
        }
    }

    /// Stops the process: signals its tree, and sets the alarm for the end of the grace.
    pub(super) fn stop(
        &mut self,
        cause: StopCause,
        order: StopOrder,
        ticket: Option<u64>,
        fx: &mut Effects,
    ) {
        if !matches!(self.state, State::Launching | State::Alive(_)) && !self.awaits_tree() {
            return self.answer(ticket, Err(no_process()), fx);
        }
        let (signum, grace) = self.policy.read(order);
        let (stop, action) = self.stop.request(cause, signum, grace, fx.now);
        self.enter(stop, fx);
        match action {
            StopAction::None => self.answer(ticket, Ok(()), fx),
            StopAction::Signal(signum) => {
                self.deliver(PendingSignal { signum, scope: Scope::Tree, ticket }, fx);
            }
            StopAction::Kill => self.kill(ticket, fx),
        }
    }

    /// Handles the possible end of the grace of a stop.
    pub(super) fn check_grace(&mut self, fx: &mut Effects) {
        self.alarms.kill = None;
        let (stop, action) = self.stop.check_grace(fx.now);
        self.enter(stop, fx);
        if action == StopAction::Kill {
            self.kill(None, fx);
        }
    }

    /// Sends a signal if the child can get it; otherwise the signal waits, or the answer is that
    /// the process is gone.
    fn deliver(&mut self, signal: PendingSignal, fx: &mut Effects) {
        let PendingSignal { signum, scope, ticket } = signal;
        let to = match (&self.state, scope) {
            (State::Launching, _) if self.target().is_none() || self.must_wait(signum) => {
                return self.pending.push(signal);
            }
            (State::Launching | State::Alive(_), Scope::Child) => Recipients::Child,
            // A launching child may already run and have descendants: on a busy machine its thread
            // reports that late.
            (State::Launching | State::Alive(_), Scope::Tree) => Recipients::Tree,
            (State::Draining(_), Scope::Tree) if self.awaits_tree() => Recipients::Leftovers,
            _ => return self.answer(ticket, Err(no_process()), fx),
        };
        fx.push(Effect::Signal { signum, to, ticket });
    }

    /// Whether a signal has to wait for the end of the child's set-up.
    fn must_wait(&self, signum: i32) -> bool {
        matches!(self.state, State::Launching) && DUMPING.contains(&signum)
    }

    /// Kills the process with all its descendants, as soon as there is a child.
    fn kill(&mut self, ticket: Option<u64>, fx: &mut Effects) {
        if self.awaits_tree() {
            fx.push(Effect::KillLeftovers);
            self.begin_drain(fx);
            return self.answer(ticket, Ok(()), fx);
        }
        match &self.state {
            State::Launching if self.target().is_none() => {
                let signum = libc::SIGKILL;
                self.pending.push(PendingSignal { signum, scope: Scope::Tree, ticket });
            }
            State::Launching | State::Alive(_) => fx.push(Effect::KillTree { ticket }),
            State::Draining(_) | State::Sealing(_) | State::Ended => {
                self.answer(ticket, Err(no_process()), fx);
            }
        }
    }

    /// Sends the pending signals once there is a child, or answers them if there will be none.
    pub(super) fn flush_pending(&mut self, fx: &mut Effects) {
        for signal in std::mem::take(&mut self.pending) {
            self.deliver(signal, fx);
        }
        if self.stop.is_killed() && self.target().is_some() {
            self.kill(None, fx);
        }
    }

    /// Records the progress of a stop, and sets its alarm.
    fn enter(&mut self, stop: StopState, fx: &mut Effects) {
        self.stop = stop;
        self.set_kill_alarm(stop.until(), fx);
    }

    fn set_kill_alarm(&mut self, at: Option<u64>, fx: &mut Effects) {
        let before = std::mem::replace(&mut self.alarms.kill, at);
        change_alarm(before, at, ProcessAlarm::Kill, fx);
    }

    fn set_deadline(&mut self, at: Option<u64>, fx: &mut Effects) {
        let before = std::mem::replace(&mut self.alarms.deadline, at);
        change_alarm(before, at, ProcessAlarm::Deadline, fx);
    }

    /// Sets the alarms of the process's timeout and stop.
    pub(super) fn set_alarms(&mut self, fx: &mut Effects) {
        self.set_deadline(self.policy.deadline, fx);
        self.set_kill_alarm(self.stop.until(), fx);
    }

    /// Cancels the alarms at the end of the child: all of them, or all except the one that kills
    /// the rest of its tree.
    pub(super) fn cancel_alarms(&mut self, fx: &mut Effects) {
        self.set_deadline(None, fx);
        if !self.awaits_members() {
            self.set_kill_alarm(None, fx);
        }
    }

    /// Cancels all alarms.
    pub(super) fn cancel_all_alarms(&mut self, fx: &mut Effects) {
        self.set_deadline(None, fx);
        self.set_kill_alarm(None, fx);
    }

    pub(super) fn answer(&self, ticket: Option<u64>, result: io::Result<()>, fx: &mut Effects) {
        if let Some(ticket) = ticket {
            fx.push(Effect::Report(Event::Signaled { id: self.id.clone(), ticket, result }));
        }
    }
}

fn change_alarm(before: Option<u64>, at: Option<u64>, alarm: ProcessAlarm, fx: &mut Effects) {
    if before == at {
        return;
    }
    if let Some(before) = before {
        fx.push(Effect::CancelAlarm(before, alarm));
    }
    if let Some(at) = at {
        fx.push(Effect::SetAlarm(at, alarm));
    }
}

/// The answer to a signal for a process that is gone.
pub(in crate::engine) fn no_process() -> io::Error {
    io::Error::from_raw_os_error(libc::ESRCH)
}
