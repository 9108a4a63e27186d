//! The command line: what was asked for, and how the program talks to its user.

pub mod client;
pub mod descriptor;
pub mod doctor;
pub mod host;
pub mod options;
pub mod printing;
pub mod reload;
pub mod run_command;
pub mod show;
pub mod validate;

mod definition;
mod help;
pub(crate) mod input;
mod instances;
mod starting;
