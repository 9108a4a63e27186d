//! The dispatch of a scheduler's requests, over any transport.
//!
//! [`core`] has requests and answers without a transport: it turns a decoded request into messages
//! to the actors, and their answers and the changes of processes into messages of the protocol.
//! Each transport is a sibling: [`websocket`] keeps one connection to a scheduler, and registers on
//! it.

pub mod core;
pub mod websocket;
