//! Reading what processes write, while they run.

pub(crate) mod follow;
mod merge;
mod watcher;

pub use merge::merge;
pub use watcher::Watcher;

/// How many bytes are read at once.
pub(crate) const BLOCK: usize = 32 * 1024;
