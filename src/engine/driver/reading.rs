//! The driver's part in captures: reading pipes, and finding out when captured files have no writer left.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::pipes::{self, PipeSize};
use super::{Driver, OpenCapture, Pipe, Process, Source, files, filters};
use crate::clock::TimePoint;
use crate::engine::capture::{Capture, Captures, PieceLog, Store, Truncation};
use crate::engine::state::{Input, State};
use crate::engine::sys::{self, Writers};
use crate::engine::timers::Alarm;

/// How much is read at once.
pub(super) const BUFFER: usize = 256 * 1024;
/// How much is read of one pipe before others have their turn.
const TURN: usize = 1024 * 1024;
/// How often it is looked whether filters have stored what has come.
const FILTERS_LOOK: Duration = Duration::from_millis(50);

/// Tells when files are closed by a writer. Used only where a process has left a survivor that holds its capture.
pub(super) struct Watcher {
    inotify: Inotify,
    watches: HashMap<WatchDescriptor, u64>,
}

impl Watcher {
    pub(super) fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        Ok(Watcher { inotify, watches: HashMap::new() })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// The kinds of open captures.
enum Kind {
    Pipe,
    File,
    Filter(i32),
}

impl Kind {
    fn of(open: &OpenCapture) -> Kind {
        match open {
            OpenCapture::Pipe(_) => Kind::Pipe,
            OpenCapture::File { .. } => Kind::File,
            OpenCapture::Filter { pid, .. } => Kind::Filter(*pid),
        }
    }
}

/// What came of reading a pipe for one turn.
enum Turn {
    /// There may be more.
    More,
    /// Nothing more for now.
    Empty,
    /// No writer is left, and all is read.
    End,
}

impl Driver {
    /// A pipe can be read.
    pub(super) fn pipe_readable(&mut self, serial: u64, index: usize) {
        if let Turn::End = self.read_pipe(serial, index, true) {
            self.close_capture(serial, index);
            self.apply(serial, Input::CapturesClosed);
        }
    }

    /// Reads one pipe for a turn, into its capture; once that is frozen, into nothing, so that no survivor
    /// is stopped by a full pipe or killed by a closed one.
    ///
    /// Where pieces are kept, and the `order` of this pipe and others is asked, the turn is a single read: epoll tells of pipes in the
    /// order in which they became readable.
    fn read_pipe(&mut self, serial: u64, index: usize, order: bool) -> Turn {
        let Some(process) = self.processes.get_mut(&serial) else { return Turn::Empty };
        let Process { open, captures, cut_short, last_piece, .. } = process;
        let Some(OpenCapture::Pipe(Pipe { reader, store, pieces, size, .. })) =
            open.iter_mut().find(|open| open.index() == index)
        else {
            return Turn::Empty;
        };
        let turn = if order && pieces.is_some() { 1 } else { TURN };
        let mut total = 0;
        while total < turn {
            let n = match nix::unistd::read(&*reader, &mut self.buffer) {
                Ok(0) => return Turn::End,
                Ok(n) => n,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(nix::errno::Errno::EAGAIN) => return Turn::Empty,
                Err(_) => {
                    note(captures, cut_short, index, Truncation::Error);
                    return Turn::End;
                }
            };
            total += n;
            if n >= pipes::DEFAULT
                && *size == PipeSize::Default
                && let Some(larger) = self.pipes.offer()
            {
                // One that is refused is not asked for again.
                let got = sys::grow_pipe(reader, larger).unwrap_or(0);
                self.pipes.take(got);
                *size = PipeSize::Taken(got);
            }
            // Once the capture is frozen, or storing has failed, what still comes is dropped.
            let frozen = captures.at(index).is_some_and(Capture::is_frozen);
            let wanted = !frozen && !is_noted(captures, cut_short, index);
            if !wanted {
                continue;
            }
            let follows = last_piece.replace(index) == Some(index);
            let noted = pieces.as_mut().map_or(Ok(()), |pieces| {
                pieces.add(TimePoint::now().monotonic_nanos, n as u64, follows)
            });
            let bytes = self.buffer.get(..n).unwrap_or_default();
            if let Err(error) = noted.and_then(|()| store.write(bytes)) {
                tracing::error!(proc_id = %process.id, %error, "cannot store captured output");
                note(captures, cut_short, index, Truncation::Error);
            }
        }
        Turn::More
    }

    /// Takes an ended capture from the open ones.
    pub(super) fn close_capture(&mut self, serial: u64, index: usize) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        let Some(at) = process.open.iter().position(|open| open.index() == index) else { return };
        if let OpenCapture::Pipe(pipe) = process.open.swap_remove(at) {
            self.drop_pipe(pipe);
        }
    }

    /// Closes a pipe.
    pub(super) fn drop_pipe(&mut self, pipe: Pipe) {
        self.poller.unwatch(&pipe.reader, pipe.token);
        if let PipeSize::Taken(size) = pipe.size {
            self.pipes.give_back(size);
        }
    }

    /// Watches a pipe that an fd's output is read from.
    pub(super) fn open_pipe(
        &mut self,
        serial: u64,
        index: usize,
        reader: OwnedFd,
        (store, pieces): (Store, Option<PieceLog>),
    ) -> io::Result<OpenCapture> {
        let token = self.poller.watch(&reader, Source::Pipe(serial, index))?;
        // What was asked for, or grown by an earlier program, counts.
        let size = match sys::pipe_size(&reader) {
            Some(size) if size != pipes::DEFAULT => {
                self.pipes.take(size);
                PipeSize::Taken(size)
            }
            _ => PipeSize::Default,
        };
        Ok(OpenCapture::Pipe(Pipe { index, reader, token, store, pieces, size }))
    }

    /// After a process's exit: takes out every capture that nobody writes any more, and has the others watched.
    pub(super) fn close_what_has_ended(&mut self, serial: u64) {
        let Some(process) = self.processes.get(&serial) else { return };
        let open: Vec<(usize, Kind)> =
            process.open.iter().map(|open| (open.index(), Kind::of(open))).collect();
        for (index, kind) in open {
            let ended = match kind {
                Kind::Pipe => matches!(self.read_pipe(serial, index, false), Turn::End),
                Kind::File => self.file_has_ended(serial, index),
                Kind::Filter(pid) => self.filter_has_ended(pid) && self.is_seen(serial, index),
            };
            if ended {
                self.close_capture(serial, index);
            }
        }
    }

    /// Whether nobody writes a captured file any more; if somebody does, its closing is watched for.
    fn file_has_ended(&mut self, serial: u64, index: usize) -> bool {
        if self.capture(serial, index).is_some_and(Capture::is_in_named_file) {
            return self.named_file_has_ended(serial, index);
        }
        if !self.is_written(serial, index) {
            return true;
        }
        let Some(capture) = self.capture(serial, index) else { return true };
        let flags = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_ONESHOT;
        // Without a watch, the grace decides.
        if let Ok(held) = capture.hold()
            && let Ok(watch) = self.watcher.inotify.add_watch(&held.path(), flags)
        {
            self.watcher.watches.insert(watch, serial);
        }
        // It may have been closed before it was watched.
        !self.is_written(serial, index)
    }

    /// Whether somebody still writes a captured file. Where a filter has, it must have come to its end.
    fn is_written(&mut self, serial: u64, index: usize) -> bool {
        let Some(Process { captures, cut_short, .. }) = self.processes.get_mut(&serial) else {
            return false;
        };
        let Some(capture) = captures.at(index) else { return false };
        let written = capture.writers() == Writers::Some;
        if !written && capture.is_orphaned() {
            note(captures, cut_short, index, Truncation::Error);
        }
        written
    }

    fn capture(&self, serial: u64, index: usize) -> Option<&Capture> {
        self.processes.get(&serial).and_then(|process| process.captures.at(index))
    }

    /// Some watched file has been closed by a writer.
    pub(super) fn file_closed(&mut self) {
        let Ok(events) = self.watcher.inotify.read_events() else { return };
        for event in events {
            if let Some(serial) = self.watcher.watches.remove(&event.wd) {
                self.captures_may_have_ended(serial);
            }
        }
    }

    /// Something has come to its end that a process's captures may have waited for.
    pub(super) fn captures_may_have_ended(&mut self, serial: u64) {
        if matches!(self.processes.get(&serial), Some(Process { state: State::Draining(_), .. })) {
            self.close_what_has_ended(serial);
            self.apply(serial, Input::CapturesClosed);
        }
    }

    /// The grace has passed: what survivors have written so far counts, and no more.
    pub(super) fn grace_over(&mut self, serial: u64) {
        if !matches!(self.processes.get(&serial), Some(Process { state: State::Draining(_), .. })) {
            return;
        }
        self.close_what_has_ended(serial);
        let Some(process) = self.processes.get_mut(&serial) else { return };
        let Process { open, captures, cut_short, filters_until, .. } = process;
        let finishing = |open: &OpenCapture| filters::is_finishing(open, captures);
        let until = *filters_until.get_or_insert_with(|| Instant::now() + filters::PATIENCE);
        let unseen = files::look(open, captures, serial, &self.inbox)
            && files::patience(until) > Instant::now();
        if unseen || (open.iter().any(finishing) && Instant::now() < until) {
            self.timers.set(Instant::now() + FILTERS_LOOK, Alarm::DrainTimeout(serial));
            return;
        }
        let mut stopped = Vec::new();
        for open in open.iter() {
            let why = if finishing(open) { Truncation::Error } else { Truncation::Survivor };
            note(captures, cut_short, open.index(), why);
            if let OpenCapture::Filter { pid, .. } = open {
                stopped.push(*pid);
            }
        }
        open.retain(|open| !matches!(open, OpenCapture::File { .. }));
        self.apply(serial, Input::GraceOver);
        // What still comes is not to take any room.
        stopped.into_iter().for_each(|pid| self.filters.stop(pid));
    }
}

/// Notes why a capture is cut short; the first reason stays.
pub(super) fn note(
    captures: &Captures,
    cut_short: &mut Vec<(crate::spec::FdName, Truncation)>,
    index: usize,
    why: Truncation,
) {
    if !is_noted(captures, cut_short, index)
        && let Some((fd, _)) = captures.iter().nth(index)
    {
        cut_short.push((fd, why));
    }
}

/// Whether a capture is noted as cut short.
fn is_noted(
    captures: &Captures,
    cut_short: &[(crate::spec::FdName, Truncation)],
    index: usize,
) -> bool {
    let fd = captures.iter().nth(index).map(|(fd, _)| fd);
    cut_short.iter().any(|(noted, _)| Some(*noted) == fd)
}
