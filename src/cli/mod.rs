//! The command line: what was asked for, and how the program talks to its user.

pub mod client;
pub mod logging;
pub mod options;
pub mod output;
pub mod reload;
pub mod run;
pub mod show;
pub mod validate;

mod help;
