//! Configuration and command line as a user meets them: files, environment and arguments in,
//! settings, texts and exit codes out. The world is a map of files; nothing global is touched.

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
