//! The requests of a process to the driver.

use std::time::Duration;

use crate::clock::after;
use crate::engine::event::Event;
use crate::engine::process::child::ChildExit;

/// One action for the driver, which applies the effects of an input in order.
pub(in crate::engine) enum Effect {
    /// Report an event to the owner of the engine.
    Report(Event),
    /// Send a signal; the sender of a ticket gets the outcome.
    Signal { signum: i32, to: Recipients, ticket: Option<u64> },
    /// Kill the child with all its descendants; the sender of a ticket gets the outcome.
    KillTree { ticket: Option<u64> },
    /// Kill the remaining descendants of a child that has ended.
    KillLeftovers,
    /// Stop waiting for descendants.
    ForgetDescendants,
    /// Set an alarm for this time of the monotonic clock.
    SetAlarm(u64, ProcessAlarm),
    /// Cancel an alarm.
    CancelAlarm(u64, ProcessAlarm),
    /// Notify the all-or-nothing group whether this process has started.
    StartResolved { group: u64, failed: bool },
    /// Freeze and seal the captures; [`Input::Sealed`](super::Input::Sealed) follows.
    Seal,
    /// Report the end of the process. The last effect of its life.
    End(Box<ChildExit>),
}

/// The recipients of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Recipients {
    /// The child alone.
    Child,
    /// The child's group, without an answer.
    Group,
    /// The child and all its descendants.
    Tree,
    /// The remaining descendants of a child that has ended.
    Leftovers,
}

/// The purpose of a process's alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::engine) enum ProcessAlarm {
    /// The set-up of the child takes long.
    SetupTimeout,
    /// The drain timeout is over.
    DrainTimeout,
    /// The child is to be polled, because epoll cannot report its end.
    ChildPoll,
    /// The timeout of the process is over.
    Deadline,
    /// The grace of a stopped process is over.
    Kill,
    /// Hashing the captures takes too long.
    SealTimeout,
    /// Named files that still have writers are to be looked at again.
    FilePoll,
}

/// The timeouts of a process.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Patience {
    /// The setup timeout, after which the process is reported as started.
    pub(in crate::engine) setup: Duration,
    /// The drain timeout after the end of the child.
    pub(in crate::engine) drain: Duration,
}

/// Collects the effects of one input.
pub(in crate::engine) struct Effects {
    /// The time of the input, by the monotonic clock in nanoseconds.
    pub(super) now: u64,
    pub(super) patience: Patience,
    list: Vec<Effect>,
}

impl Effects {
    /// No effects yet; `list` is an empty list to reuse.
    pub(in crate::engine) fn at(now: u64, patience: Patience, list: Vec<Effect>) -> Effects {
        Effects { now, patience, list }
    }

    pub(super) fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// Sets an alarm that is never cancelled.
    pub(super) fn wake_after(&mut self, wait: Duration, alarm: ProcessAlarm) {
        self.push(Effect::SetAlarm(after(self.now, wait), alarm));
    }

    /// The effects in order.
    pub(in crate::engine) fn into_list(self) -> Vec<Effect> {
        self.list
    }
}
