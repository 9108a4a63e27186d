//! The keeper without actors: a real one, and agents that say what the test tells them to.
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

mod agents;
mod full_disk;
mod harness;
mod ledger;
mod life;
mod lives;
mod orders;
mod upgrades;
