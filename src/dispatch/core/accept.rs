//! A start for a scheduler that acknowledges: it may drop the request once the journal has it.

use crate::actors::messages::{Accepted, StartError};
use crate::actors::{Handle, WorkerEnding};
use crate::keeper::format::Acceptance;
use crate::spec::{ProcId, Validated};

/// The reason for which a request must not be acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// Nothing was started, and another try would fail too.
    #[error(transparent)]
    Refused(#[from] StartError),
    /// Nothing was started: the keeper has one of the processes already.
    #[error("the keeper has one of the processes already")]
    InUse,
    /// The processes are started, but would be lost with the keeper: its journal cannot be written.
    #[error("the journal cannot be written")]
    NotJournaled,
    /// The outcome is unknown, because the worker is ending: a redelivery finds out.
    #[error("the agent is ending")]
    Ending,
}

/// Starts every process of a request. Resolves when the journal has them, so that no crash loses
/// them. Returns the IDs of processes that an idempotent request found already started.
///
/// # Errors
/// The reason for which the request must not be acknowledged.
pub async fn start(agent: &Handle, specs: Validated) -> Result<Vec<ProcId>, NotAccepted> {
    let count = specs.procs.len();
    let accepted = agent.start_acknowledged(specs).await;
    let Accepted { present, acceptance } =
        accepted.map_err(|WorkerEnding| NotAccepted::Ending)??;
    match acceptance {
        Some(Acceptance::Journaled) => Ok(present),
        // All processes were accepted before.
        None if present.len() == count => Ok(present),
        Some(Acceptance::InUse) => Err(NotAccepted::InUse),
        Some(Acceptance::NotJournaled) => Err(NotAccepted::NotJournaled),
        None => Err(NotAccepted::Ending),
    }
}
