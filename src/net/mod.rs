//! The network side of the agent: connects to a host and a port, and exchanges whole messages.
//!
//! ```text
//! dial: name -> addresses -> TCP -> TLS (tls) -> upgrade (answer) -> raw stream
//!                                                                        |
//! socket: one task per connection ----------------------------------------
//!    reader: bytes -> decoder -> Inbound, through a small bounded channel
//!    writer: outbound queue, control slots -> frames -> bytes
//! ```
//!
//! This module neither interprets messages nor has timers: the owner of the [`Link`](socket::Link)
//! implements the read timeout, pings and reconnecting. [`frames`], [`decoder`] and [`backoff`] do no
//! I/O.

pub mod activity;
mod answer;
pub mod backoff;
pub mod decoder;
pub mod dial;
mod dial_error;
pub mod frames;
pub mod inbound;
pub mod keep_alive;
pub mod outbound;
mod reader;
pub mod socket;
pub mod tls;
pub mod tls_reason;
pub mod tls_server;
#[cfg(test)]
mod tls_tests;
mod upgrade;
mod writer;
