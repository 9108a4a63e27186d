//! The driver's part in starting a process: what the parent makes for its fds.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::{ChildExit, Driver, LiveChild, OpenCapture, Process, Source};
use crate::clock::TimePoint;
use crate::engine::capture::{Capture, CaptureWriter, Captures, Truncation, Writer};
use crate::engine::event::Started;
use crate::engine::failure::StartFailure;
use crate::engine::plan::{ChildStatus, LaunchRequest, ParentFd};
use crate::engine::restore::with_dirs;
use crate::engine::spawn::{Child, SpawnJob, Task};
use crate::engine::state::Input;
use crate::engine::stop::StopPolicy;
use crate::engine::timers::Alarm;
use crate::engine::{permitted, sys};
use crate::spec::{CaptureSpec, PipeEnd, Resource, ValidatedFd, ValidatedProc};

/// The modes of what is made for a process of our own user, and of another one.
const OURS: libc::mode_t = 0o600;
const OPEN_TO_ALL: libc::mode_t = 0o666;

/// How the files are made that a process writes itself.
#[derive(Clone, Copy)]
struct OwnFiles {
    mode: libc::mode_t,
    /// Whether they get a guard: not where a limit would count it.
    guarded: bool,
}

/// A process that is asked for.
pub(super) struct Launch {
    /// The engine's number of the process.
    pub(super) serial: u64,
    pub(super) proc: ValidatedProc,
    pub(super) pipes: PipeTable,
}

/// The pipes of one request. A pipe is made when the first of its two processes is planned, so that a request of
/// thousands does not hold thousands of descriptors before it needs them.
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

    /// Takes one end of a pipe, which is given out once.
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
    /// Makes what a process needs of us, and hands it to the spawning threads.
    pub(super) fn launch(&mut self, launch: Launch) {
        let Launch { serial, proc, pipes } = launch;
        let Some(mut process) = self.processes.remove(&serial) else { return };
        process.start = TimePoint::now();
        process.terms = StopPolicy::new(process.start, proc.timeout, proc.stopping);
        let child_status =
            Arc::new(ChildStatus::new(proc.fds.len(), proc.attributes.cwd.is_some()));
        if proc.shares_terminal {
            self.shares_terminal = Some(serial);
            self.containment.shares_our_terminal(serial);
        }
        let mut tasks = Vec::new();
        let made = self.make_fds(serial, &mut process, &proc, &pipes, &mut tasks);
        process.child_status = Some(Arc::clone(&child_status));
        self.processes.insert(serial, process);
        self.timers.set(Instant::now() + self.options.setup_patience, Alarm::SetupTimeout(serial));
        self.set_alarms(serial);
        self.pool.push(SpawnJob {
            serial,
            request: LaunchRequest { proc, made, status: child_status },
            tasks,
        });
    }

    /// Ends a process of which nothing is made.
    pub(super) fn refuse(&mut self, launch: Launch, failure: StartFailure) {
        let Launch { serial, proc, pipes } = launch;
        let Some(process) = self.processes.get_mut(&serial) else { return };
        process.failures.push(failure);
        process.captures = Captures::new(
            proc.fds
                .iter()
                .map(|(fd, what)| (*fd, capture_spec(what).map(Capture::empty)))
                .collect(),
        );
        // Its ends of pipes are closed, so that their other ends see the end of the file.
        for (_, what) in &proc.fds {
            if let ValidatedFd::Pipe(end) = what {
                drop(pipes.take(*end));
            }
        }
        self.apply(serial, Input::NotSpawned(Box::new(ChildExit::without_child())));
        self.send_held_signals(serial);
        self.flush_pending(serial);
        self.start_resolved(serial, true);
    }

    /// Takes over a process that an earlier engine has started.
    pub(super) fn adopt(&mut self, started: Started) {
        let mut process = Process {
            start: started.start,
            captures: Arc::clone(&started.captures),
            resolved: started.resolved.clone(),
            told: true,
            terms: started.terms,
            ..Process::new(started.id.clone())
        };
        for (index, (fd, capture)) in started.captures.iter().enumerate() {
            match capture.map(Capture::writer) {
                Some(CaptureWriter::Process | CaptureWriter::Filter) => {
                    process.open.push(OpenCapture::File { index });
                }
                // Its pipe has gone with the earlier engine.
                Some(CaptureWriter::Engine) => process.cut_short.push((fd, Truncation::Error)),
                None => {}
            }
        }
        let serial = self.insert_process(process);
        let starttime = started.stat.as_ref().map(|stat| stat.starttime);
        self.containment.child_adopted(serial, started.pid, starttime);
        // It may end between any two of these; a pid that is another's by now is found by its start time.
        let watched = permitted::handle(started.pid).and_then(|pidfd| {
            let now = self.procfs.read_stat(started.pid).map_err(io::Error::other)?;
            let same = started.stat.as_ref().is_some_and(|then| then.starttime == now.starttime);
            if !same {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok((self.poller.watch(&pidfd, Source::Exit(serial)).ok(), pidfd))
        });
        match watched {
            Ok((token, pidfd)) => {
                if token.is_none() {
                    self.look_later(serial);
                }
                let child = Child { pid: started.pid, pidfd };
                self.apply(serial, Input::Spawned(LiveChild { child, token, adopted: true }));
                self.set_alarms(serial);
            }
            Err(_) => {
                self.close_what_has_ended(serial);
                let exit =
                    ChildExit { pid: Some(started.pid), lost: true, ..ChildExit::without_child() };
                self.apply(serial, Input::NotSpawned(Box::new(exit)));
            }
        }
    }

    /// Makes captures and pipes; what cannot be made fails in the child's status, with every other failing fd.
    fn make_fds(
        &mut self,
        serial: u64,
        process: &mut Process,
        proc: &ValidatedProc,
        pipes: &PipeTable,
        tasks: &mut Vec<Task>,
    ) -> Vec<ParentFd> {
        let own = OwnFiles {
            mode: if proc.attributes.user.is_some() { OPEN_TO_ALL } else { OURS },
            guarded: !proc.attributes.limits.contains_key(&Resource::Fsize),
        };
        let mode = own.mode;
        let mut captures = Vec::with_capacity(proc.fds.len());
        let mut all = Vec::with_capacity(proc.fds.len());
        for (index, (fd, what)) in proc.fds.iter().enumerate() {
            let (made, capture) = match what {
                ValidatedFd::Capture(spec) => {
                    match self.open_capture(serial, index, spec.clone(), own) {
                        Ok(Opened { capture, made, open, task }) => {
                            process.open.push(open);
                            tasks.extend(task);
                            (made, Some(capture))
                        }
                        Err(error) => {
                            process.cut_short.push((*fd, Truncation::Setup));
                            (ParentFd::Failed(errno(&error)), Some(Capture::empty(spec.clone())))
                        }
                    }
                }
                ValidatedFd::Pipe(end) => {
                    let made = pipes.take(*end);
                    if let ParentFd::Source(source) = &made {
                        open_to(mode, source);
                    }
                    (made, None)
                }
                _ => (ParentFd::Nothing, None),
            };
            all.push(made);
            captures.push((*fd, capture));
        }
        process.captures = Captures::new(captures);
        all
    }

    fn open_capture(
        &mut self,
        serial: u64,
        index: usize,
        spec: CaptureSpec,
        own: OwnFiles,
    ) -> io::Result<Opened> {
        let OwnFiles { mode, guarded } = own;
        if let (Some(restriction), Some(file)) = (&self.options.restriction, &spec.file)
            && !restriction.holds(&file.path)
        {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        let restriction = self.options.restriction.clone();
        let within = restriction.zip(spec.file.as_ref());
        let within = within.and_then(|(restriction, file)| restriction.below(&file.path));
        let name = format!("{:x}.{serial}.{index}", self.options.epoch);
        let limit = self.options.limit;
        let options = &self.options;
        let (capture, writer) = with_dirs(options.restore.as_ref(), || {
            Capture::open(spec.clone(), &options.places, &name, limit, mode, guarded)
        })?;
        let mut task = None;
        let (made, open) = match writer {
            Writer::Itself(source) => {
                if !self.own_umask {
                    open_to(mode, &source);
                }
                (ParentFd::Source(source), OpenCapture::File { index })
            }
            Writer::Named(order) => {
                task = Some(Task { index, order: order.within(within), filter: None });
                (ParentFd::Later, OpenCapture::File { index })
            }
            Writer::Pipe { source, reader, store, pieces } => {
                open_to(mode, &source);
                let open = self
                    .open_pipe(serial, index, reader, (store, pieces))
                    .inspect_err(|_| capture.remove_own())?;
                (ParentFd::Source(source), open)
            }
            Writer::Filter { source, reader, order } => {
                open_to(mode, &source);
                let other = reader.try_clone().inspect_err(|_| capture.remove_own())?;
                let filter = Some((self.options.filter.clone(), other));
                task = Some(Task { index, order: order.within(within), filter });
                (ParentFd::Source(source), OpenCapture::Filter { index, reader, pid: 0 })
            }
        };
        Ok(Opened { capture, made, open, task })
    }
}

/// A capture that is set up, but for what may take long.
struct Opened {
    capture: Capture,
    made: ParentFd,
    open: OpenCapture,
    task: Option<Task>,
}

/// Lets a process of another user open its own fd again, as `> /dev/stderr` does. Nobody else can reach what we make; what has a path that the
/// spec has chosen keeps its mode.
fn open_to(mode: libc::mode_t, source: &OwnedFd) {
    if mode != OURS {
        // Without it the process runs as well, but for that.
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
