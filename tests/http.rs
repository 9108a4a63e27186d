//! The HTTP service over real connections, with real processes, and a mock of the actors.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    dead_code
)]

#[path = "http/access.rs"]
mod access;
#[path = "http/client.rs"]
mod client;
#[path = "http/described.rs"]
mod described;
#[path = "http/doors.rs"]
mod doors;
#[path = "http/events.rs"]
mod events;
#[path = "http/figures.rs"]
mod figures;
#[path = "http/gone.rs"]
mod gone;
#[path = "http/lists.rs"]
mod lists;
#[path = "http/mock.rs"]
mod mock;
#[path = "http/output.rs"]
mod output;
#[path = "http/page.rs"]
mod page;
#[path = "common/private.rs"]
mod private;
#[path = "common/engine.rs"]
mod rig;
#[path = "http/routes.rs"]
mod routes;
#[path = "http/sealed.rs"]
mod sealed;
#[path = "http/semantics.rs"]
mod semantics;
#[path = "http/sockets.rs"]
mod sockets;
#[path = "http/sparse.rs"]
mod sparse;
#[path = "http/streams.rs"]
mod streams;
#[path = "http/unauthenticated.rs"]
mod unauthenticated;
#[path = "http/world.rs"]
mod world;
