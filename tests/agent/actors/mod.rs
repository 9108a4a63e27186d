//! The actors with probes for neighbours, in virtual time: no network, no children but where a test says so.
//!
//! Paused time stands still while anything runs, and jumps to the next timer when all wait: after a virtual
//! millisecond ([`harness::settle`]) everything that was under way has been done.

mod acknowledged;
mod answer_order;
mod finish;
mod harness;
mod keep_alive;
mod keeper;
mod lifecycle;
mod log;
mod mock_scheduler;
mod process_questions;
mod queries;
mod random;
mod reconnect;
mod requests;
mod results;
mod shutdown_progress;
mod supervisor;
mod unstable_scheduler;
