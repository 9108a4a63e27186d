//! The worker of a run: its actors, its link to the keeper, and its knowledge of the run.

use std::path::PathBuf;
use std::sync::Arc;

use actix::Addr;
use tokio::sync::oneshot;

use crate::actors::Handle;
use crate::actors::keeper_link::KeeperLink;
use crate::actors::supervisor::Supervisor;
use crate::app::patience::Patience;
use crate::clock::TimePoint;
use crate::keeper::format::Printing;
use crate::page_key::PageKey;
use crate::report::ResultContext;
use crate::spec::ProcId;

/// The actors of a run.
pub(super) struct Worker {
    pub(super) supervisor: Addr<Supervisor>,
    pub(super) actors: Handle,
    pub(super) link: Arc<KeeperLink>,
    /// The process that the user launched, and its parent.
    pub(super) launched: (u32, u32),
    /// The start of the user's process.
    pub(super) start: TimePoint,
    /// Whether this is the first worker.
    pub(super) first: bool,
    /// The instance's directory.
    pub(super) dir: Option<PathBuf>,
    /// INPUT's processes, of the first worker.
    pub(super) input: Vec<ProcId>,
    /// The number of processes at the beginning.
    pub(super) count: usize,
    pub(super) conn_id: String,
    /// The key of the page's sessions.
    pub(super) page_key: PageKey,
    /// The progress of an earlier worker in printing results.
    pub(super) printing: Printing,
    pub(super) context: Arc<ResultContext>,
    pub(super) patience: Patience,
}

/// The events that end a run.
pub(super) struct Ends {
    /// The life cycle is done.
    pub(super) done: oneshot::Receiver<()>,
    /// The keeper is gone.
    pub(super) gone: oneshot::Receiver<()>,
}
