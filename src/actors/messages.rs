//! The messages between actors. Each is one intent; its doc links to the actor that handles it.

mod changes;
mod process;
mod subscribe;

use std::io;
use std::sync::Arc;

use actix::Message;

use super::quota::QuotaExceeded;
pub use super::shutdown::{ResumeShutdown, Shutdown, ShutdownState};
use crate::engine::{Event, ProcessCommand};
use crate::keeper::format::Acceptance;
use crate::report::ProcessRecord;
use crate::spec::{ProcId, Validated};
pub use changes::{
    Change, ChangeKind, Cursor, Dated, GetCursor, GetPage, GetProcessCounts, InvalidCursor, Page,
    ProcessCounts, Query, Question, Reply, Snapshot,
};
pub use process::{
    AwaitEnd, AwaitStart, FollowOutput, GetUsage, ProcessQuestion, ReadOutput, Usage,
};
pub use subscribe::{Subscribe, Subscribed};

/// Start every process of a request, or none. Handled by the
/// [`Supervisor`](super::supervisor::Supervisor).
///
/// The answer means that the request is accepted, and has the IDs of processes that an idempotent
/// request found already started. [`AwaitStart`] and [`AwaitEnd`] report the outcome of each
/// process.
#[derive(Message)]
#[rtype(result = "Result<Vec<ProcId>, StartError>")]
pub struct Start(pub Validated);

/// The same as [`Start`], but the answer comes once the keeper has accepted the request. Handled by
/// the [`Supervisor`](super::supervisor::Supervisor).
#[derive(Message)]
#[rtype(result = "Result<Accepted, StartError>")]
pub struct StartAcknowledged(pub Validated);

/// The answer to [`StartAcknowledged`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The IDs of processes that an idempotent request found already started.
    pub present: Vec<ProcId>,
    /// The keeper's acceptance of the others; none if there are no others, or if the keeper is
    /// gone.
    pub acceptance: Option<Acceptance>,
}

/// The reason for which a request was refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// New processes are refused.
    #[error("agent shutting down: {}", .0.as_str())]
    ShuttingDown(ShutdownState),
    /// These IDs are those of processes that are not deleted.
    #[error("process ID already in use: {}; delete the process first, or choose another ID", join(.0))]
    InUse(Vec<ProcId>),
    /// Of an idempotent request: these processes were started with another spec.
    #[error("process ID already in use with another spec: {}; delete the process first, or choose another ID", join(.0))]
    OtherSpec(Vec<ProcId>),
    /// Each of these new processes has a pipe to a process that exists already.
    #[error("pipe to a process that exists already: {}", join(.0))]
    PipeToPresent(Vec<ProcId>),
    /// The request exceeds a quota.
    #[error(transparent)]
    Quota(#[from] QuotaExceeded),
}

fn join(ids: &[ProcId]) -> String {
    ids.iter().map(ProcId::as_str).collect::<Vec<_>>().join(", ")
}

/// Command a process. Handled by the [`Supervisor`](super::supervisor::Supervisor). The answer is
/// the outcome; that of a stop comes after its first signal.
#[derive(Message)]
#[rtype(result = "Result<(), CommandError>")]
pub struct CommandProcess {
    /// The process.
    pub id: ProcId,
    /// The command.
    pub command: ProcessCommand,
}

/// The reason for which a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// No process has this ID.
    #[error("unknown process")]
    Unknown,
    /// The process has ended.
    #[error("no process")]
    Gone,
    /// The system refused the signal.
    #[error("failed to send signal: {0}")]
    Os(#[source] io::Error),
}

/// Delete an ended process. Handled by the [`Supervisor`](super::supervisor::Supervisor).
///
/// The [`Removed`] and then the answer come once no later worker can know the process.
#[derive(Message)]
#[rtype(result = "Result<(), DeleteError>")]
pub struct Delete(pub ProcId);

/// The reason for which a process was not deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// No process has this ID.
    #[error("unknown process")]
    Unknown,
    /// The process has not ended.
    #[error("process is running")]
    Running,
}

/// An event of the engine. Handled by the [`Supervisor`](super::supervisor::Supervisor), which
/// forwards it to the [`ProcessActor`](super::process::ProcessActor).
#[derive(Message)]
#[rtype(result = "()")]
pub struct EngineEvent(pub Event);

/// A process was accepted, and is about to start. Handled by [`Results`](super::results::Results).
#[derive(Message)]
#[rtype(result = "()")]
pub struct Announce(pub ProcId);

/// The record of a process has changed. Handled by [`Results`](super::results::Results).
#[derive(Message)]
#[rtype(result = "()")]
pub struct Changed(pub Arc<ProcessRecord>);

/// A process was deleted. Handled by [`Results`](super::results::Results).
#[derive(Message)]
#[rtype(result = "()")]
pub struct Removed(pub ProcId);

/// The state of shutdown has changed. Handled by [`Results`](super::results::Results), so that it
/// reaches subscribers after every earlier change.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ShutdownChanged(pub ShutdownState);

/// The records of all processes that have started, in the order of acceptance. Handled by
/// [`Results`](super::results::Results).
#[derive(Message)]
#[rtype(result = "Vec<Arc<ProcessRecord>>")]
pub struct GetAll;
