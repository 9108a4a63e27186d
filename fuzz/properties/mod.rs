//! What holds for any bytes: one function for each reader of bytes from outside, which panics where it does not hold.
//!
//! The fuzz targets call these with what libFuzzer makes up; `tests/agent/fuzz_corpus.rs` calls them with the corpus and with
//! everything that was ever found.

#![allow(dead_code, reason = "each target uses one of them")]

pub mod config;
pub mod frames;
pub mod keeper;
pub mod procfs;
pub mod spec;
pub mod wire;

/// A property, by the name of its target.
pub type Property = fn(&[u8]);

/// All of them.
pub const ALL: &[(&str, Property)] = &[
    ("spec", spec::check),
    ("wire", wire::check),
    ("frames", frames::check),
    ("procfs", procfs::check),
    ("config", config::check),
    ("keeper", keeper::check),
];

/// Numbers and bytes taken off the front of an input; zeros and nothing once it is used up.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// One byte.
    pub fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    /// At most `len` bytes.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}
