//! Procstar: runs Linux processes from declarative specs and tells exactly what became of them.

pub mod actors;
pub mod cli;
pub mod config;
pub mod engine;
pub mod http;
pub mod net;
pub mod report;
pub mod spec;
pub mod wire;
