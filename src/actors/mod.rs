//! The actors, their tasks, and the order of their messages.
//!
//! [`supervisor`] owns a [`process`] actor per process. It forwards the engine's events, and the
//! questions about one process, to that actor, which makes records for [`results`]. The results
//! push each change into every [`subscription`], such as that of the connection. All actors live on
//! one arbiter: of two messages that take the same way, the first one sent arrives first. The
//! protocol's rules about the order of answers rest on that:
//!
//! - The supervisor announces the processes of a request to the results before it launches them, so
//!   the results list them in the order of acceptance.
//! - A process's actor publishes a record before it answers the questions that wait for it: a
//!   client that has the answer finds the record in the results.
//! - The supervisor removes a process from the results before it confirms the deletion: later
//!   questions see the process no more.
//! - The supervisor counts a process as ended once its actor has published the end: a deletion, or
//!   the end of the worker, reaches the results after it.
//! - The end of the worker is a change in the results: it follows every earlier change.
//! - An answer of the results bears the number of the last change that it contains: a reader sends
//!   it after the changes up to that number, and takes no change while it asks.
//!
//! Actors know each other as `Recipient`s, and the engine as an [`EngineLink`]: tests replace them.

mod engine_link;
mod handle;
pub mod keeper_link;
pub mod lifecycle;
pub mod messages;
#[cfg(test)]
pub(crate) mod mock_supervisor;
pub mod process;
pub mod quota;
pub mod results;
pub mod sampler;
pub mod shutdown;
pub mod signals;
pub mod status;
pub mod subscription;
pub mod supervisor;

pub use engine_link::{CommandLink, EngineLink};
pub use handle::{Answer, Handle, Mailboxes, ProcessAnswer, WorkerEnding};
