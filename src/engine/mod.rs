//! The engine: starts processes, captures their output, and waits for their end. It uses no actors.
//!
//! One thread, the driver, owns every process: its pidfd, the reading ends of its pipes, its state.
//! It sleeps in epoll until a child ends, a pipe becomes readable, a command arrives or a timer
//! expires; the work per event does not grow with the number of processes. A few other threads only
//! clone children.
//!
//! [`Engine`] is its narrow handle: commands go in, [`Event`]s come out, in this order per process:
//! at most one [`Event::Started`], then exactly one [`Event::Ended`]. Captures are shared: the
//! holder of an `Arc` of [`Captures`] reads them without the engine. Dropping the last handle ends
//! the driver, and leaves the processes running.

pub(crate) mod below;
mod capture;
mod child;
mod command;
mod containment;
mod creds;
#[doc(hidden)]
pub mod death_points;
mod driver;
mod event;
mod exit_events;
#[doc(hidden)]
pub mod failpoints;
mod failure;
mod foreign;
mod group_order;
mod handle;
mod handover;
mod helpers;
mod holding;
mod lent;
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
mod sandbox_probe;
mod spawn;
mod stop;
pub(crate) mod sys;
mod timers;

pub(crate) use capture::can_restrict_calls;
pub use capture::capture_writer::{self, CAPTURE_WRITER};
pub use capture::{
    Capture, CaptureDirs, CaptureSize, Captures, ChunkCursor, ChunkTime, Hash, Held, Loss,
    Truncation, View,
};
pub(crate) use capture::{held_file, request_files_from};
pub use command::ProcessCommand;
pub use event::{Ended, Event, GroupEnd, Relation, Resolved, Started, Survivor, Survivors};
pub use failure::{Stage, StartFailure, StopFailure};
pub use foreign::{ForeignStatus, foreign_status_source};
pub use handle::{Engine, Quiesced, StillStarting};
pub use handover::{Handover, HandoverShared};
pub use holding::{HeldCapture, HeldWriter, Holding};
pub use options::EngineOptions;
pub use own_process::{
    become_subreaper, die_of, has_default_action, ignore, ignored_signals, is_ignored,
    restore_ignored,
};
pub use plan::Inherited;
pub use process::handover::HandoverProcess;
pub use restore::Restore;
pub use restriction::{Allowlist, Restriction};
pub(crate) use rusage::no_usage;
pub use sandbox_probe::probe_sandbox;
pub use stop::{StopCause, StopOrder, StopPolicy};
