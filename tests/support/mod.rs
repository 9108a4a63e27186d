//! What the tests of all rooms share.
//!
//! Each test may do to its process what it likes, for nextest runs each in one of its own: become the
//! parent of orphans, lower its limits, let its system calls fail, count its descriptors, children and CPU time.
#![allow(dead_code, reason = "no room uses all of it")]

pub mod engine;
pub mod private;
pub mod process;
pub mod wait;
