//! What the owner of an engine asks of its driver.

use std::sync::mpsc;

use crate::engine::event::Started;
use crate::engine::handover::Handover;
use crate::engine::stop::StopOrder;
use crate::spec::{ProcId, Validated};

/// A verb on one process, carried whole from a client to the driver: through HTTP or a dispatcher's
/// request, the supervisor, the process's actor, the frame to the keeper, and the engine.
///
/// The outcome comes back the same way, as [`Event::Signaled`](super::Event::Signaled) with the
/// ticket of the command. Starting and deleting are no such verbs: they make and remove the process
/// that these act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessCommand {
    /// Send this signal to the process alone.
    Signal(i32),
    /// Ask the process and its descendants to end, and kill them when its grace is over.
    Stop(StopOrder),
}

impl ProcessCommand {
    /// Logs that the process is about to get this command.
    pub(crate) fn log(self, id: &ProcId) {
        match self {
            ProcessCommand::Signal(signum) => {
                tracing::debug!(proc_id = %id, signum, "sending signal");
            }
            ProcessCommand::Stop(order) => tracing::debug!(proc_id = %id, ?order, "stopping"),
        }
    }
}

/// What the engine can be told to do.
pub(crate) enum Command {
    /// Start every process of a request. See [`Engine::launch`](super::Engine::launch).
    Launch(Validated),
    /// Do something to one process. See [`Engine::command`](super::Engine::command).
    Process {
        /// The process.
        id: ProcId,
        /// What to do to it.
        command: ProcessCommand,
        /// Comes back with the [`Event::Signaled`](super::Event::Signaled).
        ticket: u64,
    },
    /// Send a signal to a whole group. See [`Engine::signal_group`](super::Engine::signal_group).
    SignalGroup {
        /// The process that leads it.
        id: ProcId,
        /// The signal's number.
        signum: i32,
    },
    /// Watch a process that an earlier engine has started. See [`Engine::adopt`](super::Engine::adopt).
    Adopt(Box<Started>),
    /// Stand still. See [`Engine::quiesce`](super::Engine::quiesce).
    Quiesce(Quiesce),
    /// Drop all that is held of an ended process. See [`Engine::forget`](super::Engine::forget).
    Forget(ProcId),
    /// End the driver. Its processes run on.
    EndDriver,
}

/// A request to stand still.
pub(crate) struct Quiesce {
    /// Gets what is handed over, once no process is being made.
    pub(crate) tell: mpsc::Sender<Handover>,
    /// The driver goes on when the other end of this is dropped.
    pub(crate) resume: mpsc::Receiver<()>,
}
