//! The command line: parses arguments and prints. A run of processes goes to `app`, which depends
//! on this module and not the reverse.
//!
//! [`arguments`] are parsed with the `definition` of the whole command line, and become an
//! [`invocation`] together with the configuration ([`parse`]). The commands that need no actor are
//! carried out here: [`client`] for those that address a running instance, one file for each of the
//! others.

pub mod arguments;
pub mod client;
pub mod descriptor;
pub mod doctor;
pub mod host;
pub mod host_command;
pub mod invocation;
pub mod output_format;
pub mod parse;
pub mod printing;
pub mod run_command;
pub mod show;
pub mod upgrade;
pub mod validate;

pub(crate) mod input;

mod complete;
mod definition;
mod help;
mod help_page;
mod instances;
mod printable;
mod process_options;
mod starting;
mod suggest;
