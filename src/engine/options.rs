//! What an engine is started with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::capture::CaptureDirs;
use crate::engine::plan::Inherited;
use crate::engine::restore::Restore;
use crate::engine::restriction::Restriction;
use crate::spec::KeepSpec;

/// How the engine shall work.
pub struct EngineOptions {
    /// Where captures are kept.
    pub places: CaptureDirs,
    /// Tells the files of this engine's captures from those of another one in the same directory.
    pub epoch: u64,
    /// How long after a process's end a survivor may still hold its captures.
    pub drain_grace: Duration,
    /// How long a child's set-up may take before the process is reported as running all the same.
    pub setup_patience: Duration,
    /// What specs are restricted to, where they are.
    pub restriction: Option<Arc<Restriction>>,
    /// What children can inherit.
    pub inherited: Arc<Inherited>,
    /// The program to start as a [filter](super::filter): this one.
    pub filter: PathBuf,
    /// The limit of captures whose spec sets none.
    pub limit: KeepSpec,
    /// The largest file that a process may make, in bytes; none: as large as this program's own
    /// limit allows.
    pub max_file_size: Option<u64>,
    /// Whether processes that get none of this program's capabilities may gain privileges by
    /// executing set-user-ID programs and such.
    pub gain_privileges: bool,
    /// Makes the directories of captures again where somebody has removed them.
    pub restore: Option<Restore>,
}
