//! What is done for each route: a message to an actor, and its reply as an answer.

pub(super) mod events;
pub(super) mod output;
pub(super) mod page;
pub(super) mod procs;
pub(super) mod session;
pub(super) mod state;
