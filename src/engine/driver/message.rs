//! Messages of other threads to the driver.

use crate::engine::command::Command;
use crate::engine::spawn::Spawned;

/// A message to the driver. Its mailbox holds at most one per process that is being made, and the
/// owner's commands.
pub(in crate::engine) enum DriverMessage {
    /// From the owner of the engine.
    Command(Command),
    /// From a spawning thread.
    Spawned(Spawned),
    /// From the thread that has sealed the captures of a process, by its number.
    Sealed(u64),
    /// The named file of the process with this number was looked at.
    Examined(u64),
}
