//! The commands that talk to a running instance, as a user types them: the built program, a real instance, in pipes and on a terminal.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod events;
mod finding;
mod gone;
mod life;
mod log_level;
mod logs;
mod places;
mod signals;
mod strangers;
mod terminal;
mod upgrades;
mod world;
