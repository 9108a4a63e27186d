//! The frozen formats: everything that crosses from one of our programs to another, or to a file.
//!
//! | bytes | types | between |
//! | --- | --- | --- |
//! | socket | [`ToKeeper`], [`ToWorker`] | a keeper and its worker |
//! | journal | [`JournalEntry`] | a keeper that died and the next one on its directory |
//! | state | [`UpgradeState`] | a keeper and the program that it becomes |
//! | succession | [`SuccessionState`] | a worker and the keeper that it becomes, of the same build |
//!
//! Socket and journal hold [frames](frame): MessagePack, a struct as an array of its fields in
//! their order, a variant by its name. The state is MessagePack with the names of the fields. So
//! the order of the fields *is* the format, and what a reader does not know it cannot skip. The
//! rule:
//!
//! - **Only append.** A new field goes to the end of its struct, with `#[serde(default)]`; a new
//!   variant goes to the end of its enum. Nothing is renamed, moved, removed or given another type.
//! - Where an older reader would misunderstand what was appended, the version of that format goes
//!   up: [`VERSION`], [`JOURNAL_VERSION`], [`STATE_VERSION`]. Older journals and states are read
//!   for ever.
//! - A variant that only newer peers know is sent only to a peer that has asked for it.
//!
//! Types of other rooms are parts of these formats, and the rule holds for them as well: `Started`,
//! `Ended`, `StopFailure`, `StopOrder` and the handover of the engine, `Validated` and `Identity`
//! of the specs, `LogSettings` of the configuration, the handovers of `instance` and `listeners`,
//! and `Mode` of `meaning`.
//!
//! Tests hold this: `upgrade_state/tests.rs` and `journal/tests.rs` read the fixtures of each
//! version in `tests/fixtures/`, and compare what is written now with the latest, byte by byte.

pub mod frame;
mod journal_entry;
mod message;
mod passed_state;
mod process_entry;
mod settings;
mod succession;
mod upgrade_state;
mod worker_state;

pub use frame::{Decoder, FrameError, MAX_FRAME, encode};
pub use journal_entry::{JOURNAL_VERSION, JournalEntry};
pub use message::{Acceptance, EventRef, ToKeeper, ToWorker, VERSION};
pub(super) use message::{SessionMessage, Sorted, WorkerRequest, is_holder, is_understood};
pub use passed_state::{PassedState, STATE_VERSION, StateError};
pub use process_entry::ProcessEntry;
pub use settings::{Allowed, KeeperSettings, Opening, ProcessLimits};
pub use succession::{CaptureFrame, Estate, HoldingFrame, SuccessionState};
pub use upgrade_state::UpgradeState;
pub use worker_state::{Printing, ShutdownCommand, WorkerState};
