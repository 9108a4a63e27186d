//! The keeper without actors: a real keeper, and workers that send the test's messages.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::exit,
    missing_docs
)]

#[path = "../support/mod.rs"]
mod support;

#[cfg(debug_assertions)]
mod deaths;
mod full_disk;
mod harness;
mod inheritance;
mod keeper_restart;
mod launch_acknowledged;
mod signals;
mod succession;
mod upgrades;
mod worker_restart;
mod worker_session;
