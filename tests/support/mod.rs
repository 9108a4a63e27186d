//! Helpers for the tests of all rooms.
//!
//! nextest runs each test in a process of its own, so a test may become a subreaper, lower its
//! limits, make its system calls fail, and count its descriptors, children and CPU time.
#![allow(dead_code, reason = "each room uses a part")]

pub mod engine;
pub mod private;
pub mod process;
pub mod wait;
