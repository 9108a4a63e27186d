//! What a process asks of the driver.

use std::time::Duration;

use crate::clock::after;
use crate::engine::event::Event;
use crate::engine::process::child::ChildExit;

/// One thing for the driver to do. The driver applies the effects of an input in their order.
pub(in crate::engine) enum Effect {
    /// Report an event to the owner of the engine.
    Report(Event),
    /// Send a signal; who has a ticket gets the outcome.
    Signal { signum: i32, to: Recipients, ticket: Option<u64> },
    /// Kill the child with all that descends from it; who has a ticket gets the outcome.
    KillTree { ticket: Option<u64> },
    /// Kill the descendants that are left of a child that has ended.
    KillLeftovers,
    /// Wait no longer for descendants.
    ForgetDescendants,
    /// Have the process's alarm go off at this time of the monotonic clock.
    SetAlarm(u64, ProcessAlarm),
    /// Take an alarm back.
    CancelAlarm(u64, ProcessAlarm),
    /// Whether the process has started is known: tell the group that starts as a whole.
    StartResolved { group: u64, failed: bool },
    /// Freeze the captures, and record their contents; [`Input::Sealed`](super::Input::Sealed)
    /// follows.
    Seal,
    /// Report the end of the process. The last effect of its life.
    End(Box<ChildExit>),
}

/// Who gets a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Recipients {
    /// The child alone.
    Child,
    /// The child with its group, without an answer.
    Group,
    /// The child and all that descends from it.
    Tree,
    /// The descendants that are left of a child that has ended.
    Leftovers,
}

/// What a process's alarm is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::engine) enum ProcessAlarm {
    /// The set-up of the child takes long.
    SetupTimeout,
    /// The grace for the captures has passed.
    DrainTimeout,
    /// The child is to be polled, for epoll cannot report its end.
    ChildPoll,
    /// The time of the process is over.
    Deadline,
    /// The grace of a process that has been asked to end is over.
    Kill,
    /// The captures are being hashed for long.
    SealTimeout,
    /// The named files that somebody still writes are to be looked at again.
    FilePoll,
}

/// How long the engine waits for a process.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Patience {
    /// For the set-up of the child, before the process is reported as started all the same.
    pub(in crate::engine) setup: Duration,
    /// For the captures, after the end of the child.
    pub(in crate::engine) drain: Duration,
}

/// Collects the effects of one input, which comes at one moment.
pub(in crate::engine) struct Effects {
    /// The moment, by the monotonic clock in nanoseconds.
    pub(super) now: u64,
    pub(super) patience: Patience,
    list: Vec<Effect>,
}

impl Effects {
    /// No effects yet; `list` lends its room.
    pub(in crate::engine) fn at(now: u64, patience: Patience, list: Vec<Effect>) -> Effects {
        Effects { now, patience, list }
    }

    pub(super) fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// Sets an alarm that nobody takes back.
    pub(super) fn wake_after(&mut self, wait: Duration, alarm: ProcessAlarm) {
        self.push(Effect::SetAlarm(after(self.now, wait), alarm));
    }

    /// What is to be done, in order.
    pub(in crate::engine) fn into_list(self) -> Vec<Effect> {
        self.list
    }
}
