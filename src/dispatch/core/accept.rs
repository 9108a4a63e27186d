//! A start for a dispatcher that acknowledges: it may forget the request once the journal holds it.

use crate::actors::messages::{Accepted, StartError};
use crate::actors::{Handle, WorkerEnding};
use crate::keeper::format::Acceptance;
use crate::spec::{ProcId, Validated};

/// Why a request must not be acknowledged as started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// Nothing was started, and nothing will be by another try.
    #[error(transparent)]
    Refused(#[from] StartError),
    /// Nothing was started: the keeper has one of the processes already.
    #[error("the keeper has one of the processes already")]
    InUse,
    /// They are started, and would be lost with the keeper, as its journal cannot be written.
    #[error("the journal cannot be written")]
    NotJournaled,
    /// Whether they are started is not known, for the agent is ending: a redelivery finds out.
    #[error("the agent is ending")]
    Ending,
}

/// Starts every process of a request. Resolves when the journal holds them: whatever dies then, they
/// are not lost. Returns the IDs of those that were there already, of an idempotent request.
///
/// # Errors
/// The request must not be acknowledged.
pub async fn start(agent: &Handle, specs: Validated) -> Result<Vec<ProcId>, NotAccepted> {
    let count = specs.procs.len();
    let accepted = agent.start_acknowledged(specs).await;
    let Accepted { present, acceptance } =
        accepted.map_err(|WorkerEnding| NotAccepted::Ending)??;
    match acceptance {
        Some(Acceptance::Journaled) => Ok(present),
        // All were there already: they were accepted before.
        None if present.len() == count => Ok(present),
        Some(Acceptance::InUse) => Err(NotAccepted::InUse),
        Some(Acceptance::NotJournaled) => Err(NotAccepted::NotJournaled),
        None => Err(NotAccepted::Ending),
    }
}
