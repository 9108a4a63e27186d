//! What the tests of all rooms share.
#![allow(dead_code, reason = "no room uses all of it")]

pub mod engine;
pub mod open_fds;
pub mod private;
