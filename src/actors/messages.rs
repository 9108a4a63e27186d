//! The messages between actors. Each is one intent; its doc links to who handles it.

mod changes;
mod process;

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
    ProcessCounts, Query, Question, Reply, Snapshot, Subscribe, Subscribed,
};
pub use process::{
    AwaitEnd, AwaitStart, FollowOutput, GetUsage, ProcessQuestion, ReadOutput, Usage,
};

/// Start every process of a request, or none. Handled by the [`Supervisor`](super::supervisor::Supervisor).
///
/// The answer tells that the request is accepted; what becomes of each process, [`Results`](super::results::Results) tells. In it are
/// the IDs of processes that were there already with the same spec, where the request is idempotent.
#[derive(Message)]
#[rtype(result = "Result<Vec<ProcId>, StartError>")]
pub struct Start(pub Validated);

/// Start every process of a request, or none, as [`Start`] does, and answer once the keeper has
/// accepted it. Handled by the [`Supervisor`](super::supervisor::Supervisor).
#[derive(Message)]
#[rtype(result = "Result<Accepted, StartError>")]
pub struct StartAcknowledged(pub Validated);

/// The answer to [`StartAcknowledged`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The IDs of processes that were there already with the same spec, of an idempotent request.
    pub present: Vec<ProcId>,
    /// How the keeper has accepted the others; none if there are no others, or no keeper any more.
    pub acceptance: Option<Acceptance>,
}

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
/// The answer, and the [`Removed`] before it, come when it is gone for good: no later worker has it.
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

/// The records of all processes that have started, in the order of acceptance. Handled by
/// [`Results`](super::results::Results).
#[derive(Message)]
#[rtype(result = "Vec<Arc<ProcessRecord>>")]
pub struct GetAll;
