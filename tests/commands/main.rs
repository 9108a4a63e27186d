//! The commands that talk to a running instance, as a user types them: the built program, a real instance, in pipes and on a terminal.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod descriptors;
mod events;
mod finding;
mod gone;
mod ids;
mod life;
mod log_level;
mod logs;
mod maxima;
#[path = "../common/open_fds.rs"]
mod open_fds;
mod order;
mod paths;
mod places;
#[path = "../common/private.rs"]
mod private;
mod secrets;
#[path = "../common/terminal.rs"]
mod session;
mod signals;
mod strangers;
mod taken;
mod tampering;
mod terminal;
mod ui;
mod unwritten;
mod upgrades;
mod world;
