//! The commands that talk to a running instance, as a user types them: the built program, a real instance, in pipes and on a terminal.

mod descriptors;
mod discovery;
mod events;
pub mod harness;
mod ids;
mod impostors;
mod instance_dirs;
mod interrupted;
mod lifecycle;
mod limits;
mod log_level;
mod logs;
mod one_process;
mod output_order;
mod paths;
mod secrets;
mod signals;
mod squatted_dirs;
mod stdout_errors;
mod tampering;
mod terminal;
mod ui;
mod upgrades;
