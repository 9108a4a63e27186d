//! Configuration and command line as a user sees them: settings, texts and exit codes that result
//! from files, environment and arguments. Files and environment are simulated; the tests change no
//! global state.

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
