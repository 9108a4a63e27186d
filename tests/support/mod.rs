//! Helpers for all test programs.
//!
//! nextest runs each test in a process of its own, so a test may become a subreaper, lower its
//! limits, make its system calls fail, and count its descriptors, children and CPU time.
#![allow(dead_code, reason = "each test program uses a part")]

pub mod engine;
pub mod private;
pub mod process;
pub mod wait;
