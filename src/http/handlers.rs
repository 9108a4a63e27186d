//! The handlers of routes: each sends a message to an actor, and returns the reply as an answer.

pub(super) mod events;
pub(super) mod output;
pub(super) mod page;
pub(super) mod procs;
pub(super) mod session;
pub(super) mod state;
