//! Reads the output of processes: ranges of what is captured so far, and what comes until the end.
//!
//! A process's actor returns an [`OutputReader`] or an [`OutputFollower`]. The files are opened and
//! read by the thread that uses it, so that a slow disk does not delay the actor.

pub(crate) mod follow;
mod merge;
mod range;
mod reader;
mod watcher;

pub use range::OutputRange;
pub use reader::{OutputError, OutputFollower, OutputReader, ProcessEnd};
pub use watcher::Watcher;

/// The size of a block, in bytes.
pub(crate) const BLOCK: usize = 32 * 1024;
