//! (being built)

pub mod access;
