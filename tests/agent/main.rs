//! The agent: its actors, its side of the network, and the program with a server or a keeper that a
//! test plays.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

#[path = "../support/mod.rs"]
mod support;

mod actors;
mod fuzz_corpus;
mod message;
mod mock_server;
mod net;
mod printing;
mod program;
