//! The driver's part in captures: reading pipes, and finding out when captured files have no writer left.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::super::capture::{Captures, CutShort};
use super::super::state::{Input, State};
use super::super::sys::{self, Writers};
use super::{Driver, OpenCapture, Process};

/// How much is read at once.
pub(super) const BUFFER: usize = 256 * 1024;
/// How much is read of one pipe before others have their turn.
const TURN: usize = 1024 * 1024;
/// A reader that gets a whole default pipe at once asks for this size.
const LARGE_PIPE: libc::c_int = 1024 * 1024;
const DEFAULT_PIPE: usize = 64 * 1024;

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
        if let Turn::End = self.read_pipe(serial, index) {
            self.close_capture(serial, index);
            self.apply(serial, Input::CapturesClosed);
        }
    }

    /// Reads one pipe for a turn, into its capture; once that is frozen, into nothing, so that no survivor
    /// is stopped by a full pipe or killed by a closed one.
    fn read_pipe(&mut self, serial: u64, index: usize) -> Turn {
        let Some(process) = self.processes.get_mut(&serial) else { return Turn::Empty };
        let Process { state, open, captures, cut_short, .. } = process;
        let Some(OpenCapture::Pipe { reader, file, grown, .. }) =
            open.iter_mut().find(|open| open.index() == index)
        else {
            return Turn::Empty;
        };
        let mut total = 0;
        while total < TURN {
            let n = match nix::unistd::read(&*reader, &mut self.buffer) {
                Ok(0) => return Turn::End,
                Ok(n) => n,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(nix::errno::Errno::EAGAIN) => return Turn::Empty,
                Err(_) => {
                    note(captures, cut_short, index, CutShort::Error);
                    return Turn::End;
                }
            };
            total += n;
            if n >= DEFAULT_PIPE && !std::mem::replace(grown, true) {
                sys::grow_pipe(reader, LARGE_PIPE);
            }
            // Once the process has ended, or storing has failed, what still comes is dropped.
            let wanted = !matches!(state, State::Ended) && !is_noted(captures, cut_short, index);
            if let Some(bytes) = self.buffer.get(..n).filter(|_| wanted)
                && let Err(error) = file.write_all(bytes)
            {
                tracing::error!(proc_id = %process.id, %error, "cannot store captured output");
                note(captures, cut_short, index, CutShort::Error);
            }
        }
        Turn::More
    }

    /// Takes an ended capture from the open ones.
    fn close_capture(&mut self, serial: u64, index: usize) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        let Some(at) = process.open.iter().position(|open| open.index() == index) else { return };
        if let OpenCapture::Pipe { reader, token, .. } = process.open.swap_remove(at) {
            self.poller.unwatch(&reader, token);
        }
    }

    /// After a process's exit: takes out every capture that nobody writes any more, and has the others watched.
    pub(super) fn close_what_has_ended(&mut self, serial: u64) {
        let Some(process) = self.processes.get(&serial) else { return };
        let open: Vec<(usize, bool)> = process
            .open
            .iter()
            .map(|open| (open.index(), matches!(open, OpenCapture::Pipe { .. })))
            .collect();
        for (index, pipe) in open {
            let ended = if pipe {
                matches!(self.read_pipe(serial, index), Turn::End)
            } else {
                self.file_has_ended(serial, index)
            };
            if ended {
                self.close_capture(serial, index);
            }
        }
    }

    /// Whether nobody writes a captured file any more; if somebody does, its closing is watched for.
    fn file_has_ended(&mut self, serial: u64, index: usize) -> bool {
        let Some(capture) = self.processes.get(&serial).and_then(|p| p.captures.at(index)) else {
            return true;
        };
        if capture.writers() != Writers::Some {
            return true;
        }
        let flags = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_ONESHOT;
        // Without a watch, the grace decides.
        if let Ok(watch) = self.watcher.inotify.add_watch(capture.path(), flags) {
            self.watcher.watches.insert(watch, serial);
        }
        // It may have been closed before it was watched.
        capture.writers() != Writers::Some
    }

    /// Some watched file has been closed by a writer.
    pub(super) fn file_closed(&mut self) {
        let Ok(events) = self.watcher.inotify.read_events() else { return };
        for event in events {
            let Some(serial) = self.watcher.watches.remove(&event.wd) else { continue };
            if matches!(
                self.processes.get(&serial),
                Some(Process { state: State::Draining(_), .. })
            ) {
                self.close_what_has_ended(serial);
                self.apply(serial, Input::CapturesClosed);
            }
        }
    }

    /// The grace has passed: what survivors have written so far counts, and no more.
    pub(super) fn grace_over(&mut self, serial: u64) {
        if !matches!(self.processes.get(&serial), Some(Process { state: State::Draining(_), .. })) {
            return;
        }
        self.close_what_has_ended(serial);
        if let Some(Process { open, captures, cut_short, .. }) = self.processes.get_mut(&serial) {
            for open in open.iter() {
                note(captures, cut_short, open.index(), CutShort::Survivor);
            }
            open.retain(|open| matches!(open, OpenCapture::Pipe { .. }));
        }
        self.apply(serial, Input::GraceOver);
    }
}

/// Notes why a capture is cut short; the first reason stays.
fn note(
    captures: &Captures,
    cut_short: &mut Vec<(crate::spec::FdName, CutShort)>,
    index: usize,
    why: CutShort,
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
    cut_short: &[(crate::spec::FdName, CutShort)],
    index: usize,
) -> bool {
    let fd = captures.iter().nth(index).map(|(fd, _)| fd);
    cut_short.iter().any(|(noted, _)| Some(*noted) == fd)
}
