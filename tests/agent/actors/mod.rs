//! Tests of single actors against fake neighbours, in virtual time, without a network. Few tests
//! start real processes.
//!
//! Paused time advances only when every task waits, and then jumps to the next timer. So after a
//! virtual millisecond ([`harness::settle`]) all actors are idle.

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
