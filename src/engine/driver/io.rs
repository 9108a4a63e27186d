//! The driver's I/O: the poller, the timers, and the pipes of captures.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::capture_writers::CaptureWriters;
use super::message::DriverMessage;
use super::poller::{Poller, Source};
use crate::engine::capture::{Capture, ChunkLog, Store};
use crate::engine::mailbox::Mailbox;
use crate::engine::pipe_budget::{self, PipeBudget, PipeSize};
use crate::engine::process::Process;
use crate::engine::process::output::{OpenCapture, Output, Pipe, Turn};
use crate::engine::sys;
use crate::engine::timers::Timers;

/// Bytes per read.
const BUFFER: usize = 256 * 1024;

/// Reports when a writer closes a file, and when a control group's members have come or ended. Used
/// only for captures that survivors of a process hold, and for groups with such survivors.
pub(super) struct Watcher {
    inotify: Inotify,
    watches: HashMap<WatchDescriptor, Watched>,
}

/// What is watched, of the process with this number.
#[derive(Clone, Copy)]
pub(super) enum Watched {
    Capture(u64),
    Group(u64),
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
    pub(super) fn add(&mut self, capture: &Capture, serial: u64) {
        let flags = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_ONESHOT;
        // Without a watch, the drain timeout applies.
        if let Ok(held) = capture.hold()
            && let Ok(watch) = self.inotify.add_watch(&held.path(), flags)
        {
            self.watches.insert(watch, Watched::Capture(serial));
        }
    }

    /// Watches the control group of a process; returns whether that is possible.
    pub(super) fn add_group(&mut self, group: &Path, serial: u64) -> bool {
        let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ONESHOT;
        let watch = self.inotify.add_watch(&group.join("cgroup.events"), flags);
        let watch = watch.map(|watch| self.watches.insert(watch, Watched::Group(serial)));
        watch.is_ok()
    }

    /// What has changed: a writer has closed the capture, or the group has other members.
    pub(super) fn changed(&mut self) -> Vec<Watched> {
        let events = self.inotify.read_events().unwrap_or_default();
        events.into_iter().filter_map(|event| self.watches.remove(&event.wd)).collect()
    }
}

/// The driver's means to wait and to read.
pub(super) struct Io {
    pub(super) poller: Poller,
    pub(super) timers: Timers,
    pub(super) mailbox: Arc<Mailbox<DriverMessage>>,
    pub(super) watcher: Watcher,
    pub(super) capture_writers: CaptureWriters,
    pipes: PipeBudget,
    /// The buffer for all pipes: one hot buffer is faster than fresh ones.
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
            capture_writers: CaptureWriters::default(),
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

    /// Watches the pipe of an fd's output.
    pub(super) fn open_pipe(
        &mut self,
        serial: u64,
        index: usize,
        reader: OwnedFd,
        (store, chunk_times): (Store, Option<ChunkLog>),
    ) -> io::Result<OpenCapture> {
        let token = self.poller.watch(&reader, Source::Pipe(serial, index))?;
        // The pipe may have a requested size, or one that an earlier program has set.
        let size = match sys::pipe_size(&reader) {
            Some(size) if size != pipe_budget::DEFAULT => {
                self.pipes.take(size);
                PipeSize::Taken(size)
            }
            _ => PipeSize::Default,
        };
        Ok(OpenCapture::Pipe(Pipe { index, reader, token, store, chunk_times, size }))
    }
}
