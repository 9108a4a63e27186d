//! The HTTP service over real connections, with real processes, and a mock of the actors.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    dead_code
)]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod client;
mod described;
mod doors;
mod events;
mod figures;
mod gone;
mod harness;
mod lists;
mod mock;
mod output;
mod page;
mod peers;
mod routes;
mod sealed;
mod semantics;
mod sockets;
mod sparse;
mod streams;
mod unauthenticated;
