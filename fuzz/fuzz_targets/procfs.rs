//! Feeds [`properties::procfs`] by coverage.
#![no_main]

#[path = "../properties/mod.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::procfs::check(data));
