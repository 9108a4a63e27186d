//! The network side of the agent: from a host and a port to whole messages, and back.
//!
//! ```text
//! dial: name -> addresses -> TCP -> TLS (tls) -> upgrade (answer) -> raw stream
//!                                                                        |
//! socket: one task per connection ----------------------------------------
//!    reader: bytes -> decoder -> Inbound, through a small bounded channel
//!    writer: outbound queue, control slots -> frames -> bytes
//! ```
//!
//! Nothing here knows what a message means, and nothing here keeps time for its owner: read
//! timeout, pings and reconnecting belong to whoever holds the [`Link`](socket::Link). The pure
//! parts are [`frames`], [`decoder`] and [`backoff`].

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
