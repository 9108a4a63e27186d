//! Properties of each reader of bytes from outside: one function for each, which panics if a
//! property is violated.
//!
//! The fuzz targets call these functions with generated inputs, `tests/agent/fuzz_corpus.rs` with
//! the corpus and all regressions.

#![allow(dead_code, reason = "each target uses one property")]

pub mod config;
pub mod frames;
pub mod keeper;
pub mod procfs;
pub mod spec;
pub mod wire;

/// Checks one input.
pub type Property = fn(&[u8]);

/// All properties, by the names of their targets.
pub const ALL: &[(&str, Property)] = &[
    ("spec", spec::check),
    ("wire", wire::check),
    ("frames", frames::check),
    ("procfs", procfs::check),
    ("config", config::check),
    ("keeper", keeper::check),
];

/// Takes numbers and bytes off the front of an input. At its end it returns 0 and no bytes.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Takes one byte.
    pub fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    /// Takes at most `len` bytes.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}
