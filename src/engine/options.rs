//! The options of an engine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::cgroup::Group;
use crate::engine::capture::CaptureDirs;
use crate::engine::plan::Inherited;
use crate::engine::restore::Restore;
use crate::engine::restriction::Restriction;
use crate::spec::KeepSpec;

/// The options of an engine.
pub struct EngineOptions {
    /// The directories of captures.
    pub capture_dirs: CaptureDirs,
    /// Distinguishes the files of this engine's captures from another's in the same directory.
    pub epoch: u64,
    /// Drain timeout: how long a survivor may hold the captures after a process's end.
    pub drain_timeout: Duration,
    /// Setup timeout, after which a process is reported as started during its child's set-up.
    pub setup_timeout: Duration,
    /// The restriction of specs, if any.
    pub restriction: Option<Arc<Restriction>>,
    /// The environment that children can inherit.
    pub inherited: Arc<Inherited>,
    /// The program to start as a [capture writer](super::capture_writer): this one.
    pub capture_writer: PathBuf,
    /// The limit of captures without a limit in the spec.
    pub limit: KeepSpec,
    /// The limit on files that a process may write, in bytes; `None` for this program's own limit.
    pub max_file_size: Option<u64>,
    /// Whether processes without this program's capabilities may gain privileges by executing
    /// set-user-ID programs and the like.
    pub gain_privileges: bool,
    /// Recreates the directories of captures if they were removed.
    pub restore: Option<Restore>,
    /// Whether to report each process's descriptors for a second holder, by
    /// [`Event::Held`](super::Event::Held).
    pub share_holdings: bool,
    /// The control group below which each process gets one of its own; `None` for none.
    pub groups: Option<Arc<Group>>,
}
