//! The capture writer: a process of this same program that stores the output of one capture, if
//! that takes more time than the engine's thread has: compression, or a named file on any file
//! system.
//!
//! It is a process and not a thread, so that it outlives the engine during an upgrade and after a
//! crash of the keeper. It reads a pipe to its end, records its progress in the counters, and ends.
//! Its end is the capture's end. If it cannot store the output, it reads on and discards, so that
//! no writer blocks; if it dies, the engine reads on.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use super::chunk_times::ChunkLog;
use super::codec::Encoder;
use super::confine::confine;
use super::counters::{Counters, Phase};
use super::limits::{LimitedWriter, Limits};
use super::named::Named;
use super::{Capture, Layout};
use crate::clock::TimePoint;
use crate::engine::below::WalkError;
use crate::engine::creds::Creds;
use crate::engine::owned_child::OwnedChild;
use crate::engine::restriction::Below;
use crate::engine::{permitted, sys};
use crate::path_bytes;
use crate::spec::{CaptureFile, Compression};

/// The environment variable that makes this program a capture writer; its value is the work. The
/// name is an older term, and stays: without `/proc`, a keeper of an earlier version starts this
/// program by it.
pub const CAPTURE_WRITER: &str = "PROCSTAR_FILTER";
/// Bytes per read.
const BUFFER: usize = 256 * 1024;
/// Compressed output is flushed after this time without more output, or since the last flush. Each
/// flush costs some compression.
const IDLE: u16 = 200;
const LATEST: Duration = Duration::from_secs(1);

/// The work of a capture writer, and the file to be created first.
pub(in crate::engine) struct Order {
    data: PathBuf,
    /// The spec of the named file, and the value that will hold its descriptors.
    named: Option<(CaptureFile, Arc<Named>)>,
    /// The directory that must contain the named file, if restricted.
    within: Option<Below>,
    work: Work,
}

/// The work on standard input: it goes to standard output and, at the end of a capture with a ring,
/// to standard error in one piece.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Work {
    /// The credentials of the capture writer.
    creds: Creds,
    #[serde(with = "path_bytes")]
    counters: PathBuf,
    limits: Option<(u64, u64)>,
    compress: Option<Compression>,
    copy: bool,
    #[serde(rename = "pieces", with = "path_bytes")]
    chunk_times: PathBuf,
}

impl Order {
    pub(super) fn of(capture: &Capture) -> Order {
        let limits = capture.limit.map(|limit| Limits::from(limit).ends());
        let copy = capture.named.is_some() && capture.named_data().is_none();
        Order {
            data: capture.path.clone(),
            named: capture.spec.file.clone().zip(capture.named.clone()),
            within: None,
            work: Work {
                creds: Creds::default(),
                counters: capture.counters.clone(),
                limits,
                compress: match capture.layout() {
                    Layout::Compressed(compression) => Some(compression),
                    Layout::Plain | Layout::Limited(_) => None,
                },
                copy,
                chunk_times: capture.chunk_times.clone(),
            },
        }
    }

    /// The same order, with a named file that must be below a directory.
    pub(in crate::engine) fn within(self, within: Option<Below>) -> Order {
        Order { within, ..self }
    }

    /// The path that the user has named.
    pub(in crate::engine) fn named(&self) -> Option<&str> {
        self.named.as_ref().map(|(file, _)| file.path.as_str())
    }

    /// Creates the named file with the credentials `creds`, for a process that writes it itself.
    /// May block, on some file systems for ever.
    ///
    /// # Errors
    /// The OS error; `EINVAL` if the path is not a regular file.
    pub(in crate::engine) fn open_named(&self, creds: &Creds) -> Result<OwnedFd, WalkError> {
        let (file, named) = self.named.as_ref().ok_or(Errno::ENOENT)?;
        Ok(named.make(file, self.within.as_ref(), creds)?.into())
    }

    /// Starts the capture writer on a pipe. May block like [`open_named`](Self::open_named).
    ///
    /// # Errors
    /// The OS error of creating the named file, or of starting a process.
    pub(in crate::engine) fn start(
        &self,
        program: &Path,
        reader: OwnedFd,
        creds: &Creds,
    ) -> Result<OwnedChild, WalkError> {
        let named = self
            .named
            .as_ref()
            .map(|(file, named)| named.make(file, self.within.as_ref(), creds))
            .transpose()?;
        let (data, end) = match named {
            Some(named) if !self.work.copy => (named, None),
            named => (File::options().read(true).write(true).open(&self.data)?, named),
        };
        let work = Work { creds: creds.clone(), ..self.work.clone() };
        let work = serde_json::to_string(&work).map_err(io::Error::other)?;
        let mut command = Command::new(program);
        command
            .arg0("procstar-filter")
            .env_clear()
            .env(CAPTURE_WRITER, work)
            .stdin(reader)
            .stdout(data)
            .stderr(end.map_or_else(Stdio::null, Stdio::from))
            // Signals of a terminal must not reach it.
            .process_group(0);
        let child = permitted::spawn(&mut command)?;
        let pid = child.id() as i32;
        // Only we reap it.
        Ok(OwnedChild { pid, pidfd: permitted::handle(pid)? })
    }
}

/// Signals that are not ignored: faults of this process, and job control.
const NOT_IGNORED: [i32; 10] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGABRT,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGCONT,
    libc::SIGCHLD,
];

/// Set by SIGTERM: the capture is frozen, and later output is discarded.
static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

/// Runs as a capture writer; returns the exit code: 0 if all output is stored, or was discarded on
/// request. `None` if [`CAPTURE_WRITER`] has another value: then nothing is read or written.
pub fn run(work: &OsString) -> Option<u8> {
    let work = work.to_str().and_then(|text| serde_json::from_str::<Work>(text).ok());
    work.filter(|_| reads_a_pipe()).map(|work| serve(&work))
}

fn reads_a_pipe() -> bool {
    let mode = nix::sys::stat::fstat(io::stdin().as_fd()).map_or(0, |stat| stat.st_mode);
    mode & libc::S_IFMT == libc::S_IFIFO
}

fn serve(work: &Work) -> u8 {
    let _ = nix::sys::prctl::set_name(c"procstar-filter");
    // Other processes of this user must not change the output on its way.
    let _ = nix::sys::prctl::set_dumpable(false);
    // Only SIGTERM has a meaning, and no other signal may cost output. A write beyond a limit on
    // file sizes becomes an error.
    for signal in (1..=64).filter(|signal| !NOT_IGNORED.contains(signal)) {
        // SIGKILL and SIGSTOP cannot be ignored.
        let _ = sys::ignore(signal);
    }
    // The starting thread had blocked all signals.
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
    if sys::on_signal(libc::SIGTERM, stop).is_err() {
        return 2;
    }
    // The capture writer opens everything that it needs here, before it reads any output.
    let writer = CaptureWriter::new(work);
    match (writer, confine(&work.creds)) {
        (Ok(mut writer), Ok(())) => {
            writer.pump();
            u8::from(writer.failed)
        }
        _ => {
            // The writers of the pipe must not suffer.
            drain(&mut vec![0; BUFFER]);
            1
        }
    }
}

/// The destination of the bytes.
enum Sink {
    Plain(File),
    Limited(LimitedWriter, bool),
    Compressed {
        /// `None` once the head is complete.
        encoder: Option<Box<Encoder>>,
        /// Bytes missing from the head.
        room: u64,
        stored: u64,
    },
}

struct CaptureWriter {
    sink: Sink,
    counters: File,
    chunk_times: Option<ChunkLog>,
    written: u64,
    /// Whether some bytes are stored but not yet readable.
    hidden: bool,
    shown: Instant,
    failed: bool,
    done: bool,
}

impl CaptureWriter {
    fn new(work: &Work) -> io::Result<CaptureWriter> {
        let counters = File::options().read(true).write(true).open(&work.counters)?;
        let data = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let limits = work.limits.map(|(head, tail)| Limits::new(head, tail));
        let sink = match (work.compress, limits) {
            (Some(compression), limits) => Sink::Compressed {
                encoder: Some(Box::new(Encoder::new(compression, data)?)),
                room: limits.map_or(u64::MAX, |limits| limits.ends().0),
                stored: 0,
            },
            (None, Some(limits)) => {
                Sink::Limited(LimitedWriter::new(limits, data, counters.try_clone()?)?, work.copy)
            }
            (None, None) => Sink::Plain(data),
        };
        let chunk_times = match work.chunk_times.as_os_str().is_empty() {
            true => None,
            false => {
                let file = File::options().read(true).write(true).open(&work.chunk_times)?;
                Some(ChunkLog::new(file)?)
            }
        };
        Ok(CaptureWriter {
            sink,
            counters,
            chunk_times,
            written: 0,
            hidden: false,
            shown: Instant::now(),
            failed: false,
            done: false,
        })
    }

    /// Reads to the end.
    fn pump(&mut self) {
        let mut buf = vec![0; BUFFER];
        loop {
            if STOP.load(Ordering::Relaxed) {
                self.finish();
            }
            let patience = if self.hidden { PollTimeout::from(IDLE) } else { PollTimeout::NONE };
            let input = io::stdin();
            let ready = poll(&mut [PollFd::new(input.as_fd(), PollFlags::POLLIN)], patience);
            match ready {
                Ok(0) => self.attempt(CaptureWriter::show),
                Ok(_) => match nix::unistd::read(input.as_fd(), &mut buf) {
                    Ok(0) => break,
                    Ok(n) => {
                        let bytes = buf.get(..n).unwrap_or_default();
                        self.attempt(|writer| writer.take(bytes));
                    }
                    Err(Errno::EINTR | Errno::EAGAIN) => {}
                    Err(_) => {
                        self.fail();
                        break;
                    }
                },
                // A signal interrupted the read.
                Err(_) => {}
            }
        }
        self.finish();
    }

    /// Runs a part of the work, unless the work is over.
    fn attempt(&mut self, part: impl FnOnce(&mut CaptureWriter) -> io::Result<()>) {
        if !self.failed && !self.done && part(self).is_err() {
            self.fail();
        }
    }

    /// Records that no more than the counted bytes will be stored.
    fn fail(&mut self) {
        self.failed = true;
        let counters = Counters::read(&self.counters).unwrap_or_default();
        let _ = Counters { phase: Phase::Failed, ..counters }.write(&self.counters);
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        if let Some(chunk_times) = &mut self.chunk_times {
            chunk_times.add(TimePoint::now().monotonic_nanos, bytes.len() as u64, true)?;
        }
        match &mut self.sink {
            Sink::Plain(file) => return io::Write::write_all(file, bytes),
            Sink::Limited(writer, _) => return writer.write(bytes),
            Sink::Compressed { encoder: Some(encoder), room, .. } => {
                let (head, rest) = bytes.split_at((*room).min(bytes.len() as u64) as usize);
                encoder.write(head)?;
                *room -= head.len() as u64;
                if !rest.is_empty() {
                    self.end_stream()?;
                }
            }
            Sink::Compressed { encoder: None, .. } => {}
        }
        self.hidden = true;
        if self.shown.elapsed() >= LATEST { self.show() } else { Ok(()) }
    }

    fn end_stream(&mut self) -> io::Result<()> {
        if let Sink::Compressed { encoder, stored, .. } = &mut self.sink
            && let Some(encoder) = encoder.take()
        {
            *stored = encoder.finish()?;
        }
        Ok(())
    }

    /// Flushes the output, so that readers see it.
    fn show(&mut self) -> io::Result<()> {
        if let Sink::Compressed { encoder: Some(encoder), stored, .. } = &mut self.sink {
            *stored = encoder.flush()?;
        }
        self.hidden = false;
        self.shown = Instant::now();
        self.count(Phase::Open)
    }

    fn count(&self, phase: Phase) -> io::Result<()> {
        match &self.sink {
            Sink::Limited(writer, _) => writer.note(phase),
            Sink::Plain(_) => self.counters(self.written, phase).write(&self.counters),
            Sink::Compressed { stored, .. } => self.counters(*stored, phase).write(&self.counters),
        }
    }

    fn counters(&self, stored: u64, phase: Phase) -> Counters {
        Counters { written: self.written, announced: self.written, stored, phase }
    }

    /// Ends the capture.
    fn finish(&mut self) {
        self.attempt(|writer| {
            let counters = Counters::read(&writer.counters)?;
            Counters { phase: Phase::Finishing, ..counters }.write(&writer.counters)?;
            writer.end_stream()?;
            if let Sink::Limited(writer, true) = &writer.sink {
                writer.copy(&mut File::from(io::stderr().as_fd().try_clone_to_owned()?))?;
            }
            writer.count(Phase::Ended)
        });
        self.done = true;
    }
}

/// Reads to the end, and discards.
fn drain(buf: &mut [u8]) {
    let input = io::stdin();
    loop {
        let _ = poll(&mut [PollFd::new(input.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
        match nix::unistd::read(input.as_fd(), buf) {
            Ok(0) => return,
            Ok(_) | Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => return,
        }
    }
}
