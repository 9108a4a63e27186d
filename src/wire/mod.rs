//! The agent protocol: messages to bytes and back. Pure.
//!
//! Each message is one MessagePack map with the key `type`. What comes is looked at only as deep as
//! its kind asks for ([`parse()`]), and stays available byte for byte, as an answer may have to
//! carry it back. What goes out is written by [`outgoing`]; large values are streamed by the
//! caller, behind a prefix made here. [`info`] says who the agent is.

mod encode;
pub mod info;
pub mod outgoing;
pub mod parse;
mod scan;

pub use info::{ConnInfo, ProcInfo};
pub use outgoing::Register;
pub use parse::{Fd, Parsed, Request, StartOptions, parse};
