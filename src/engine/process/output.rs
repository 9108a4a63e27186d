//! The captures of a process: all of them, the open ones, and the truncated ones.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

use crate::clock::TimePoint;
use crate::engine::capture::{Capture, Captures, ChunkLog, Store, Truncation, WrittenBy};
use crate::engine::pipe_budget::{self, PipeBudget, PipeSize};
use crate::engine::sys;
use crate::spec::{FdName, ProcId};

/// Most bytes that are read from one pipe before others have their turn.
const TURN: usize = 1024 * 1024;
/// Timeout for a capture writer to store its input, after the drain timeout, if no process writes
/// to it any more: a hung file system delays the end of a process no longer.
pub(in crate::engine) const CAPTURE_WRITER_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout for the examination of a named file, after the drain timeout.
const FILE_TIMEOUT: Duration = Duration::from_secs(5);
/// Polling interval for the progress of capture writers.
pub(super) const CAPTURE_WRITER_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A capture that has not reached its end.
pub(in crate::engine) enum OpenCapture {
    /// The engine reads it.
    Pipe(Pipe),
    /// The process itself writes it, or a capture writer of an earlier keeper.
    File { index: usize },
    /// The capture writer with this pid reads it; pid 0 before its start. We keep the reading end
    /// in case the capture writer dies.
    CaptureWriter { index: usize, reader: OwnedFd, pid: i32 },
}

/// A pipe that the engine reads, with its epoll token.
pub(in crate::engine) struct Pipe {
    pub(in crate::engine) index: usize,
    pub(in crate::engine) reader: OwnedFd,
    pub(in crate::engine) token: u64,
    pub(in crate::engine) store: Store,
    pub(in crate::engine) chunk_times: Option<ChunkLog>,
    pub(in crate::engine) size: PipeSize,
}

impl OpenCapture {
    /// The number of its descriptors.
    fn cost(&self) -> usize {
        match self {
            OpenCapture::Pipe(pipe) => {
                1 + pipe.store.descriptors() + usize::from(pipe.chunk_times.is_some())
            }
            OpenCapture::File { .. } => 0,
            // The reading end, and the capture writer's pidfd.
            OpenCapture::CaptureWriter { .. } => 2,
        }
    }

    /// The fd's index in the spec.
    pub(in crate::engine) fn index(&self) -> usize {
        match self {
            OpenCapture::Pipe(pipe) => pipe.index,
            OpenCapture::File { index } | OpenCapture::CaptureWriter { index, .. } => *index,
        }
    }
}

/// The outcome of one turn of reading a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Turn {
    /// There may be more to read.
    More,
    /// The pipe is empty.
    Empty,
    /// No writer is left, and the pipe is empty.
    End,
}

/// The state of captures at the end of the drain timeout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct DrainCheck {
    /// The indices of captures that no process writes any more, and whose capture writer still
    /// stores output.
    pub(in crate::engine) storing: Vec<usize>,
    /// Whether a named file is still to be looked at.
    pub(in crate::engine) unseen: bool,
}

impl DrainCheck {
    /// Whether the captures may stay open at `now`, with `until` as the deadline of capture
    /// writers.
    pub(super) fn may_go_on(&self, until: u64, now: u64) -> bool {
        let earlier =
            u64::try_from((CAPTURE_WRITER_TIMEOUT - FILE_TIMEOUT).as_nanos()).unwrap_or(0);
        let looks_until = until.saturating_sub(earlier);
        (self.unseen && looks_until > now) || (!self.storing.is_empty() && now < until)
    }
}

/// The captures of one process.
pub(in crate::engine) struct Output {
    captures: Arc<Captures>,
    open: Vec<OpenCapture>,
    /// The captures that may be incomplete, and why.
    truncated: Vec<(FdName, Truncation)>,
    /// The index of the fd that was read last, if chunk times are recorded.
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

    /// The indices of the captures whose pipes the engine has read to the end.
    pub(in crate::engine) fn read_to_the_end(&self) -> impl Iterator<Item = usize> {
        let all = self.captures.iter().enumerate();
        all.filter_map(|(index, (_, capture))| capture.map(|capture| (index, capture.written_by())))
            .filter(|(index, by)| {
                *by == WrittenBy::Engine
                    && !self.is_open(*index)
                    && !is_truncated(&self.captures, &self.truncated, *index)
            })
            .map(|(index, _)| index)
    }

    pub(in crate::engine) fn open_count(&self) -> usize {
        self.open.len()
    }

    pub(in crate::engine) fn is_open(&self, index: usize) -> bool {
        self.open.iter().any(|open| open.index() == index)
    }

    /// Adds an open capture.
    pub(in crate::engine) fn open(&mut self, open: OpenCapture) {
        self.open.push(open);
    }

    /// Removes a capture that has ended from the open ones.
    pub(in crate::engine) fn close(&mut self, index: usize) -> Option<OpenCapture> {
        let at = self.open.iter().position(|open| open.index() == index)?;
        Some(self.open.swap_remove(at))
    }

    /// Removes all open captures.
    pub(in crate::engine) fn close_all(&mut self) -> Vec<OpenCapture> {
        std::mem::take(&mut self.open)
    }

    /// The number of descriptors of the captures.
    pub(in crate::engine) fn cost(&self) -> usize {
        let open: usize = self.open.iter().map(OpenCapture::cost).sum();
        open + self.captures.named_descriptors()
    }

    /// Records the capture writer of a capture.
    pub(in crate::engine) fn capture_writer_started(&mut self, index: usize, writer: i32) {
        for open in &mut self.open {
            if let OpenCapture::CaptureWriter { index: at, pid, .. } = open
                && *at == index
            {
                *pid = writer;
            }
        }
    }

    /// Records that a part of a capture could not be made: the capture stays empty.
    pub(in crate::engine) fn set_up_failed(&mut self, index: usize) {
        self.open.retain(|open| open.index() != index);
        self.truncate(index, Truncation::NotStarted);
        if let Some(capture) = self.captures.at(index) {
            capture.remove_own();
            let empty = Capture::empty(capture.spec().clone());
            self.captures = Arc::new(self.captures.with(index, empty));
        }
    }

    /// Records why a capture is truncated; the first reason stays.
    pub(in crate::engine) fn truncate(&mut self, index: usize, why: Truncation) {
        if !is_truncated(&self.captures, &self.truncated, index)
            && let Some((fd, _)) = self.captures.iter().nth(index)
        {
            self.truncated.push((fd, why));
        }
    }

    /// Records that the captures of a program that never ran lack its output.
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

    /// Marks the open captures as truncated. Files are not watched any more; pipes are still read.
    pub(super) fn cut(&mut self, check: &DrainCheck) {
        let open: Vec<usize> = self.open.iter().map(OpenCapture::index).collect();
        for index in open {
            let storing = check.storing.contains(&index);
            let why = if storing { Truncation::Error } else { Truncation::HeldOpen };
            self.truncate(index, why);
        }
        self.open.retain(|open| !matches!(open, OpenCapture::File { .. }));
    }

    /// The pids of the capture writers that still work.
    pub(in crate::engine) fn capture_writers(&self) -> impl Iterator<Item = i32> {
        self.open.iter().filter_map(|open| match open {
            OpenCapture::CaptureWriter { pid, .. } => Some(*pid),
            OpenCapture::Pipe(_) | OpenCapture::File { .. } => None,
        })
    }

    /// Reads one pipe for a turn into its capture. After the freeze, output is discarded, so that a
    /// full pipe does not block a survivor, and a closed one does not kill it.
    ///
    /// If chunk times are recorded, and the `order` of several pipes matters, the turn is a single
    /// read: epoll reports pipes in the order in which they became readable.
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
        let turn = if order && pipe.chunk_times.is_some() { 1 } else { TURN };
        let mut total = 0;
        while total < turn {
            // After the freeze, or an error of storing, output is discarded.
            let frozen = captures.at(index).is_some_and(Capture::is_frozen);
            let discard = frozen || is_truncated(captures, truncated, index);
            let follows = *last_piece == Some(index);
            match pipe.take(discard, follows, buffer) {
                Taken::Bytes(0) => return Turn::End,
                Taken::Bytes(n) => {
                    total += n;
                    pipe.grow_if_full(n, budget);
                    *last_piece = Some(index);
                }
                Taken::NotStored(error) => {
                    tracing::error!(proc_id = %id, %error, "cannot store captured output");
                    if let Some((fd, _)) = captures.iter().nth(index) {
                        truncated.push((fd, Truncation::Error));
                    }
                }
                Taken::Failed(Errno::EINTR) => {}
                Taken::Failed(Errno::EAGAIN) => return Turn::Empty,
                Taken::Failed(_) => {
                    self.truncate(index, Truncation::Error);
                    return Turn::End;
                }
            }
        }
        Turn::More
    }
}

/// The outcome of taking bytes from a pipe.
enum Taken {
    /// This number of bytes; 0 at the end.
    Bytes(usize),
    /// They could not be stored.
    NotStored(io::Error),
    /// They could not be read.
    Failed(Errno),
}

impl Pipe {
    /// Takes the next bytes from the pipe, and stores them unless they are to be discarded;
    /// `follows` if no other fd was read since the last chunk.
    fn take(&mut self, discard: bool, follows: bool, buffer: &mut [u8]) -> Taken {
        if !discard && let Some(moved) = self.store.splice(&self.reader, buffer.len()) {
            return match moved {
                Ok(n) => self.stored(n, follows),
                Err(error) => match error.raw_os_error() {
                    Some(errno @ (libc::EINTR | libc::EAGAIN)) => {
                        Taken::Failed(Errno::from_raw(errno))
                    }
                    _ => Taken::NotStored(error),
                },
            };
        }
        let n = match nix::unistd::read(&self.reader, buffer) {
            Ok(n) => n,
            Err(errno) => return Taken::Failed(errno),
        };
        if discard {
            return Taken::Bytes(n);
        }
        match self.store.write(buffer.get(..n).unwrap_or_default()) {
            Ok(()) => self.stored(n, follows),
            Err(error) => Taken::NotStored(error),
        }
    }

    /// Records the chunk of bytes that are stored, if chunk times are recorded.
    fn stored(&mut self, n: usize, follows: bool) -> Taken {
        let now = || TimePoint::now().monotonic_nanos;
        match self.chunk_times.as_mut().filter(|_| n > 0) {
            Some(chunk_times) => match chunk_times.add(now(), n as u64, follows) {
                Ok(()) => Taken::Bytes(n),
                Err(error) => Taken::NotStored(error),
            },
            None => Taken::Bytes(n),
        }
    }

    /// Requests a larger pipe, once, after a read that shows that it was full.
    fn grow_if_full(&mut self, n: usize, budget: &mut PipeBudget) {
        if n >= pipe_budget::DEFAULT
            && self.size == PipeSize::Default
            && let Some(larger) = budget.offer()
        {
            // After a refusal there is no second request.
            let got = sys::grow_pipe(&self.reader, larger).unwrap_or(0);
            budget.take(got);
            self.size = PipeSize::Taken(got);
        }
    }
}

/// Whether a capture is recorded as truncated.
fn is_truncated(captures: &Captures, truncated: &[(FdName, Truncation)], index: usize) -> bool {
    let fd = captures.iter().nth(index).map(|(fd, _)| fd);
    truncated.iter().any(|(noted, _)| Some(*noted) == fd)
}
