//! The actors: who does what, and in which order things happen.
//!
//! [`supervisor`] owns a [`process`] actor per process. The engine's events come to it and go on to
//! that actor, which makes records of them for [`results`]; that one pushes each change into every
//! [`subscription`], that of the connection among them. All live on one arbiter, so a message sent
//! before another arrives before it wherever both take the same way. That order is what the protocol's
//! rules on the order of answers rest on:
//!
//! - A request accepted by the supervisor is announced to the results before its processes are launched: whoever asks for one
//!   of them then waits for its start instead of being told that it is unknown.
//! - A deletion is told to the results before it is confirmed: what is asked after the confirmation comes after it.
//! - The end of a process counts for the supervisor once the process's actor has passed it on: whatever follows from it, be it a
//!   deletion or the end of the worker, comes to the results after it.
//! - The end of the worker is told through the results: it comes after every change that came before it.
//! - An answer of the results bears the number of the last change that is in it: a reader sends it
//!   after the changes up to that number, and takes no change while it asks.
//!
//! Actors know each other as `Recipient`s, and the engine as a [`EngineLink`]: tests put probes there.

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

pub use engine_link::EngineLink;
pub use handle::{Answer, Handle, Mailboxes, ProcessAnswer, WorkerEnding};
