//! The command line: what was asked for, and how the program talks to its user.

pub mod client;
pub mod descriptor;
pub mod doctor;
pub mod host;
pub mod logging;
pub mod options;
pub mod output;
pub mod rehearse;
pub mod reload;
pub mod run;
pub mod run_command;
pub mod show;
pub mod validate;

mod definition;
mod help;
mod instances;
mod starting;

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
