//! The driver's part in captures: it watches and reads pipes, and finds out when captured files
//! have no writer left.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::filters::Filters;
use super::message::DriverMessage;
use super::poller::{Poller, Source};
use crate::engine::capture::{Capture, PieceLog, Store, Truncation};
use crate::engine::mailbox::Mailbox;
use crate::engine::pipe_budget::{self, PipeBudget, PipeSize};
use crate::engine::process::Process;
use crate::engine::process::output::{DrainCheck, OpenCapture, Output, Pipe, Turn};
use crate::engine::sys::{self, Writers};
use crate::engine::timers::Timers;

/// How much is read at once.
const BUFFER: usize = 256 * 1024;

/// Reports when files are closed by a writer. Used only if a process has left a survivor that holds
/// its capture.
pub(super) struct Watcher {
    inotify: Inotify,
    watches: HashMap<WatchDescriptor, u64>,
}

impl Watcher {
    fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        Ok(Watcher { inotify, watches: HashMap::new() })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Watches the file of a capture, whose process has this number.
    fn add(&mut self, capture: &Capture, serial: u64) {
        let flags = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_ONESHOT;
        // Without a watch, the grace decides.
        if let Ok(held) = capture.hold()
            && let Ok(watch) = self.inotify.add_watch(&held.path(), flags)
        {
            self.watches.insert(watch, serial);
        }
    }

    /// The processes of which a watched file was closed by a writer.
    pub(super) fn closed(&mut self) -> Vec<u64> {
        let events = self.inotify.read_events().unwrap_or_default();
        events.into_iter().filter_map(|event| self.watches.remove(&event.wd)).collect()
    }
}

/// What the driver waits and reads with.
pub(super) struct Io {
    pub(super) poller: Poller,
    pub(super) timers: Timers,
    pub(super) mailbox: Arc<Mailbox<DriverMessage>>,
    pub(super) watcher: Watcher,
    pub(super) filters: Filters,
    pipes: PipeBudget,
    /// Pipes are read through this: one hot buffer is faster than fresh ones.
    buffer: Box<[u8]>,
}

impl Io {
    pub(super) fn new(mailbox: Arc<Mailbox<DriverMessage>>) -> io::Result<Self> {
        let mut poller = Poller::new()?;
        let watcher = Watcher::new()?;
        poller.watch(mailbox.fd(), Source::Mailbox)?;
        poller.watch(watcher.fd(), Source::Watcher)?;
        Ok(Io {
            poller,
            timers: Timers::default(),
            mailbox,
            watcher,
            filters: Filters::default(),
            pipes: PipeBudget::of_system(),
            buffer: vec![0; BUFFER].into_boxed_slice(),
        })
    }

    /// Reads the pipe of a capture for a turn; returns whether the capture has ended with it.
    pub(super) fn read_pipe(&mut self, process: &mut Process, index: usize, order: bool) -> bool {
        let Process { id, output, .. } = process;
        let turn = output.read((id, index), order, &mut self.buffer, &mut self.pipes);
        turn == Turn::End
    }

    /// Takes an ended capture from the open ones.
    pub(super) fn close_capture(&mut self, output: &mut Output, index: usize) {
        if let Some(OpenCapture::Pipe(pipe)) = output.close(index) {
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
            Some(size) if size != pipe_budget::DEFAULT => {
                self.pipes.take(size);
                PipeSize::Taken(size)
            }
            _ => PipeSize::Default,
        };
        Ok(OpenCapture::Pipe(Pipe { index, reader, token, store, pieces, size }))
    }

    /// After the end of a child: takes out every capture that nobody writes any more, and has the
    /// others watched.
    pub(super) fn sweep(&mut self, serial: u64, process: &mut Process) {
        let open = process.output.all_open().iter();
        let open: Vec<(usize, Kind)> = open.map(|open| (open.index(), Kind::of(open))).collect();
        for (index, kind) in open {
            let ended = match kind {
                Kind::Pipe => self.read_pipe(process, index, false),
                Kind::File => self.file_has_ended(serial, &mut process.output, index),
                Kind::Filter(pid) => {
                    self.filter_has_ended(serial, process, pid)
                        && self.is_seen(serial, &process.output, index)
                }
            };
            if ended {
                self.close_capture(&mut process.output, index);
            }
        }
    }

    /// How far the captures of a process are; has the named files looked at that must be seen.
    pub(super) fn check_drain(&self, serial: u64, process: &Process) -> DrainCheck {
        let output = &process.output;
        let storing = output.all_open().iter().filter(|open| is_finishing(open, output));
        DrainCheck {
            storing: storing.map(OpenCapture::index).collect(),
            unseen: self.look_at_unseen(serial, output),
        }
    }

    /// Whether nobody writes a captured file any more; if somebody does, its closing is watched
    /// for.
    fn file_has_ended(&mut self, serial: u64, output: &mut Output, index: usize) -> bool {
        if output.at(index).is_some_and(Capture::is_in_named_file) {
            return self.named_file_has_ended(serial, output, index);
        }
        if !is_written(output, index) {
            return true;
        }
        let Some(capture) = output.at(index) else { return true };
        self.watcher.add(capture, serial);
        // It may have been closed before it was watched.
        !is_written(output, index)
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

/// Whether somebody still writes a captured file. If a filter has written it, that must have come
/// to its end.
fn is_written(output: &mut Output, index: usize) -> bool {
    let Some(capture) = output.at(index) else { return false };
    let written = capture.writers() == Writers::Some;
    if !written && capture.is_orphaned() {
        output.truncate(index, Truncation::Error);
    }
    written
}

/// Whether a capture's last writer is gone, and only its filter still works on it.
fn is_finishing(open: &OpenCapture, output: &Output) -> bool {
    let Some(capture) = output.at(open.index()) else { return false };
    match open {
        OpenCapture::Filter { reader, .. } => capture.is_finishing() || sys::hung_up(reader),
        OpenCapture::File { .. } => capture.is_finishing(),
        OpenCapture::Pipe(_) => false,
    }
}
