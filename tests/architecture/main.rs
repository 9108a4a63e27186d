//! Checks the rules of docs/architecture.md in the text of the sources.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod boundaries;
mod circles;
mod layering;
