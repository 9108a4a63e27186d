//! (being built)

pub mod procfs;
