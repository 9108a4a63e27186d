//! A decoded request, carried out by messages to the actors.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::outbox::OutMessage;
use crate::actors::messages::{CommandError, Dated, DeleteError, Question, Reply};
use crate::actors::{Handle, WorkerEnding};
use crate::engine::{Capture, ProcessCommand, View};
use crate::report::{ProcessRecord, ResultStream};
use crate::spec::{self, Encoding, FdName, ProcId, Validated};
use crate::wire::{Fd, Request, StartOptions, outgoing as message};

/// The error if an actor has ended.
const ENDING: &str = "the agent is shutting down";

/// A request in the worker's own types.
pub enum Call {
    /// Start processes.
    Start(Validated),
    /// List the IDs of all processes.
    Ids,
    /// Report a process's result.
    Result(ProcId),
    /// Send a process a signal.
    Signal(ProcId, i32),
    /// Send a range of captured output.
    Output(ProcId, Fd, Range<u64>),
    /// Delete an ended process.
    Delete(ProcId),
}

/// The answer to a request. The changes that the request causes are messages of their own.
pub enum CallAnswer {
    /// The IDs of all processes.
    Ids(Vec<ProcId>),
    /// Present results.
    Results(Vec<Arc<ProcessRecord>>),
    /// A process that an idempotent request found already started.
    Present(Arc<ProcessRecord>),
    /// A range of output.
    Output(OutMessage),
    /// The process is unknown.
    Unknown(ProcId),
    /// The request failed.
    Refused {
        /// The request as it came.
        request: Bytes,
        /// The reason.
        error: String,
    },
    /// Nothing: the changes are the answer.
    Done,
}

/// A lookup for the answer, after a call is carried out.
///
/// The transport takes no changes while a lookup is under way, and afterwards those up to the
/// number that the answer bears: so the answer is as new as the changes before it.
pub enum Lookup {
    /// The IDs of all processes.
    Ids,
    /// The result of a process.
    Result(ProcId),
    /// A range of a process's output.
    Output(ProcId, Fd, Range<u64>),
    /// A process that an idempotent request found already started.
    Present(ProcId),
    /// The results of all running processes.
    Running,
    /// Only the number of the last change.
    Changes,
}

impl Call {
    /// The call of a request.
    ///
    /// # Errors
    /// The errors in its specs.
    pub fn of(request: Request<'_>) -> Result<Call, String> {
        Ok(match request {
            Request::Start { specs, options: StartOptions { all_or_nothing, idempotent } } => {
                let request = spec::from_msgpack(specs, all_or_nothing, idempotent);
                Call::Start(request.map_err(|errors| errors.to_string())?)
            }
            Request::ProcidList => Call::Ids,
            Request::Result { proc_id } => Call::Result(proc_id.into()),
            Request::Signal { proc_id, signum } => Call::Signal(proc_id.into(), signum),
            Request::FdData { proc_id, fd, start, stop } => {
                Call::Output(proc_id.into(), fd, start..stop.unwrap_or(u64::MAX))
            }
            Request::Delete { proc_id } => Call::Delete(proc_id.into()),
        })
    }

    /// Carries the call out, which may take long; returns the lookups for its answer.
    ///
    /// # Errors
    /// The answer, if it needs no lookup. `request` is the message as received.
    pub async fn carry_out(self, request: Bytes, agent: Handle) -> Result<Vec<Lookup>, CallAnswer> {
        let refused = |error: String| CallAnswer::Refused { request, error };
        let ending = |WorkerEnding| ENDING.to_owned();
        match self {
            Call::Start(specs) => {
                let present = agent.start(specs).await.map_err(ending).map_err(refused.clone())?;
                let present = present.map_err(|error| refused(error.to_string()))?;
                Ok(present.into_iter().map(Lookup::Present).collect())
            }
            Call::Ids => Ok(vec![Lookup::Ids]),
            Call::Result(id) => {
                agent.await_start(id.clone()).await.map_err(ending).map_err(refused)?;
                Ok(vec![Lookup::Result(id)])
            }
            Call::Output(id, fd, range) => {
                agent.await_start(id.clone()).await.map_err(ending).map_err(refused)?;
                Ok(vec![Lookup::Output(id, fd, range)])
            }
            Call::Signal(id, signum) => {
                let command = ProcessCommand::Signal(signum);
                let sent = agent.command(id.clone(), command).await.map_err(ending);
                match sent.map_err(refused.clone())? {
                    Ok(()) => Ok(Vec::new()),
                    Err(CommandError::Unknown) => Err(CallAnswer::Unknown(id)),
                    Err(error) => Err(refused(error.to_string())),
                }
            }
            Call::Delete(id) => {
                let deleted = agent.delete(id.clone()).await.map_err(ending);
                match deleted.map_err(refused.clone())? {
                    // The change is the answer, and must come before that of the next request.
                    Ok(()) => Ok(vec![Lookup::Changes]),
                    Err(DeleteError::Unknown) => Err(CallAnswer::Unknown(id)),
                    Err(error @ DeleteError::Running) => Err(refused(error.to_string())),
                }
            }
        }
    }
}

impl Lookup {
    /// Looks the answer up. It bears the number of the last change that it contains, and has at
    /// most `most` bytes of output.
    pub async fn answer(self, request: Bytes, agent: Handle, most: u64) -> Dated<CallAnswer> {
        let question = match &self {
            Lookup::Ids => Question::Ids,
            Lookup::Result(id) | Lookup::Output(id, ..) | Lookup::Present(id) => {
                Question::Record(id.clone())
            }
            Lookup::Running => Question::Running,
            Lookup::Changes => Question::Now,
        };
        let Ok(Dated { seq, value: reply }) = agent.query(question).await else {
            let value = CallAnswer::Refused { request, error: ENDING.to_owned() };
            return Dated { seq: 0, value };
        };
        Dated { seq, value: self.answer_of(reply, request, most) }
    }

    fn answer_of(self, reply: Reply, request: Bytes, most: u64) -> CallAnswer {
        match (self, reply) {
            (_, Reply::Ids(ids)) => CallAnswer::Ids(ids),
            (_, Reply::Running(records)) => CallAnswer::Results(records),
            (Lookup::Result(_), Reply::Record(Some(record))) => CallAnswer::Results(vec![record]),
            (Lookup::Output(_, fd, range), Reply::Record(Some(record))) => {
                output(&record, &fd, range, most)
                    .map_or_else(|error| CallAnswer::Refused { request, error }, CallAnswer::Output)
            }
            (Lookup::Present(_), Reply::Record(Some(record))) => CallAnswer::Present(record),
            (Lookup::Result(id) | Lookup::Output(id, ..), Reply::Record(None)) => {
                CallAnswer::Unknown(id)
            }
            // A change reports the start, or the deletion, of the process; and changes need no
            // answer.
            _ => CallAnswer::Done,
        }
    }
}

/// The answer to a request for a range of output, with at most `most` bytes.
///
/// # Errors
/// The fd is not captured, or its file has changed.
fn output(
    record: &ProcessRecord,
    fd: &Fd,
    range: Range<u64>,
    most: u64,
) -> Result<OutMessage, String> {
    let (proc_id, name) = (&record.id, fd.name());
    let number = name.parse::<FdName>().map_err(|error| error.to_string())?;
    let capture = record
        .captures
        .get(number)
        .ok_or_else(|| format!("fd {name} of process {proc_id} is not captured"))?;
    let view = match capture.view() {
        Ok(view) => view,
        Err(error) if Capture::is_changed(&error) => {
            return Err(format!("cannot read fd {name} of process {proc_id}: {error}"));
        }
        // One that cannot be opened has nothing to read.
        Err(error) => {
            tracing::warn!(%proc_id, %error, "cannot read captured output");
            View::empty()
        }
    };
    let start = range.start;
    let length = range.end.min(view.len()).saturating_sub(start).min(most);
    let encoding = (capture.spec().encoding == Some(Encoding::Utf8)).then_some("utf-8");
    let prefix = message::proc_fd_data_prefix(proc_id.as_str(), fd, start, encoding, length)
        .map_err(|error| error.to_string())?;
    let data = ResultStream::raw(view, start, start.saturating_add(length));
    Ok(OutMessage::Stream(data.with_prefix(prefix)))
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
