//! Configuration and command line as a user meets them: files, environment and arguments in,
//! settings, texts and exit codes out. The host is a map of files and variables; nothing global is touched.

mod command_line;
mod harness;
mod inherit;
mod layers;
mod log;
mod owners;
mod secrets;
mod shipped;
mod show;
mod unreadable;
