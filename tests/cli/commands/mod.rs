//! The commands that talk to a running instance, as a user types them: the built program, a real instance, in pipes and on a terminal.

mod descriptors;
mod events;
mod finding;
mod gone;
mod harness;
mod ids;
mod life;
mod log_level;
mod logs;
mod maxima;
mod order;
mod paths;
mod places;
mod secrets;
mod signals;
mod strangers;
mod taken;
mod tampering;
mod terminal;
mod ui;
mod unwritten;
mod upgrades;
