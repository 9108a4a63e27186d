//! What other threads report to the driver.

use crate::engine::command::Command;
use crate::engine::spawn::Spawned;

/// One thing for the driver to look at. Its mailbox holds at most one entry per process that is
/// being made, and the owner's commands.
pub(in crate::engine) enum DriverMessage {
    /// From the owner of the engine.
    Command(Command),
    /// From a spawning thread.
    Spawned(Spawned),
    /// From the thread that has sealed the captures of a process, by its number.
    Sealed(u64),
    /// A file that the process with this number writes, and that its user has named, was looked at.
    Looked(u64),
}
