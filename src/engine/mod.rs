//! The engine: makes processes, captures their output, waits for their end. No actor is anywhere in
//! it.
//!
//! One thread, the driver, owns every process: its pidfd, the reading ends of its pipes, its state.
//! It sleeps in epoll until a child ends, a pipe can be read, a command comes or a grace runs out;
//! work per event does not grow with the number of processes. A few threads beside it do nothing
//! but clone children.
//!
//! [`Engine`] is the narrow handle to it: commands go in, [`Event`]s come out, in an order that
//! holds per process: at most one [`Event::Started`], then exactly one [`Event::Ended`]. Captures
//! are shared: whoever holds an `Arc` of [`Captures`] reads them without asking the engine.
//! Dropping the last handle ends the driver; processes are left as they are.

pub(crate) mod below;
mod capture;
mod child;
mod command;
mod containment;
mod creds;
mod driver;
mod event;
#[doc(hidden)]
pub mod failpoints;
mod failure;
mod handle;
mod handover;
mod helpers;
pub(crate) mod mailbox;
mod options;
mod own_process;
mod owned_child;
pub(crate) mod permitted;
mod pipe_budget;
mod plan;
mod process;
mod restore;
mod restriction;
mod rusage;
mod spawn;
mod stop;
pub(crate) mod sys;
mod timers;

pub(crate) use capture::can_restrict_calls;
pub use capture::filter::{self, FILTER};
pub use capture::{
    Capture, CaptureDirs, CaptureSize, Captures, Hash, Held, Loss, Part, Taken, Truncation, View,
};
pub(crate) use capture::{ask_for_files, held_file};
pub use command::ProcessCommand;
pub use event::{Ended, Event, Relation, Resolved, Started, Survivor, Survivors};
pub use failure::{Stage, StartFailure, StopFailure};
pub use handle::{Engine, Quiesced, StillStarting};
pub use handover::{Handover, HandoverShared};
pub use options::EngineOptions;
pub use own_process::{
    become_subreaper, die_of, has_default_action, ignore, ignored_signals, is_ignored,
};
pub use plan::Inherited;
pub use process::handover::HandoverProcess;
pub use restore::Restore;
pub use restriction::{Allowlist, Restriction};
pub(crate) use rusage::no_usage;
pub use stop::{StopCause, StopOrder, StopPolicy};
