//! The vocabulary of shutdown: orders that actors send, states that clients see.

use std::time::Duration;

use actix::Message;

/// An order to shut down, or to go further in a shutdown. Handled by the
/// [`Supervisor`](super::supervisor::Supervisor).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub enum Shutdown {
    /// Accept no new processes; end after the deletion of the last one.
    Idle,
    /// Ask every process to end, kill the remaining ones after a grace, then end.
    Terminate,
    /// The same as [`Shutdown::Terminate`], ordered by SIGINT.
    Interrupt,
    /// Kill every process; end after the deletion of the last one, or soon.
    Kill,
    /// As [`Shutdown::Terminate`], because the scheduler cannot be reached: no deletions will come.
    GiveUp,
}

/// An order of shutdown that an earlier worker received. Handled by the
/// [`Supervisor`](super::supervisor::Supervisor).
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct ResumeShutdown {
    /// The order.
    pub order: Shutdown,
    /// The time since the order came: the graces count from then.
    pub age: Duration,
}

/// The progress of the shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownState {
    /// New processes are accepted.
    Active,
    /// New processes are refused; the program ends after the deletion of the last one.
    Idling,
    /// The last state, before the program ends.
    Done,
}

impl ShutdownState {
    /// The name, as clients see it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Idling => "idling",
            Self::Done => "done",
        }
    }
}
