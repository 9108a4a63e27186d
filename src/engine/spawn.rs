//! The threads that clone children.
//!
//! A clone that shares our memory keeps its thread waiting until the child has exec'd or ended, so threads of their
//! own do it. Four of them are permanent: on a loaded machine a child's set-up waits for its turn of the CPU, and
//! the clones overlap. A child that waits longer (opening a FIFO, a file on a dead mount) holds only its
//! thread: when all are held, more are started, up to [`MAX_THREADS`]. So does a thread that waits for a directory service.
//!
//! Where it matters who the parent is, they only plan, and [have](helper_pool) a [clone helper](clone_helper) clone the child.

mod clone;
mod clone_helper;
mod explain;
mod helper_pool;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{Signal::SIGKILL, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::engine::capture::filter::Order;
use crate::engine::creds::Creds;
use crate::engine::event::Resolved;
use crate::engine::failure::{Stage, StartFailure};
use crate::engine::owned_child::OwnedChild;
use crate::engine::plan::{
    ChildStatus, FdAction, LaunchContext, LaunchPlan, LaunchRequest, SetupFailure,
};
use crate::engine::sys::{self, Stack};
use crate::mem::text_pages::{Floor, TextPages};
use helper_pool::{HelperPool, PendingSpawn};

const PERMANENT_THREADS: usize = 4;
/// As many set-ups can wait at once; a thread that waits costs some 20 KB.
const MAX_THREADS: usize = 4096;
/// Modules that ask directory services run on it, too.
const THREAD_STACK: usize = 256 * 1024;

/// A process to be made.
pub(super) struct SpawnJob {
    /// The engine's number of the process.
    pub(super) serial: u64,
    pub(super) request: LaunchRequest,
    /// What is to be made before.
    pub(super) tasks: Vec<Task>,
}

/// Something that a capture needs, and that may take long to make.
pub(super) struct Task {
    /// The fd's index in the spec.
    pub(super) index: usize,
    pub(super) order: Order,
    /// The filter's program and its pipe; none where the process itself writes the named file.
    pub(super) filter: Option<(PathBuf, OwnedFd)>,
}

/// What became of a job.
pub(super) struct Spawned {
    /// The engine's number of the process.
    pub(super) serial: u64,
    /// The child, which may have ended already, and must be reaped; none if there could be none.
    pub(super) child: Option<OwnedChild>,
    /// Why it does not run as specified; empty if it does.
    pub(super) failures: Vec<StartFailure>,
    /// The filters that were started, by the index of their fds.
    pub(super) filters: Vec<(usize, OwnedChild)>,
    /// The indices of captures that could not be set up.
    pub(super) not_made: Vec<usize>,
    /// What the spec has come to, as far as it did.
    pub(super) resolved: Resolved,
    /// Where the kernel has begun to count the child's `maxrss`.
    pub(super) floor: Floor,
}

impl Spawned {
    /// What became of a job of which nothing was made.
    pub(super) fn failed(serial: u64, failure: StartFailure) -> Spawned {
        Spawned { failures: vec![failure], ..Spawned::nothing(serial) }
    }

    fn nothing(serial: u64) -> Spawned {
        Spawned {
            serial,
            child: None,
            failures: Vec::new(),
            filters: Vec::new(),
            not_made: Vec::new(),
            resolved: Resolved::default(),
            floor: Floor::default(),
        }
    }
}

/// The child that was cloned from a plan, of which the kernel has told the status.
fn child_of(pid: i32, plan: &LaunchPlan) -> OwnedChild {
    // SAFETY: the kernel has made this descriptor for us; the engine only ever borrows its number from the status.
    let pidfd = unsafe { OwnedFd::from_raw_fd(plan.status.pidfd().load(Ordering::Acquire)) };
    OwnedChild { pid, pidfd }
}

/// The child that a clone helper has cloned. Nobody but the engine reaps it, so the number is its own.
///
/// # Errors
/// The OS error where a descriptor of it cannot be had; then it is killed.
fn child_of_helper(pid: i32, plan: &LaunchPlan) -> io::Result<OwnedChild> {
    plan.status.pidfd_of(pid).map(|_| child_of(pid, plan)).inspect_err(|_| {
        let pid = Pid::from_raw(pid);
        let _ = kill(pid, SIGKILL);
        let _ = waitpid(pid, None);
    })
}

/// Takes what became of jobs; called on the pool's threads.
pub(super) type Deliver = Arc<dyn Fn(Spawned) + Send + Sync>;

/// The pool. Dropping it ends its threads once they are free, and forgets the jobs that none has begun.
pub(super) struct SpawnPool {
    shared: Arc<Shared>,
    deliver: Deliver,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    helpers: Arc<HelperPool>,
    context: LaunchContext,
    text_pages: TextPages,
}

struct State {
    queue: VecDeque<SpawnJob>,
    threads: usize,
    idle: usize,
    /// Whether one of those is being woken.
    waking: bool,
    closed: bool,
    /// The processes that are being made, or of which the engine has not taken note, by its numbers.
    making: HashMap<u64, Arc<ChildStatus>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes an idle thread, unless one is on its way: each wakes the next one if it is about to stand still with more to do.
    fn wake_one(&self, state: &mut State) {
        if state.idle > 0 && !std::mem::replace(&mut state.waking, true) {
            self.work.notify_one();
        }
    }
}

impl SpawnPool {
    /// Starts the permanent threads.
    ///
    /// # Errors
    /// The OS error where not even one thread can be had.
    pub(super) fn new(context: LaunchContext, deliver: Deliver) -> io::Result<Self> {
        let state = State {
            queue: VecDeque::new(),
            threads: 0,
            idle: 0,
            waking: false,
            closed: false,
            making: HashMap::new(),
        };
        let (state, work) = (Mutex::new(state), Condvar::new());
        let (helpers, text_pages) = (Arc::new(HelperPool::new()?), TextPages::new());
        let shared = Arc::new(Shared { state, work, helpers, context, text_pages });
        let pool = SpawnPool { shared, deliver };
        for i in 0..PERMANENT_THREADS {
            match pool.add_thread() {
                Err(error) if i == 0 => return Err(error),
                _ => {}
            }
        }
        Ok(pool)
    }

    /// Queues a job. One that a clone helper is to do need not be begun before [`begin`](Self::begin) is called: a thread that plans several at once is
    /// woken once.
    pub(super) fn push(&self, job: SpawnJob) {
        let mut state = self.shared.lock();
        let can_wait = job.request.is_for_main_thread();
        state.queue.push_back(job);
        if !can_wait {
            self.shared.wake_one(&mut state);
        }
    }

    /// Has all jobs begun that are queued.
    pub(super) fn begin(&self) {
        let mut state = self.shared.lock();
        if !state.queue.is_empty() {
            self.shared.wake_one(&mut state);
        }
    }

    /// Takes a job back that no thread has begun; tells whether there was one. What was made for it is closed.
    pub(super) fn withdraw(&self, serial: u64) -> bool {
        let mut state = self.shared.lock();
        let at = state.queue.iter().position(|job| job.serial == serial);
        let job = at.and_then(|at| state.queue.remove(at));
        drop(state);
        job.is_some()
    }

    /// How many jobs no thread has begun.
    pub(super) fn queued(&self) -> usize {
        self.shared.lock().queue.len()
    }

    /// How many planned jobs no clone helper has begun.
    pub(super) fn pending_clones(&self) -> usize {
        self.shared.helpers.waiting()
    }

    /// Returns, whenever it is called, the children that are made and that the engine has not [taken note](Self::taken) of: the numbers
    /// of their processes, and the pids. A child that is being made is known once it has a session of its own.
    pub(super) fn newborns(&self) -> Box<dyn Fn() -> Vec<(u64, i32)> + Send> {
        let shared = Arc::clone(&self.shared);
        Box::new(move || {
            let state = shared.lock();
            let pids = state.making.iter().map(|(serial, status)| (*serial, status.pid()));
            pids.map(|(serial, pid)| (serial, pid.load(Ordering::Acquire)))
                .filter(|(_, pid)| *pid != 0)
                .collect()
        })
    }

    /// The engine knows what has become of this process.
    pub(super) fn taken(&self, serial: u64) {
        self.shared.lock().making.remove(&serial);
    }

    /// Readable when there is something to [collect](Self::collect).
    pub(super) fn cloned(&self) -> BorrowedFd<'_> {
        self.shared.helpers.done()
    }

    /// What became of jobs that were not delivered: those whose children were cloned by clone helpers.
    pub(super) fn collect(&self) -> Vec<Spawned> {
        self.shared.helpers.collect()
    }

    /// Ends the clone helpers, which would not outlive this program as they must if another one took its place. Nothing must be in the making.
    pub(super) fn end_helpers(&self) {
        self.shared.helpers.end_helpers();
    }

    /// Makes a clone helper for every planned job that waits, if none is free: they are held by children's set-ups.
    pub(super) fn grow_helpers(&self) {
        self.shared.helpers.grow();
    }

    /// Starts a thread for every job that waits, if none is idle: they are held by children's set-ups.
    pub(super) fn grow(&self) {
        let state = self.shared.lock();
        let needed = match state.idle {
            0 => state.queue.len().min(MAX_THREADS.saturating_sub(state.threads)),
            // A thread that plans for clone helpers is held by what it asks: the others have not been told of more.
            _ => {
                self.shared.work.notify_all();
                0
            }
        };
        drop(state);
        for _ in 0..needed {
            // Without another thread the jobs wait for one that comes free.
            if self.add_thread().is_err() {
                break;
            }
        }
    }

    fn add_thread(&self) -> io::Result<()> {
        let stack = Stack::new()?;
        let shared = Arc::clone(&self.shared);
        let deliver = Arc::clone(&self.deliver);
        self.shared.lock().threads += 1;
        std::thread::Builder::new()
            .name("spawn".into())
            .stack_size(THREAD_STACK)
            .spawn(move || {
                sys::block_all_signals();
                match sys::leave_own_umask() {
                    Ok(()) => serve(&shared, &deliver, &stack),
                    Err(_) => shared.lock().threads -= 1,
                }
            })
            .inspect_err(|_| self.shared.lock().threads -= 1)?;
        Ok(())
    }
}

impl Drop for SpawnPool {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.queue.clear();
        self.shared.work.notify_all();
        drop(state);
        self.shared.helpers.close();
    }
}

/// A thread's life: one job after another.
fn serve(shared: &Shared, deliver: &Deliver, stack: &Stack) {
    loop {
        let mut state = shared.lock();
        let job = loop {
            if state.closed || (state.queue.is_empty() && state.threads > PERMANENT_THREADS) {
                state.threads -= 1;
                return;
            }
            if let Some(job) = state.queue.pop_front() {
                break job;
            }
            state.idle += 1;
            state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
            state.waking = false;
        };
        state.making.insert(job.serial, Arc::clone(&job.request.status));
        // A clone helper stands still in our stead.
        let stands_still = |job: &SpawnJob| !job.request.is_for_main_thread();
        if state.queue.front().is_some_and(|next| stands_still(&job) || stands_still(next)) {
            shared.wake_one(&mut state);
        }
        drop(state);
        if let Some(spawned) = spawn(job, stack, shared) {
            deliver(spawned);
        }
    }
}

/// Plans a child, and clones it, or has a clone helper clone it where it matters who its parent is; then what becomes of it is collected.
fn spawn(job: SpawnJob, stack: &Stack, shared: &Shared) -> Option<Spawned> {
    let SpawnJob { serial, request, tasks } = job;
    let status = Arc::clone(&request.status);
    let for_main_thread = request.is_for_main_thread();
    let mut plan = match LaunchPlan::new(request, &shared.context) {
        Ok(plan) => plan,
        Err(failures) => {
            let not_made = tasks.iter().map(|task| task.index).collect();
            let resolved = status.early().get().cloned().unwrap_or_default();
            return Some(Spawned { failures, not_made, resolved, ..Spawned::nothing(serial) });
        }
    };
    let (filters, not_made) = carry_out(tasks, &mut plan);
    let floor = shared.text_pages.drop_before_clone();
    if for_main_thread {
        let pending = PendingSpawn::new(serial, plan, filters, not_made, floor);
        let Err((pending, error)) = shared.helpers.submit(pending) else { return None };
        Some(pending.failed(error))
    } else {
        let cloned = clone::here(&plan, stack);
        Some(Spawned {
            floor: floor.executed(),
            ..outcome(serial, &plan, cloned, filters, not_made)
        })
    }
}

/// What became of a planned child, which has exec'd or ended, or of which there is none.
fn outcome(
    serial: u64,
    plan: &LaunchPlan,
    cloned: io::Result<OwnedChild>,
    filters: Vec<(usize, OwnedChild)>,
    not_made: Vec<usize>,
) -> Spawned {
    let (child, failures, resolved) = match cloned {
        Ok(child) => (Some(child), failures(plan), plan.resolved()),
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(0);
            let early = plan.status.early().get().cloned().unwrap_or_default();
            // What was missing before the fork is told all the same.
            let mut failures = fd_failures(plan);
            failures.push(StartFailure::new(Stage::Fork, errno, None));
            (None, failures, early)
        }
    };
    Spawned { child, failures, filters, not_made, resolved, ..Spawned::nothing(serial) }
}

/// Makes what captures need; what cannot be made fails in the child's status, with every other failing fd.
fn carry_out(tasks: Vec<Task>, plan: &mut LaunchPlan) -> (Vec<(usize, OwnedChild)>, Vec<usize>) {
    let mut filters = Vec::new();
    let mut not_made = Vec::new();
    let creds = if tasks.is_empty() { Creds::default() } else { plan.creds() };
    for Task { index, order, filter } in tasks {
        let made = match filter {
            None => order.open_named(&creds).map(|source| plan.provide(index, source)),
            Some((program, reader)) => {
                order.start(&program, reader, &creds).map(|filter| filters.push((index, filter)))
            }
        };
        if let Err(error) = made {
            plan.fail(index, error.errno(), order.named(), error.detail());
            not_made.push(index);
        }
    }
    (filters, not_made)
}

/// What the status says once the child has exec'd or ended.
fn failures(plan: &LaunchPlan) -> Vec<StartFailure> {
    let status: &ChildStatus = &plan.status;
    let attribute = status.failed().map(|(what, errno)| {
        let attribute = match what {
            SetupFailure::Session => None,
            SetupFailure::Attribute(index) => {
                plan.attributes.iter().chain(&plan.late_attributes).nth(index)
            }
        };
        let (stage, path) = attribute
            .map_or((Stage::Session, None), |attribute| (attribute.stage, attribute.path.clone()));
        StartFailure::new(stage, errno, path)
    });
    let failed: Vec<StartFailure> = attribute.into_iter().chain(fd_failures(plan)).collect();
    if !failed.is_empty() {
        return failed;
    }
    if status.reached_exec().load(Ordering::Acquire) == 0 {
        return vec![StartFailure::new(Stage::KilledInSetup, 0, None)];
    }
    match status.exec_errno().load(Ordering::Acquire) {
        0 => Vec::new(),
        errno => {
            let missing = status.exe_missing().load(Ordering::Acquire) != 0;
            let detail = if missing { None } else { explain::exec(plan, errno) };
            let path = Some(plan.exe.clone());
            vec![StartFailure { stage: Stage::Exec { missing }, errno, path, detail }]
        }
    }
}

/// The fds that could not be set up, as far as they were tried.
fn fd_failures(plan: &LaunchPlan) -> Vec<StartFailure> {
    plan.actions
        .iter()
        .zip(plan.status.action_errnos())
        .enumerate()
        .map(|(index, (action, errno))| (index, action, errno.load(Ordering::Acquire)))
        .filter(|(_, _, errno)| *errno != 0)
        .map(|(index, action, errno)| {
            let not_made = plan.not_made.iter().find(|not_made| not_made.index == index);
            let path = match action {
                FdAction::Open { path, .. } => Some(path.to_string_lossy().into_owned()),
                _ => not_made.and_then(|not_made| not_made.path.clone()),
            };
            let refused = plan.refused.iter().find(|(at, _)| *at == index);
            let detail = refused
                .map(|(_, why)| why.clone())
                .or_else(|| not_made.and_then(|not_made| not_made.detail.clone()))
                .or_else(|| led_out(action, path.as_deref(), errno));
            StartFailure { detail, ..StartFailure::new(Stage::Fd(action.target()), errno, path) }
        })
        .collect()
}

/// What an errno leaves out of a file that was to be below a directory.
fn led_out(action: &FdAction, path: Option<&str>, errno: i32) -> Option<String> {
    let confined = match action {
        FdAction::Open { directory, .. } => directory.is_some(),
        _ => errno == libc::EXDEV,
    };
    let path = path.filter(|_| confined && matches!(errno, libc::EXDEV | libc::ELOOP))?;
    Some(format!("{path} leads out of the directory that run.allowed_directories lists"))
}
