//! The captures of a process: all of them, those that have not reached their end, and those that
//! may lack something.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::TimePoint;
use crate::engine::capture::{Capture, Captures, PieceLog, Store, Truncation};
use crate::engine::pipe_budget::{self, PipeBudget, PipeSize};
use crate::engine::sys;
use crate::spec::{FdName, ProcId};

/// How much is read of one pipe before others have their turn.
const TURN: usize = 1024 * 1024;
/// How long a filter may take to store what has come, once the last writer is gone and the grace
/// has passed: a file system that hangs delays the end of a process no longer.
pub(in crate::engine) const FILTER_PATIENCE: Duration = Duration::from_secs(30);
/// How long looking at a named file may delay the end of a process, once the grace has passed.
const FILE_PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether filters have stored what has come.
pub(super) const FILTER_POLL: Duration = Duration::from_millis(50);

/// A capture that has not reached its end.
pub(in crate::engine) enum OpenCapture {
    /// Read by us.
    Pipe(Pipe),
    /// Written by the process itself, or by a filter of an earlier keeper.
    File { index: usize },
    /// Read by this filter, 0 before it is started. The reading end is ours too, in case that it
    /// dies.
    Filter { index: usize, reader: OwnedFd, pid: i32 },
}

/// A pipe that we read, under this epoll token.
pub(in crate::engine) struct Pipe {
    pub(in crate::engine) index: usize,
    pub(in crate::engine) reader: OwnedFd,
    pub(in crate::engine) token: u64,
    pub(in crate::engine) store: Store,
    pub(in crate::engine) pieces: Option<PieceLog>,
    pub(in crate::engine) size: PipeSize,
}

impl OpenCapture {
    /// How many descriptors it holds.
    fn cost(&self) -> usize {
        match self {
            OpenCapture::Pipe(pipe) => {
                1 + pipe.store.descriptors() + usize::from(pipe.pieces.is_some())
            }
            OpenCapture::File { .. } => 0,
            // The reading end, and the filter's pidfd.
            OpenCapture::Filter { .. } => 2,
        }
    }

    /// The fd's index in the spec.
    pub(in crate::engine) fn index(&self) -> usize {
        match self {
            OpenCapture::Pipe(pipe) => pipe.index,
            OpenCapture::File { index } | OpenCapture::Filter { index, .. } => *index,
        }
    }
}

/// What came of reading a pipe for one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Turn {
    /// There may be more.
    More,
    /// Nothing more for now.
    Empty,
    /// No writer is left, and all is read.
    End,
}

/// How far captures are when their grace has passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct DrainCheck {
    /// Those whose last writer is gone, while their filter still stores what has come; by their
    /// indices.
    pub(in crate::engine) storing: Vec<usize>,
    /// Whether a named file is yet to be looked at.
    pub(in crate::engine) unseen: bool,
}

impl DrainCheck {
    /// Whether the captures may go on at `now`, where filters may until `until`.
    pub(super) fn may_go_on(&self, until: u64, now: u64) -> bool {
        let earlier = u64::try_from((FILTER_PATIENCE - FILE_PATIENCE).as_nanos()).unwrap_or(0);
        let looks_until = until.saturating_sub(earlier);
        (self.unseen && looks_until > now) || (!self.storing.is_empty() && now < until)
    }
}

/// The captures of one process.
pub(in crate::engine) struct Output {
    captures: Arc<Captures>,
    open: Vec<OpenCapture>,
    /// The captures that may not hold all that was written, and why.
    truncated: Vec<(FdName, Truncation)>,
    /// The fd that was read last, by its index, where pieces are kept.
    last_piece: Option<usize>,
}

impl Output {
    pub(in crate::engine) fn new(captures: Arc<Captures>) -> Output {
        Output { captures, open: Vec::new(), truncated: Vec::new(), last_piece: None }
    }

    pub(super) fn with_truncated(mut self, truncated: Vec<(FdName, Truncation)>) -> Output {
        self.truncated = truncated;
        self
    }

    pub(in crate::engine) fn captures(&self) -> &Arc<Captures> {
        &self.captures
    }

    pub(in crate::engine) fn at(&self, index: usize) -> Option<&Capture> {
        self.captures.at(index)
    }

    pub(in crate::engine) fn set_captures(&mut self, captures: Arc<Captures>) {
        self.captures = captures;
    }

    /// The captures that have not reached their end.
    pub(in crate::engine) fn all_open(&self) -> &[OpenCapture] {
        &self.open
    }

    pub(in crate::engine) fn open_count(&self) -> usize {
        self.open.len()
    }

    pub(in crate::engine) fn is_open(&self, index: usize) -> bool {
        self.open.iter().any(|open| open.index() == index)
    }

    /// A capture is open from now on.
    pub(in crate::engine) fn open(&mut self, open: OpenCapture) {
        self.open.push(open);
    }

    /// A capture has reached its end.
    pub(in crate::engine) fn close(&mut self, index: usize) -> Option<OpenCapture> {
        let at = self.open.iter().position(|open| open.index() == index)?;
        Some(self.open.swap_remove(at))
    }

    /// Takes out all that is open.
    pub(in crate::engine) fn close_all(&mut self) -> Vec<OpenCapture> {
        std::mem::take(&mut self.open)
    }

    /// How many descriptors the captures hold.
    pub(in crate::engine) fn cost(&self) -> usize {
        let open: usize = self.open.iter().map(OpenCapture::cost).sum();
        open + self.captures.named_descriptors()
    }

    /// This filter works for a capture from now on.
    pub(in crate::engine) fn filter_started(&mut self, index: usize, filter: i32) {
        for open in &mut self.open {
            if let OpenCapture::Filter { index: at, pid, .. } = open
                && *at == index
            {
                *pid = filter;
            }
        }
    }

    /// A part of a capture could not be made: it is empty.
    pub(in crate::engine) fn set_up_failed(&mut self, index: usize) {
        self.open.retain(|open| open.index() != index);
        self.truncate(index, Truncation::NotStarted);
        if let Some(capture) = self.captures.at(index) {
            capture.remove_own();
            let empty = Capture::empty(capture.spec().clone());
            self.captures = Arc::new(self.captures.with(index, empty));
        }
    }

    /// Notes why a capture is cut short; the first reason stays.
    pub(in crate::engine) fn truncate(&mut self, index: usize, why: Truncation) {
        if !is_truncated(&self.captures, &self.truncated, index)
            && let Some((fd, _)) = self.captures.iter().nth(index)
        {
            self.truncated.push((fd, why));
        }
    }

    /// Notes that the captures of a program that never ran lack its output.
    pub(in crate::engine) fn truncate_all(&mut self, why: Truncation) {
        let indices = self.captures.iter().enumerate();
        let captured: Vec<usize> =
            indices.filter(|(_, (_, capture))| capture.is_some()).map(|(index, _)| index).collect();
        captured.into_iter().for_each(|index| self.truncate(index, why));
    }

    pub(super) fn truncated(&self) -> &[(FdName, Truncation)] {
        &self.truncated
    }

    pub(super) fn take_truncated(&mut self) -> Vec<(FdName, Truncation)> {
        std::mem::take(&mut self.truncated)
    }

    /// Nothing more counts: what is open lacks what still comes. A file is not watched any more;
    /// pipes are read on.
    pub(super) fn cut(&mut self, check: &DrainCheck) {
        let open: Vec<usize> = self.open.iter().map(OpenCapture::index).collect();
        for index in open {
            let storing = check.storing.contains(&index);
            let why = if storing { Truncation::Error } else { Truncation::HeldOpen };
            self.truncate(index, why);
        }
        self.open.retain(|open| !matches!(open, OpenCapture::File { .. }));
    }

    /// The pids of the filters that still work.
    pub(in crate::engine) fn filters(&self) -> impl Iterator<Item = i32> {
        self.open.iter().filter_map(|open| match open {
            OpenCapture::Filter { pid, .. } => Some(*pid),
            OpenCapture::Pipe(_) | OpenCapture::File { .. } => None,
        })
    }

    /// Reads one pipe for a turn, into its capture; once that is frozen, into nothing, so that no
    /// survivor is stopped by a full pipe or killed by a closed one.
    ///
    /// Where pieces are kept, and the `order` of this pipe and others is asked, the turn is a
    /// single read: epoll reports pipes in the order in which they became readable.
    pub(in crate::engine) fn read(
        &mut self,
        (id, index): (&ProcId, usize),
        order: bool,
        buffer: &mut [u8],
        budget: &mut PipeBudget,
    ) -> Turn {
        let Output { captures, open, truncated, last_piece } = self;
        let pipe = open.iter_mut().find(|open| open.index() == index);
        let Some(OpenCapture::Pipe(pipe)) = pipe else { return Turn::Empty };
        let turn = if order && pipe.pieces.is_some() { 1 } else { TURN };
        let mut total = 0;
        while total < turn {
            let n = match nix::unistd::read(&pipe.reader, buffer) {
                Ok(0) => return Turn::End,
                Ok(n) => n,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(nix::errno::Errno::EAGAIN) => return Turn::Empty,
                Err(_) => {
                    self.truncate(index, Truncation::Error);
                    return Turn::End;
                }
            };
            total += n;
            pipe.grow_if_full(n, budget);
            // Once the capture is frozen, or storing has failed, what still comes is dropped.
            let frozen = captures.at(index).is_some_and(Capture::is_frozen);
            if frozen || is_truncated(captures, truncated, index) {
                continue;
            }
            let follows = last_piece.replace(index) == Some(index);
            if let Err(error) = pipe.keep(buffer.get(..n).unwrap_or_default(), follows) {
                tracing::error!(proc_id = %id, %error, "cannot store captured output");
                if let Some((fd, _)) = captures.iter().nth(index) {
                    truncated.push((fd, Truncation::Error));
                }
            }
        }
        Turn::More
    }
}

impl Pipe {
    /// Stores what was read, and notes the piece where pieces are kept.
    fn keep(&mut self, bytes: &[u8], follows: bool) -> std::io::Result<()> {
        if let Some(pieces) = &mut self.pieces {
            pieces.add(TimePoint::now().monotonic_nanos, bytes.len() as u64, follows)?;
        }
        self.store.write(bytes)
    }

    /// Asks for a larger pipe, once, if so much was read at once that it was full.
    fn grow_if_full(&mut self, n: usize, budget: &mut PipeBudget) {
        if n >= pipe_budget::DEFAULT
            && self.size == PipeSize::Default
            && let Some(larger) = budget.offer()
        {
            // One that is refused is not asked for again.
            let got = sys::grow_pipe(&self.reader, larger).unwrap_or(0);
            budget.take(got);
            self.size = PipeSize::Taken(got);
        }
    }
}

/// Whether a capture is noted as cut short.
fn is_truncated(captures: &Captures, truncated: &[(FdName, Truncation)], index: usize) -> bool {
    let fd = captures.iter().nth(index).map(|(fd, _)| fd);
    truncated.iter().any(|(noted, _)| Some(*noted) == fd)
}
