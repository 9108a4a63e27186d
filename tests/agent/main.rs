//! The agent: its actors, its network code, and the program against a mock scheduler or a keeper
//! that the test simulates.
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
