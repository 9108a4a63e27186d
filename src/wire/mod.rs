//! The agent protocol: messages to bytes and back. Pure.
//!
//! Each message is one MessagePack map with the key `type`. [`parse()`] reads incoming messages
//! only as deep as their type requires, and keeps their bytes, because an answer may have to return
//! them. [`outgoing`] writes outgoing messages; callers stream large values behind a prefix made
//! here. [`info`] identifies the agent.

mod encode;
pub mod info;
pub mod outgoing;
pub mod parse;
mod scan;

pub use info::{ConnInfo, ProcInfo};
pub use outgoing::Register;
pub use parse::{Fd, Parsed, Request, StartOptions, parse};
