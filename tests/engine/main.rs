//! The engine with real children, and the frozen formats of its reports.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

#[path = "../support/mod.rs"]
mod support;

mod captures;
mod control;
mod control_groups;
#[cfg(debug_assertions)]
mod faults;
mod holdings;
mod processes;
mod report;
mod sandbox;
