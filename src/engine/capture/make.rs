//! The creation of captures: files, pipes, and orders for slow steps.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use super::capture_writer::Order;
use super::chunk_times::ChunkLog;
use super::intact::note_file;
use super::limits::{LimitedWriter, Limits};
use super::named::Named;
use super::{Capture, CaptureDirs, Layout, WrittenBy};
use crate::clock::TimePoint;
use crate::engine::failpoints::{self, Call};
use crate::engine::sys;
use crate::spec::{CaptureMode, CaptureSpec, KeepSpec};

/// The way of the output into a new capture, with the descriptors.
pub(in crate::engine) enum CaptureInput {
    /// The process writes the file itself.
    Itself(OwnedFd),
    /// The process writes a named file, which the spawning thread opens.
    Named(Order),
    /// The engine reads this pipe.
    Pipe {
        /// The process's end.
        source: OwnedFd,
        /// Our end.
        reader: OwnedFd,
        /// The destination of the output.
        store: Store,
        /// The file of chunk times, if the spec asks for them.
        chunk_times: Option<ChunkLog>,
    },
    /// A capture writer writes the file; the spawning thread starts it.
    CaptureWriter {
        /// The process's end.
        source: OwnedFd,
        /// The reading end.
        reader: OwnedFd,
        /// The capture writer's order.
        order: Order,
    },
}

/// The destination of the output that the engine reads from a pipe.
pub(in crate::engine) struct Store {
    target: Target,
    /// Whether the file system and the kernel support splice, as far as known.
    splices: bool,
}

enum Target {
    /// Written at the position of a file.
    File(File),
    /// Stored within limits.
    Limited(LimitedWriter),
    /// Discarded.
    Nothing,
}

impl Store {
    /// A store that discards all bytes.
    pub(in crate::engine) fn nothing() -> Store {
        Target::Nothing.into()
    }

    /// The number of descriptors.
    pub(in crate::engine) fn descriptors(&self) -> usize {
        match &self.target {
            Target::File(_) => 1,
            // The data file and the counters.
            Target::Limited(_) => 2,
            Target::Nothing => 0,
        }
    }

    /// The open file that a second holder needs besides the pipe, if any. Of a capture within
    /// limits, only the file's position shows what has left the pipe since the last count.
    pub(in crate::engine) fn shared_file(&self) -> Option<BorrowedFd<'_>> {
        match &self.target {
            Target::Limited(writer) => Some(writer.file().as_fd()),
            Target::File(_) | Target::Nothing => None,
        }
    }

    /// Moves the next bytes of a pipe to the file, at most `room`; returns their number, 0 at the
    /// end. `None` if only [`write`](Self::write) works.
    ///
    /// # Errors
    /// `EAGAIN` if the pipe is empty, or the OS error of storing the bytes.
    pub(in crate::engine) fn splice(
        &mut self,
        reader: &OwnedFd,
        room: usize,
    ) -> Option<io::Result<usize>> {
        let moved = match &mut self.target {
            Target::File(file) if self.splices => sys::splice(reader, file, room),
            Target::Limited(writer) if self.splices => writer.splice(reader, room),
            _ => return None,
        };
        let refused = [libc::EINVAL, libc::ENOSYS, libc::EPERM];
        let errno = moved.as_ref().err().and_then(io::Error::raw_os_error);
        self.splices = errno.is_none_or(|errno| !refused.contains(&errno));
        self.splices.then_some(moved)
    }

    /// Stores the next bytes.
    ///
    /// # Errors
    /// The OS error of storing them.
    pub(in crate::engine) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.target {
            Target::File(file) => file.write_all(bytes),
            Target::Limited(writer) => writer.write(bytes),
            Target::Nothing => Ok(()),
        }
    }
}

impl From<Target> for Store {
    fn from(target: Target) -> Store {
        Store { target, splices: true }
    }
}

impl Capture {
    /// Creates a capture, whose files of ours are named after `name`, and the process's end.
    /// `default` limits a capture whose spec sets no limit; `mode` is the mode of a file of ours
    /// that the process writes itself, with a guard if `guarded`.
    ///
    /// # Errors
    /// The OS error; then no file remains.
    pub(in crate::engine) fn open(
        spec: CaptureSpec,
        dirs: &CaptureDirs,
        name: &str,
        default: KeepSpec,
        mode: u32,
        guarded: bool,
    ) -> io::Result<(Capture, CaptureInput)> {
        let mut capture = Capture::plan(spec, dirs, name, default);
        let made = capture.make(mode).inspect_err(|_| capture.remove_own())?;
        if let (CaptureInput::Itself(file), true) = (&made, guarded) {
            capture.add_guard(file);
        }
        Ok((capture, made))
    }

    fn plan(spec: CaptureSpec, dirs: &CaptureDirs, name: &str, default: KeepSpec) -> Capture {
        let dir = match spec.mode {
            CaptureMode::Tempfile => &dirs.files,
            CaptureMode::Memory => &dirs.memory,
        };
        let limit = spec.keep.or_else(|| default_limit(default, &spec));
        let tail = limit.is_some_and(|limit| Limits::from(limit).has_tail());
        let path = match &spec.file {
            // The capture writer copies both ends there at the end.
            Some(file) if !tail => PathBuf::from(&file.path),
            _ => dir.join(name),
        };
        let held = Mutex::new(Weak::new());
        let counters = PathBuf::new();
        let chunk_times = match spec.chunk_times {
            true => dir.join(format!("{name}.p")),
            false => PathBuf::new(),
        };
        let (guard, inode, end, seal) = (0, Arc::default(), OnceLock::new(), OnceLock::new());
        let named = spec.file.is_some().then(Named::new);
        let mut capture = Capture {
            spec,
            path,
            limit,
            counters,
            chunk_times,
            guard,
            inode,
            end,
            seal,
            named,
            held,
        };
        if capture.limit.is_some() || capture.written_by() == WrittenBy::CaptureWriter {
            capture.counters = dir.join(format!("{name}.n"));
        }
        capture
    }

    fn make(&self, mode: u32) -> io::Result<CaptureInput> {
        let create_with = |mode, path: &Path, append| {
            failpoints::check(Call::CaptureFile)?;
            File::options()
                .write(true)
                .append(append)
                .read(!append)
                .create_new(true)
                .mode(mode)
                .open(path)
        };
        let create = |path: &Path, append| create_with(0o600, path, append);
        let create_data = |mode, append| {
            create_with(mode, &self.path, append).inspect(|file| note_file(&self.inode, file))
        };
        let counters = match self.counters.as_os_str().is_empty() {
            true => None,
            false => Some(create(&self.counters, false)?),
        };
        let chunk_times = match self.chunk_times.as_os_str().is_empty() {
            true => None,
            false => Some(ChunkLog::new(create(&self.chunk_times, false)?)?),
        };
        let pipe = || {
            let (reader, source) = sys::pipe()?;
            if let Some(size) = self.spec.pipe_size {
                sys::grow_pipe(&reader, size as usize);
            }
            Ok::<_, io::Error>((reader, source))
        };
        Ok(match self.written_by() {
            WrittenBy::Process if self.spec.file.is_some() => CaptureInput::Named(Order::of(self)),
            WrittenBy::Process => CaptureInput::Itself(create_data(mode, true)?.into()),
            WrittenBy::Engine => {
                let (reader, source) = pipe()?;
                sys::set_nonblocking(&reader)?;
                let store = match (self.layout(), counters) {
                    (Layout::Limited(limits), Some(counters)) => {
                        let file = create_data(0o600, false)?;
                        Target::Limited(LimitedWriter::new(limits, file, counters)?)
                    }
                    _ => Target::File(create_data(0o600, false)?),
                };
                CaptureInput::Pipe { source, reader, store: store.into(), chunk_times }
            }
            WrittenBy::CaptureWriter => {
                if self.named_data().is_none() {
                    create_data(0o600, false)?;
                }
                let (reader, source) = pipe()?;
                CaptureInput::CaptureWriter { source, reader, order: Order::of(self) }
            }
        })
    }

    /// Reopens the files of a capture that an engine in another program has begun; `file` is the
    /// [shared file](Store::shared_file) of an engine that was killed.
    ///
    /// # Errors
    /// The OS error of opening the files.
    pub(in crate::engine) fn reopen(
        &self,
        file: Option<OwnedFd>,
    ) -> io::Result<(Store, Option<ChunkLog>)> {
        let open = |path| File::options().read(true).write(true).open(path);
        let (target, length) = match self.layout() {
            Layout::Limited(limits) => {
                let counters = open(&self.counters)?;
                let writer = match file {
                    Some(file) => LimitedWriter::resume(limits, file.into(), counters)?,
                    None => LimitedWriter::new(limits, open(&self.path)?, counters)?,
                };
                let length = writer.written();
                (Target::Limited(writer), length)
            }
            _ => {
                let mut file = open(&self.path)?;
                let length = file.seek(SeekFrom::End(0))?;
                (Target::File(file), length)
            }
        };
        let chunk_times = match self.chunk_times.as_os_str().is_empty() {
            true => None,
            false => {
                let mut chunk_times = ChunkLog::new(open(&self.chunk_times)?)?;
                chunk_times.catch_up(TimePoint::now().monotonic_nanos, length)?;
                Some(chunk_times)
            }
        };
        Ok((target.into(), chunk_times))
    }
}

/// The limit of a capture whose spec sets none. Compressed output cannot have a tail: its head may
/// be as large as both.
fn default_limit(KeepSpec { head, tail }: KeepSpec, spec: &CaptureSpec) -> Option<KeepSpec> {
    if head.is_none() && tail.is_none() {
        return None;
    }
    Some(match spec.compress {
        None => KeepSpec { head, tail },
        Some(_) => {
            let both = head.unwrap_or(0).saturating_add(tail.unwrap_or(0));
            KeepSpec { head: Some(both), tail: None }
        }
    })
}
