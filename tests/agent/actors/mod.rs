//! The actors with probes for neighbours, in virtual time: no network, no children but where a test says so.
//!
//! Paused time stands still while anything runs, and jumps to the next timer when all wait: after a virtual
//! millisecond ([`support::settle`]) everything that was under way has been done.

mod farewell;
mod keep_alive;
mod keeper;
mod lifecycle;
mod log;
mod order;
mod progress;
mod queries;
mod random;
mod reconnect;
mod requests;
mod results;
mod server;
mod supervisor;
mod support;
mod trouble;
