//! The dispatch of requests that a server sends, over whatever transport.
//!
//! [`core`] knows requests and answers and nothing of a transport: it turns a decoded request into
//! calls on the actors, and their answers and the changes of processes into messages. A transport is
//! a sibling: [`websocket`] keeps one connection to a server, and registers on it.

pub mod core;
pub mod websocket;
