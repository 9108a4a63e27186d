//! The handlers of the routes. Each sends a message to an actor and answers with its reply.

pub(super) mod events;
pub(super) mod output;
pub(super) mod page;
pub(super) mod procs;
pub(super) mod session;
pub(super) mod state;
