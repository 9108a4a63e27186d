//! The command line: what was asked for, and how the program talks to its user.

pub mod client;
pub mod doctor;
pub mod host;
pub mod logging;
pub mod options;
pub mod output;
pub mod reload;
pub mod run;
pub mod run_command;
pub mod show;
pub mod validate;

mod definition;
mod help;
