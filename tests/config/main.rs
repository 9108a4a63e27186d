//! Configuration and command line as a user meets them: files, environment and arguments in,
//! settings, texts and exit codes out. The world is a map of files; nothing global is touched.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(missing_docs)]

mod command_line;
mod inherit;
mod layers;
mod log;
mod owners;
#[path = "../common/private.rs"]
mod private;
mod secrets;
mod shipped;
mod show;
mod unreadable;
mod world;
