//! What the owner of an engine asks of its driver.

use crate::engine::driver::handover::Quiesce;
use crate::engine::event::Started;
use crate::engine::stop::StopOrder;
use crate::spec::{ProcId, Validated};

/// What the engine can be told to do.
pub(crate) enum Command {
    /// Start every process of a request. See [`Engine::launch`].
    Launch(Validated),
    /// Send a signal. See [`Engine::signal`].
    Signal {
        /// The process.
        id: ProcId,
        /// The signal's number.
        signum: i32,
        /// Comes back with the [`Event::Signaled`].
        ticket: u64,
    },
    /// Send a signal to a whole group. See [`Engine::signal_group`].
    SignalGroup {
        /// The process that leads it.
        id: ProcId,
        /// The signal's number.
        signum: i32,
    },
    /// Stop a process. See [`Engine::stop`].
    Halt {
        /// The process.
        id: ProcId,
        /// How.
        order: StopOrder,
        /// Comes back with the [`Event::Signaled`].
        ticket: u64,
    },
    /// Watch a process that an earlier engine has started. See [`Engine::adopt`].
    Adopt(Box<Started>),
    /// Stand still. See [`Engine::quiesce`].
    Quiesce(Quiesce),
    /// Drop all that is held of an ended process. See [`Engine::forget`].
    Forget(ProcId),
    /// End the driver.
    Stop,
}
