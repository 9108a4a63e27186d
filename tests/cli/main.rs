//! The commands and the configuration, as a user meets them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod completions;
mod config;
mod dashboard;
mod doctor;
mod examples;
mod first_words;
mod mistakes;
mod oneshot;
mod progress;
mod reference;
mod run;
mod schema;
mod terminal;
