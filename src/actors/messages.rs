//! The messages between actors. Each is one intent; its doc links to who handles it.

mod changes;

use std::io;
use std::sync::Arc;

use actix::{Message, Recipient};

use super::supervisor::QuotaExceeded;
use crate::engine::{Event, ProcessCommand};
use crate::report::ProcessRecord;
use crate::spec::{ProcId, Validated};
pub use crate::wire::ShutdownState;
pub use changes::{
    AwaitEnd, Change, ChangeKind, ChangesSince, Cursor, GetChanges, GetCursor, GetPage,
    GetProcessCounts, GetSnapshot, InvalidCursor, Page, ProcessCounts, Snapshot,
};

/// Start every process of a request, or none. Handled by the [`Supervisor`](super::supervisor::Supervisor).
///
/// The answer tells that the request is accepted; what becomes of each process, [`Results`](super::results::Results) tells. In it are
/// the IDs of processes that were there already with the same spec, where the request is idempotent.
#[derive(Message)]
#[rtype(result = "Result<Vec<ProcId>, StartError>")]
pub struct Start(pub Validated);

/// Why nothing of a request was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// No new processes are accepted.
    #[error("agent shutting down: {}", .0.as_str())]
    ShuttingDown(ShutdownState),
    /// These IDs belong to processes that have not been deleted.
    #[error("process ID already in use: {}", join(.0))]
    InUse(Vec<ProcId>),
    /// These IDs belong to processes that were started by another spec; the request is idempotent.
    #[error("process ID already in use with another spec: {}", join(.0))]
    OtherSpec(Vec<ProcId>),
    /// These processes are to be started, and each has a pipe to one that is there already.
    #[error("pipe to a process that is there already: {}", join(.0))]
    PipeToPresent(Vec<ProcId>),
    /// There would be more than may be.
    #[error(transparent)]
    Quota(#[from] QuotaExceeded),
}

fn join(ids: &[ProcId]) -> String {
    ids.iter().map(ProcId::as_str).collect::<Vec<_>>().join(", ")
}

/// Do something to a process. Handled by the [`Supervisor`](super::supervisor::Supervisor). The
/// answer comes when it is done; of a stop, when the first signal has been sent.
#[derive(Message)]
#[rtype(result = "Result<(), CommandError>")]
pub struct CommandProcess {
    /// The process.
    pub id: ProcId,
    /// What to do to it.
    pub command: ProcessCommand,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no process of this ID.
    #[error("unknown process")]
    Unknown,
    /// The process has ended.
    #[error("no process")]
    Gone,
    /// The system refused.
    #[error("failed to send signal: {0}")]
    Os(#[source] io::Error),
}

/// Delete an ended process. Handled by the [`Supervisor`](super::supervisor::Supervisor).
///
/// The answer, and the [`Removed`] before it, come when it is gone for good: no later agent has it.
#[derive(Message)]
#[rtype(result = "Result<(), DeleteError>")]
pub struct Delete(pub ProcId);

/// Why a process was not deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// There is no process of this ID.
    #[error("unknown process")]
    Unknown,
    /// It has not ended.
    #[error("process is running")]
    Running,
}

/// Shut down, or go further in it. Handled by the [`Supervisor`](super::supervisor::Supervisor).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub enum Shutdown {
    /// Accept no new processes; end when the last one is deleted.
    Idle,
    /// Ask every process to end, then kill what is left, then end.
    Terminate,
    /// The same, by SIGINT.
    Interrupt,
    /// Kill every process; end when all are deleted, or soon.
    Kill,
    /// As [`Shutdown::Terminate`], for the server cannot be reached: nobody is left to delete anything.
    GiveUp,
}

/// An order of shutdown that an earlier agent has followed so far. Handled by the [`Supervisor`](super::supervisor::Supervisor).
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct ResumeShutdown {
    /// The order.
    pub order: Shutdown,
    /// How long ago it was given: its graces count from then.
    pub age: std::time::Duration,
}

/// What the engine tells. Handled by the [`Supervisor`](super::supervisor::Supervisor), who passes it on to
/// the [`ProcessActor`](super::process::ProcessActor).
#[derive(Message)]
#[rtype(result = "()")]
pub struct EngineEvent(pub Event);

/// A process is accepted, and will be started. Handled by [`Results`](super::results::Results).
#[derive(Message)]
#[rtype(result = "()")]
pub struct Announce(pub ProcId);

/// A process has started or ended. Handled by [`Results`](super::results::Results).
#[derive(Message)]
#[rtype(result = "()")]
pub struct Changed(pub Arc<ProcessRecord>);

/// A process is deleted. Handled by [`Results`](super::results::Results).
#[derive(Message)]
#[rtype(result = "()")]
pub struct Removed(pub ProcId);

/// The shutdown has come into this state. Handled by [`Results`](super::results::Results), so that it
/// reaches subscribers after every change that came before it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ShutdownChanged(pub ShutdownState);

/// Send every [`Update`] from now on, the first being a [`Update::Snapshot`]. Handled by
/// [`Results`](super::results::Results); replaces an earlier subscription of the same number.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Subscribe {
    /// The subscriber's own number, as drawn from [`SubscriberId::fresh`].
    pub id: SubscriberId,
    /// Where updates go.
    pub to: Recipient<Update>,
}

/// Send no more updates. Handled by [`Results`](super::results::Results).
#[derive(Message)]
#[rtype(result = "()")]
pub struct Unsubscribe(pub SubscriberId);

/// A subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriberId(u64);

impl SubscriberId {
    /// One that nobody has.
    pub fn fresh() -> Self {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        SubscriberId(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    }
}

/// A question whose answer comes as an [`Update::Answer`], in its place among the other updates. Handled by
/// [`Results`](super::results::Results); not answered without a subscription.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Ask {
    /// Who asks.
    pub id: SubscriberId,
    /// What.
    pub question: Question,
}

/// What a subscriber can ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The IDs of all processes.
    Ids,
    /// The record of one; answered once it has started.
    Record(ProcId),
    /// The record of one as they are now; none where it has not started.
    Present(ProcId),
    /// The records of all that run.
    Running,
    /// Nothing: the answer tells that all updates of what came before have been sent.
    Barrier,
}

/// What a subscriber is told, in the order it happened.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub enum Update {
    /// What there was when the subscription began.
    Snapshot {
        /// Every process that has been accepted and not deleted, in the order of acceptance.
        ids: Vec<ProcId>,
        /// The state of shutdown.
        shutdown: ShutdownState,
    },
    /// A process has started, or could not be; then this is its last record already.
    Started(Arc<ProcessRecord>),
    /// A process has ended.
    Ended(Arc<ProcessRecord>),
    /// A process is deleted.
    Removed(ProcId),
    /// The shutdown has come into this state; after `done` nothing follows.
    Shutdown(ShutdownState),
    /// The answer to the subscriber's oldest question not yet answered.
    Answer(Answer),
}

/// The answer to a [`Question`].
#[derive(Clone)]
pub enum Answer {
    /// In the order of acceptance.
    Ids(Vec<ProcId>),
    /// None where there is no such process.
    Record(Option<Arc<ProcessRecord>>),
    /// In the order of acceptance.
    Running(Vec<Arc<ProcessRecord>>),
    /// All that came before has been sent.
    Barrier,
}

/// The record of one process, once it has started; none where there is no such process. Handled by
/// [`Results`](super::results::Results).
#[derive(Message)]
#[rtype(result = "Option<Arc<ProcessRecord>>")]
pub struct GetOne(pub ProcId);

/// The records of all processes that have started, in the order of acceptance. Handled by
/// [`Results`](super::results::Results).
#[derive(Message)]
#[rtype(result = "Vec<Arc<ProcessRecord>>")]
pub struct GetAll;
