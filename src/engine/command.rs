//! The commands of an engine's owner to its driver.

use std::sync::{Arc, mpsc};

use crate::engine::capture::Captures;
use crate::engine::event::Started;
use crate::engine::handover::Handover;
use crate::engine::holding::Holding;
use crate::engine::stop::StopOrder;
use crate::spec::{ProcId, Validated};

/// A command on one process, passed whole from a client to the driver: through HTTP or a
/// dispatcher's request, the supervisor, the process's actor, the frame to the keeper, and the
/// engine.
///
/// The outcome takes the same way back, as [`Event::Signaled`](super::Event::Signaled) with the
/// ticket of the command. Start and deletion are separate, because they create and remove the
/// process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessCommand {
    /// Send this signal to the process alone.
    Signal(i32),
    /// Signal the process and its descendants, and kill them after a grace.
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

/// A command to the engine.
pub(crate) enum Command {
    /// Start every process of a request. See [`Engine::launch`](super::Engine::launch).
    Launch(Validated),
    /// Act on one process. See [`Engine::command`](super::Engine::command).
    Process {
        /// The process.
        id: ProcId,
        /// The process command.
        command: ProcessCommand,
        /// Returned in the [`Event::Signaled`](super::Event::Signaled).
        ticket: u64,
    },
    /// Signal a process group. See [`Engine::signal_group`](super::Engine::signal_group).
    SignalGroup {
        /// The leader of the group.
        id: ProcId,
        /// The signal's number.
        signum: i32,
    },
    /// Watch a process of an earlier engine. See [`Engine::adopt`](super::Engine::adopt).
    Adopt(Box<Started>, Option<Holding>),
    /// Read the pipes of a process that has ended. See
    /// [`Engine::adopt_ended`](super::Engine::adopt_ended).
    AdoptEnded(Arc<Captures>, Holding),
    /// Report the holdings of all processes. See
    /// [`Engine::share_holdings`](super::Engine::share_holdings).
    ShareHoldings,
    /// Duplicates for the second holder were closed. See
    /// [`Engine::lent_closed`](super::Engine::lent_closed).
    LentClosed,
    /// Pause the driver. See [`Engine::quiesce`](super::Engine::quiesce).
    Quiesce(Quiesce),
    /// Delete the record of an ended process. See [`Engine::forget`](super::Engine::forget).
    Forget(ProcId),
    /// End the driver, and leave its processes running.
    EndDriver,
}

/// A request to pause.
pub(crate) struct Quiesce {
    /// Receives the handover once no process is being started.
    pub(crate) reply: mpsc::Sender<Handover>,
    /// The driver resumes when the other end is dropped.
    pub(crate) resume: mpsc::Receiver<()>,
}
