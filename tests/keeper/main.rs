//! The keeper without actors: a real one, and agents that say what the test tells them to.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::exit,
    missing_docs
)]

mod agents;
mod full_disk;
mod ledger;
mod life;
mod lives;
#[path = "../common/open_fds.rs"]
mod open_fds;
mod orders;
mod upgrades;
mod world;
