//! Procstar: runs Linux processes from declarative specs and tells exactly what became of them.
//!
//! # Theory of operation
//!
//! A request comes as JSON (INPUT, HTTP) or MessagePack (the server). [`spec`] reads and validates the whole of it before
//! anything starts. The supervisor among the [`actors`] accepts it or refuses it whole, and hands it to the [`engine`].
//!
//! There are two processes of this one program. The [`keeper`] is what the user launched. It has the engine: a thread,
//! with a few more that clone children, which owns every child, its pidfd and the pipes it is captured through, and tells of each process at
//! most one start and exactly one end. The keeper notes all of it, in memory and in a journal, and passes it on to the
//! *worker*, its child, where the actors and the network live, on one thread that nothing blocks. When the worker dies it is started
//! again, and goes on from what the keeper noted. A process's actor makes *records* of what the engine tells; the results actor keeps the
//! latest record of every process, and passes each change, in order, to its subscribers. Who sends a result to somebody ([`http`],
//! the connection, the one-shot's writer) makes it at that moment from the record and the captures, as a stream ([`report`]):
//! output is pulled from its capture by range, never pushed through a queue, and never in memory as a whole.
//!
//! The connection actor speaks the protocol of [`wire`] over the sockets of [`net`]. It is a subscriber like any other, and what it
//! queues for a server is dropped with the connection; a new connection starts from a new snapshot.
//!
//! # Who owns what, and what dropping does
//!
//! - A child belongs to the engine until it is reaped. Dropping the engine leaves children as they are.
//! - A capture is a file in the instance's directory, which the worker reads itself. A process's deletion removes the file: a
//!   reader that has begun reads on to its end.
//! - The instance's directory belongs to the keeper, and is removed at the ordered end, unless it is a lasting one.
//! - The supervisor owns the processes' actors. An actor ends when its process is deleted.
//! - A link owns its socket: dropping it closes TCP.
//!
//! # The end
//!
//! Signals and the connection give orders to the supervisor, whose life cycle (active, idling, terminating, killing, done) is
//! pure data in [`actors::lifecycle`]. When it is done, the results are written, the server is told, HTTP stops, the worker says goodbye
//! to its keeper, and both exit.

pub mod actors;
pub mod api;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dispatch;
pub mod engine;
mod error_chain;
pub mod http;
pub mod keeper;
pub mod logging;
pub mod mem;
pub mod net;
pub mod output;
pub mod page_key;
mod path_bytes;
pub mod procfs;
pub mod quantity;
pub mod report;
pub mod rotating;
pub mod sampler;
pub mod signal;
pub mod spec;
mod text;
pub mod trust;
mod users;
pub mod wire;
