//! What the tests of all rooms share.
#![allow(dead_code, reason = "no room uses all of it")]

pub mod engine;
pub mod private;
pub mod process;
pub mod wait;
