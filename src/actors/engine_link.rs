//! The engine as the actors see it. It lives in the keeper; see
//! [`keeper_link`](super::keeper_link).

use tokio::sync::oneshot;

use super::shutdown::Shutdown;
use crate::engine::ProcessCommand;
use crate::keeper::format::Acceptance;
use crate::spec::{ProcId, Validated};

/// The engine as the actor of a process sees it. Tests implement it without processes.
pub trait CommandLink: Send + Sync {
    /// Commands a process. See [`Engine::command`](crate::engine::Engine::command).
    fn command(&self, id: ProcId, command: ProcessCommand, ticket: u64);
}

/// The engine as the supervisor sees it.
pub trait EngineLink: CommandLink {
    /// Starts every process of a request. See [`Engine::launch`](crate::engine::Engine::launch).
    fn launch(&self, request: Validated);
    /// Starts every process of a request. The answer comes once the keeper's journal holds them:
    /// then the client may drop its own copy. The answer is an error if the keeper is gone.
    fn launch_acknowledged(&self, request: Validated) -> oneshot::Receiver<Acceptance>;
    /// Deletes an ended process. The answer comes once no later worker can know the process; it is
    /// an error if the keeper is gone. See [`Engine::forget`](crate::engine::Engine::forget).
    fn forget(&self, id: ProcId) -> oneshot::Receiver<()>;
    /// Records an order of shutdown, for the next worker.
    fn note(&self, order: Shutdown);
    /// Records that a process was assigned, for the next worker.
    fn note_assignment(&self);
}
