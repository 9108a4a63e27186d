//! The driver's part in starting a process: what the parent makes for its fds.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use super::Driver;
use super::io::Io;
use crate::clock::TimePoint;
use crate::engine::capture::{Capture, CaptureInput, Captures, Truncation};
use crate::engine::failure::StartFailure;
use crate::engine::options::EngineOptions;
use crate::engine::plan::{ChildStatus, LaunchRequest, ParentFd};
use crate::engine::process::child::ChildExit;
use crate::engine::process::output::{OpenCapture, Output};
use crate::engine::process::{Input, SetupResult};
use crate::engine::restore::with_dirs;
use crate::engine::spawn::{SpawnJob, Task};
use crate::engine::stop::StopPolicy;
use crate::engine::sys;
use crate::spec::{CaptureSpec, PipeEnd, Resource, ValidatedFd, ValidatedProc};

/// File modes for a process of our own user, and of another one.
const OURS: libc::mode_t = 0o600;
const OPEN_TO_ALL: libc::mode_t = 0o666;

/// A process that waits for its start.
pub(super) struct QueuedLaunch {
    /// The engine's number of the process.
    pub(super) serial: u64,
    pub(super) proc: ValidatedProc,
    pub(super) pipes: PipeTable,
}

/// The pipes of one request. A pipe is made when the first of its two processes is planned, so that
/// a request of thousands does not hold thousands of descriptors before it needs them.
#[derive(Clone)]
pub(super) struct PipeTable(Arc<Mutex<Vec<PipeState>>>);

enum PipeState {
    /// Neither end is taken.
    Fresh,
    /// The other end waits for its process.
    Half(OwnedFd),
    /// Both ends are taken, or the pipe could not be made: errno.
    Done(i32),
}

impl PipeTable {
    pub(super) fn new(pipes: usize) -> Self {
        PipeTable(Arc::new(Mutex::new((0..pipes).map(|_| PipeState::Fresh).collect())))
    }

    /// Takes one end of a pipe; each end can be taken once.
    fn take(&self, end: PipeEnd) -> ParentFd {
        let (PipeEnd::Write(index) | PipeEnd::Read(index)) = end;
        let mut pipes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(state) = pipes.get_mut(index) else { return ParentFd::Failed(libc::EBADF) };
        match std::mem::replace(state, PipeState::Done(libc::EBADF)) {
            PipeState::Fresh => match sys::pipe() {
                Ok((reader, writer)) => {
                    let (mine, other) = match end {
                        PipeEnd::Read(_) => (reader, writer),
                        PipeEnd::Write(_) => (writer, reader),
                    };
                    *state = PipeState::Half(other);
                    ParentFd::Source(mine)
                }
                Err(error) => {
                    *state = PipeState::Done(errno(&error));
                    ParentFd::Failed(errno(&error))
                }
            },
            PipeState::Half(mine) => ParentFd::Source(mine),
            PipeState::Done(errno) => {
                *state = PipeState::Done(errno);
                ParentFd::Failed(errno)
            }
        }
    }
}

impl Driver {
    /// Makes the parent's part of a process, and passes the process to the spawning threads.
    pub(super) fn launch(&mut self, launch: QueuedLaunch) {
        let QueuedLaunch { serial, proc, pipes } = launch;
        let Some(process) = self.processes.get_mut(&serial) else { return };
        let start = TimePoint::now();
        let policy = StopPolicy::new(start, proc.timeout, proc.stopping);
        let status = Arc::new(ChildStatus::new(proc.fds.len(), proc.attributes.cwd.is_some()));
        if proc.shares_terminal {
            self.shares_terminal = Some(serial);
            self.containment.shares_our_terminal(serial);
        }
        let group = self.containment.order_group(serial, &process.id);
        let mut maker = FdMaker {
            serial,
            options: &self.options,
            own_umask: self.own_umask,
            mode: if proc.attributes.user.is_some() { OPEN_TO_ALL } else { OURS },
            guarded: !proc.attributes.limits.contains_key(&Resource::Fsize),
            io: &mut self.io,
            tasks: Vec::new(),
        };
        let made = maker.make_fds(&mut process.output, &proc, &pipes);
        let tasks = maker.tasks;
        self.on(serial, Input::Planned { start, policy, status: Arc::clone(&status) });
        let request = LaunchRequest { proc, made, status };
        self.pool.push(SpawnJob { serial, request, tasks, group });
    }

    /// Ends a process that cannot be started.
    pub(super) fn refuse(&mut self, launch: QueuedLaunch, failure: StartFailure) {
        let QueuedLaunch { serial, proc, pipes } = launch;
        let Some(process) = self.processes.get_mut(&serial) else { return };
        process.output.set_captures(Captures::new(
            proc.fds
                .iter()
                .map(|(fd, what)| (*fd, capture_spec(what).map(Capture::empty)))
                .collect(),
        ));
        // Close its ends of pipes, so that readers see the end of the file.
        for (_, what) in &proc.fds {
            if let ValidatedFd::Pipe(end) = what {
                drop(pipes.take(*end));
            }
        }
        let failures = vec![failure];
        let setup = Box::new(SetupResult { failures, ..SetupResult::default() });
        let exit = Box::new(ChildExit::without_child());
        self.on(serial, Input::NotSpawned { exit, setup });
    }
}

/// Makes the parent's part of the fds of one process.
struct FdMaker<'a> {
    serial: u64,
    options: &'a EngineOptions,
    /// Whether files get exactly the modes that we create them with.
    own_umask: bool,
    /// The mode of the files that the process writes itself.
    mode: libc::mode_t,
    /// Whether those files get a guard: not if a limit would count it.
    guarded: bool,
    io: &'a mut Io,
    /// Slow steps, which are left to the spawning thread.
    tasks: Vec<Task>,
}

impl FdMaker<'_> {
    /// Makes captures and pipes; failures are recorded in the child's status, with those of other
    /// fds.
    /// failing fd.
    fn make_fds(
        &mut self,
        output: &mut Output,
        proc: &ValidatedProc,
        pipes: &PipeTable,
    ) -> Vec<ParentFd> {
        let mut captures = Vec::with_capacity(proc.fds.len());
        let mut open = Vec::new();
        let mut failed = Vec::new();
        let mut all = Vec::with_capacity(proc.fds.len());
        for (index, (fd, what)) in proc.fds.iter().enumerate() {
            let (made, capture) = match what {
                ValidatedFd::Capture(spec) => match self.open_capture(index, spec.clone()) {
                    Ok(opened) => {
                        open.push(opened.open);
                        self.tasks.extend(opened.task);
                        (opened.made, Some(opened.capture))
                    }
                    Err(error) => {
                        failed.push(index);
                        (ParentFd::Failed(errno(&error)), Some(Capture::empty(spec.clone())))
                    }
                },
                ValidatedFd::Pipe(end) => {
                    let made = pipes.take(*end);
                    if let ParentFd::Source(source) = &made {
                        open_to(self.mode, source);
                    }
                    (made, None)
                }
                _ => (ParentFd::Nothing, None),
            };
            all.push(made);
            captures.push((*fd, capture));
        }
        output.set_captures(Captures::new(captures));
        open.into_iter().for_each(|open| output.open(open));
        failed.into_iter().for_each(|index| output.truncate(index, Truncation::NotStarted));
        all
    }

    fn open_capture(&mut self, index: usize, spec: CaptureSpec) -> io::Result<Opened> {
        let FdMaker { serial, options, mode, .. } = *self;
        if let (Some(restriction), Some(file)) = (&options.restriction, &spec.file)
            && !restriction.holds(&file.path)
        {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        let restriction = options.restriction.clone();
        let within = restriction.zip(spec.file.as_ref());
        let within = within.and_then(|(restriction, file)| restriction.below(&file.path));
        let name = format!("{:x}.{serial}.{index}", options.epoch);
        let (capture, writer) = with_dirs(options.restore.as_ref(), || {
            let (dirs, limit) = (&options.capture_dirs, options.limit);
            Capture::open(spec.clone(), dirs, &name, limit, mode, self.guarded)
        })?;
        let mut task = None;
        let (made, open) = match writer {
            CaptureInput::Itself(source) => {
                if !self.own_umask {
                    open_to(mode, &source);
                }
                (ParentFd::Source(source), OpenCapture::File { index })
            }
            CaptureInput::Named(order) => {
                task = Some(Task { index, order: order.within(within), writer: None });
                (ParentFd::Later, OpenCapture::File { index })
            }
            CaptureInput::Pipe { source, reader, store, chunk_times } => {
                open_to(mode, &source);
                let open = self
                    .io
                    .open_pipe(serial, index, reader, (store, chunk_times))
                    .inspect_err(|_| capture.remove_own())?;
                (ParentFd::Source(source), open)
            }
            CaptureInput::CaptureWriter { source, reader, order } => {
                open_to(mode, &source);
                let other = reader.try_clone().inspect_err(|_| capture.remove_own())?;
                let writer = Some((options.capture_writer.clone(), other));
                task = Some(Task { index, order: order.within(within), writer });
                (ParentFd::Source(source), OpenCapture::CaptureWriter { index, reader, pid: 0 })
            }
        };
        Ok(Opened { capture, made, open, task })
    }
}

/// A capture that is set up except for its slow steps.
struct Opened {
    capture: Capture,
    made: ParentFd,
    open: OpenCapture,
    task: Option<Task>,
}

/// Lets a process of another user open its own fd again, as `> /dev/stderr` does. No other user can
/// reach our files; a file at a path of the spec keeps its mode.
fn open_to(mode: libc::mode_t, source: &OwnedFd) {
    if mode != OURS {
        // If this fails, the process still runs, but cannot open its fd again.
        let _ = sys::set_mode(source, mode);
    }
}

fn capture_spec(fd: &ValidatedFd) -> Option<CaptureSpec> {
    match fd {
        ValidatedFd::Capture(spec) => Some(spec.clone()),
        _ => None,
    }
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}
