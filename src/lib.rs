//! Procstar runs Linux processes from declarative specs and reports exactly how each one ended.
//!
//! # Theory of operation
//!
//! A request arrives as JSON (the INPUT argument, HTTP) or MessagePack (the scheduler). [`spec`]
//! reads and validates all of it before anything starts. The supervisor among the [`actors`]
//! accepts or refuses it as a whole, and passes an accepted one to the [`engine`].
//!
//! Two processes run this one program. The [`keeper`] is the process that the user launches. It
//! contains the engine: a thread, with a few more that clone children. The engine owns every child,
//! its pidfd and the pipes of its output, and reports at most one start and exactly one end for
//! each process. The keeper records these events in memory and in a journal, and forwards them to
//! its child, the *worker*. The worker contains the actors and the network, on one thread that
//! never blocks. If the worker dies, the keeper starts another, which continues from the keeper's
//! records.
//!
//! In the worker, each process has an actor, which turns the engine's events into *records*. The
//! results actor holds the latest record of every process, and publishes each change, in order, to
//! its subscribers. A subscriber that sends a result ([`http`], the connection, the one-shot's
//! writer) creates it at that moment from the record and the captured output, as a stream
//! ([`report`]). It reads output from the capture by range: output passes through no queue, and is
//! never in memory as a whole.
//!
//! The connection actor speaks the protocol of [`wire`] over the sockets of [`net`]. It subscribes
//! like the others. When a connection breaks, its queue is dropped; the next connection begins with
//! a new snapshot.
//!
//! # Ownership, and the effect of dropping
//!
//! - The engine owns a child until it reaps the child. Dropping the engine does not end children.
//! - A capture is a file in the instance's directory, which the worker reads itself. Deleting a
//!   process removes the file; a reader that has opened the file still reads all of it.
//! - The keeper owns the instance's directory, and removes it at shutdown unless a state directory
//!   is configured.
//! - The supervisor owns the processes' actors. An actor ends when its process is deleted.
//! - A link owns its socket: dropping the link closes the TCP connection.
//!
//! # Shutdown
//!
//! Signals and the connection send commands to the supervisor. Its life cycle (active, idling,
//! terminating, killing, done) is pure data in [`actors::lifecycle`]. Once it is done, the worker
//! writes the results, flushes its messages to the scheduler, stops the HTTP service and says
//! goodbye to the keeper; then both processes exit.

pub mod actors;
pub mod api;
pub mod app;
pub mod cgroup;
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
