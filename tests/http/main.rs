//! The HTTP service over real connections, with real processes, and a mock of the actors.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs,
    dead_code
)]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod client;
mod disconnects;
mod event_stats;
mod events;
mod harness;
mod listeners;
mod lists;
mod mock_supervisor;
mod openapi;
mod output;
mod page;
mod page_types;
mod peers;
mod routes;
mod sealed;
mod semantics;
mod sockets;
mod sparse_output;
mod streams;
mod unauthenticated;
