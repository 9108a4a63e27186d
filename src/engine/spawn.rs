//! The threads that clone children.
//!
//! A clone that shares our memory blocks its thread until the child has exec'd or ended, so a pool
//! of threads does it. Four of them are permanent: on a loaded machine set-ups wait for the CPU,
//! and the clones overlap. A child that waits longer (opening a FIFO, a file on a dead mount)
//! blocks only its own thread, and so does a directory service: when all threads are blocked, the
//! pool starts more, up to [`MAX_THREADS`].
//!
//! If the identity of the parent matters, a thread only plans the child, and
//! [requests](helper_pool) the clone from a [clone helper](clone_helper).

mod clone;
mod clone_helper;
mod clone_into;
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

use crate::cgroup::Group;
use crate::engine::capture::capture_writer::Order;
use crate::engine::creds::Creds;
use crate::engine::event::Resolved;
use crate::engine::failure::{Stage, StartFailure};
use crate::engine::group_order::GroupOrder;
use crate::engine::owned_child::OwnedChild;
use crate::engine::plan::{
    ChildStatus, FdAction, LaunchContext, LaunchPlan, LaunchRequest, SetupFailure,
};
use crate::engine::sys::{self, Stack};
use crate::mem::text_pages::{Floor, TextPages};
use helper_pool::{HelperPool, PendingSpawn};

const PERMANENT_THREADS: usize = 4;
/// Most threads, and so most blocked set-ups; a blocked thread costs some 20 KB.
const MAX_THREADS: usize = 4096;
/// The stack size of a thread, which also runs the modules of directory services.
const THREAD_STACK: usize = 256 * 1024;

/// A process to be made.
pub(super) struct SpawnJob {
    /// The engine's number of the process.
    pub(super) serial: u64,
    pub(super) request: LaunchRequest,
    /// The slow steps before the clone.
    pub(super) tasks: Vec<Task>,
    /// The control group that is to be created for it.
    pub(super) group: Option<GroupOrder>,
}

/// A slow step of making a capture.
pub(super) struct Task {
    /// The fd's index in the spec.
    pub(super) index: usize,
    pub(super) order: Order,
    /// The capture writer's work and its pipe; `None` if the process itself writes the named file.
    pub(super) writer: Option<(PathBuf, OwnedFd)>,
}

/// The result of a job.
pub(super) struct Spawned {
    /// The engine's number of the process.
    pub(super) serial: u64,
    /// The child, which may have ended already, and must be reaped; `None` if there is no child.
    pub(super) child: Option<OwnedChild>,
    /// Why it does not run as specified; empty if it does.
    pub(super) failures: Vec<StartFailure>,
    /// The started capture writers, by the index of their fds.
    pub(super) capture_writers: Vec<(usize, OwnedChild)>,
    /// The indices of captures that could not be set up.
    pub(super) not_made: Vec<usize>,
    /// The properties of the spec that were resolved.
    pub(super) resolved: Resolved,
    /// The floor of the child's `maxrss`.
    pub(super) floor: Floor,
    /// Whether the child was made a member of its control group.
    pub(super) in_group: bool,
    /// Why no control group could be created.
    pub(super) group_error: Option<io::Error>,
}

impl Spawned {
    /// The result of a job without a child.
    pub(super) fn failed(serial: u64, failure: StartFailure) -> Spawned {
        Spawned { failures: vec![failure], ..Spawned::nothing(serial) }
    }

    fn nothing(serial: u64) -> Spawned {
        Spawned {
            serial,
            child: None,
            failures: Vec::new(),
            capture_writers: Vec::new(),
            not_made: Vec::new(),
            resolved: Resolved::default(),
            floor: Floor::default(),
            in_group: false,
            group_error: None,
        }
    }
}

/// The child that was cloned directly from a plan, with the pid and pidfd in the status.
fn child_of(pid: i32, plan: &LaunchPlan) -> OwnedChild {
    // SAFETY: the kernel has opened this descriptor for us; the engine only borrows its number from
    // the status.
    let pidfd = unsafe { OwnedFd::from_raw_fd(plan.status.pidfd().load(Ordering::Acquire)) };
    OwnedChild { pid, pidfd }
}

/// The child that a clone helper has cloned. Only the engine reaps it, so its pid is not reused.
///
/// # Errors
/// The OS error of opening a pidfd; the child is then killed.
fn child_of_helper(pid: i32, plan: &LaunchPlan) -> io::Result<OwnedChild> {
    plan.status.pidfd_of(pid).map(|_| child_of(pid, plan)).inspect_err(|_| {
        let pid = Pid::from_raw(pid);
        let _ = kill(pid, SIGKILL);
        let _ = waitpid(pid, None);
    })
}

/// Receives the results of jobs, on the pool's threads.
pub(super) type Deliver = Arc<dyn Fn(Spawned) + Send + Sync>;

/// The pool. Dropping it ends its threads once they are free, and drops the jobs that none has
/// begun.
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
    /// Threads that are about to look for their first job.
    starting: usize,
    idle: usize,
    /// Whether an idle thread is being woken.
    waking: bool,
    closed: bool,
    /// The processes that are being made, or whose result the engine has not noted, by its numbers.
    making: HashMap<u64, Arc<ChildStatus>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No holder of the lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes an idle thread, unless one is waking up: each wakes the next one if jobs remain.
    fn wake_one(&self, state: &mut State) {
        if state.idle > 0 && !std::mem::replace(&mut state.waking, true) {
            self.work.notify_one();
        }
    }
}

impl SpawnPool {
    /// Starts the first permanent thread; jobs start the others, because most programs run few
    /// processes.
    ///
    /// # Errors
    /// The OS error if not even one thread can be started.
    pub(super) fn new(context: LaunchContext, deliver: Deliver) -> io::Result<Self> {
        let state = State {
            queue: VecDeque::new(),
            threads: 0,
            starting: 0,
            idle: 0,
            waking: false,
            closed: false,
            making: HashMap::new(),
        };
        let (state, work) = (Mutex::new(state), Condvar::new());
        let (helpers, text_pages) = (Arc::new(HelperPool::new()?), TextPages::new());
        let shared = Arc::new(Shared { state, work, helpers, context, text_pages });
        let pool = SpawnPool { shared, deliver };
        pool.add_thread()?;
        Ok(pool)
    }

    /// Queues a job. A job for a clone helper need not begin before [`begin`](Self::begin): a
    /// thread that plans several at once is woken once.
    pub(super) fn push(&self, job: SpawnJob) {
        let mut state = self.shared.lock();
        let can_wait = job.request.is_for_main_thread();
        state.queue.push_back(job);
        if !can_wait {
            self.wake(state);
        }
    }

    /// Wakes an idle thread; without one, starts another permanent one if one is missing.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        self.shared.wake_one(&mut state);
        let is_missing =
            state.queue.len() > state.idle + state.starting && state.threads < PERMANENT_THREADS;
        drop(state);
        if is_missing {
            // Without another thread, the jobs wait for a free one.
            let _ = self.add_thread();
        }
    }

    /// Makes the threads begin all queued jobs.
    pub(super) fn begin(&self) {
        let mut state = self.shared.lock();
        if !state.queue.is_empty() {
            self.shared.wake_one(&mut state);
        }
    }

    /// Removes a job that no thread has begun; returns whether there was one. Closes its
    /// descriptors.
    pub(super) fn withdraw(&self, serial: u64) -> bool {
        let mut state = self.shared.lock();
        let at = state.queue.iter().position(|job| job.serial == serial);
        let job = at.and_then(|at| state.queue.remove(at));
        drop(state);
        job.is_some()
    }

    /// The number of jobs that no thread has begun.
    pub(super) fn queued(&self) -> usize {
        self.shared.lock().queue.len()
    }

    /// The number of planned jobs that no clone helper has begun.
    pub(super) fn pending_clones(&self) -> usize {
        self.shared.helpers.waiting()
    }

    /// Returns a function that lists the children that are made and that the engine has not
    /// [noted](Self::taken): the numbers of their processes, and the pids. A new child is listed
    /// once it has its own session.
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

    /// Notes that the engine knows the result of this process.
    pub(super) fn taken(&self, serial: u64) {
        self.shared.lock().making.remove(&serial);
    }

    /// Readable when there are results to [collect](Self::collect).
    pub(super) fn cloned(&self) -> BorrowedFd<'_> {
        self.shared.helpers.done()
    }

    /// The results of jobs whose children clone helpers have cloned.
    pub(super) fn collect(&self) -> Vec<Spawned> {
        self.shared.helpers.collect()
    }

    /// Ends the clone helpers, because they must not outlive this program if another one replaces
    /// it. No process may be in the making.
    pub(super) fn end_helpers(&self) {
        self.shared.helpers.end_helpers();
    }

    /// Makes a clone helper for every waiting planned job, if none is free: set-ups block them.
    pub(super) fn grow_helpers(&self) {
        self.shared.helpers.grow();
    }

    /// Starts a thread for every waiting job, if none is idle: set-ups block them.
    pub(super) fn grow(&self) {
        let state = self.shared.lock();
        let needed = match state.idle {
            0 => state.queue.len().min(MAX_THREADS.saturating_sub(state.threads)),
            // A thread that plans for clone helpers is blocked in a lookup: no other thread was
            // woken for the rest.
            _ => {
                self.shared.work.notify_all();
                0
            }
        };
        drop(state);
        for _ in 0..needed {
            // Without another thread the jobs wait for a free one.
            if self.add_thread().is_err() {
                break;
            }
        }
    }

    fn add_thread(&self) -> io::Result<()> {
        let stack = Stack::new()?;
        let shared = Arc::clone(&self.shared);
        let deliver = Arc::clone(&self.deliver);
        let failed = |shared: &Shared| {
            let mut state = shared.lock();
            state.threads -= 1;
            state.starting -= 1;
        };
        {
            let mut state = self.shared.lock();
            state.threads += 1;
            state.starting += 1;
        }
        std::thread::Builder::new()
            .name("spawn".into())
            .stack_size(THREAD_STACK)
            .spawn(move || {
                sys::block_all_signals();
                match sys::leave_own_umask() {
                    Ok(()) => serve(&shared, &deliver, &stack),
                    Err(_) => failed(&shared),
                }
            })
            .inspect_err(|_| failed(&self.shared))?;
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

/// The main function of a thread: one job after another.
fn serve(shared: &Shared, deliver: &Deliver, stack: &Stack) {
    shared.lock().starting -= 1;
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
        // A clone helper blocks instead of this thread.
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

/// Plans a child, and clones it, or requests the clone from a clone helper if the identity of the
/// parent matters; then the pool collects the result.
fn spawn(job: SpawnJob, stack: &Stack, shared: &Shared) -> Option<Spawned> {
    let SpawnJob { serial, request, tasks, group } = job;
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
    let (capture_writers, not_made) = carry_out(tasks, &mut plan);
    let (group, group_error) = create(group);
    let floor = shared.text_pages.drop_before_clone();
    if for_main_thread {
        // The child enters the group itself: few processes have a death signal.
        plan.group_procs = group.as_ref().and_then(clone::procs_of);
        let pending = PendingSpawn::new(serial, plan, capture_writers, not_made, floor);
        let Err((pending, error)) = shared.helpers.submit(pending) else { return None };
        Some(pending.failed(error))
    } else {
        let cloned = clone::here(&mut plan, stack, group.as_ref());
        let made = outcome(serial, &plan, cloned, capture_writers, not_made);
        let group_error = group_error.or(made.group_error);
        Some(Spawned { floor: floor.executed(), group_error, ..made })
    }
}

/// Creates the group of a process.
fn create(order: Option<GroupOrder>) -> (Option<Group>, Option<io::Error>) {
    match order.map(|order| order.carry_out()).transpose() {
        Ok(group) => (group, None),
        Err(error) => (None, Some(error)),
    }
}

/// The result of a planned child, which has exec'd or ended, or could not be cloned.
fn outcome(
    serial: u64,
    plan: &LaunchPlan,
    cloned: io::Result<OwnedChild>,
    capture_writers: Vec<(usize, OwnedChild)>,
    not_made: Vec<usize>,
) -> Spawned {
    let (child, failures, resolved) = match cloned {
        Ok(child) => (Some(child), failures(plan), plan.resolved()),
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(0);
            let early = plan.status.early().get().cloned().unwrap_or_default();
            // Files that were missing before the clone are reported too.
            let mut failures = fd_failures(plan);
            failures.push(StartFailure::new(Stage::Fork, errno, None));
            (None, failures, early)
        }
    };
    let in_group = plan.status.in_group().load(Ordering::Acquire);
    let group_error = (in_group < 0).then(|| io::Error::from_raw_os_error(-in_group));
    let in_group = child.is_some() && in_group == 1;
    let made = Spawned { child, failures, in_group, group_error, ..Spawned::nothing(serial) };
    Spawned { capture_writers, not_made, resolved, ..made }
}

/// Makes the slow parts of captures; failures are recorded in the child's status, with those of
/// other fds.
fn carry_out(tasks: Vec<Task>, plan: &mut LaunchPlan) -> (Vec<(usize, OwnedChild)>, Vec<usize>) {
    let mut capture_writers = Vec::new();
    let mut not_made = Vec::new();
    let creds = if tasks.is_empty() { Creds::default() } else { plan.creds() };
    for Task { index, order, writer } in tasks {
        let made = match writer {
            None => order.open_named(&creds).map(|source| plan.provide(index, source)),
            Some((program, reader)) => order
                .start(&program, reader, &creds)
                .map(|writer| capture_writers.push((index, writer))),
        };
        if let Err(error) = made {
            plan.fail(index, error.errno(), order.named(), error.detail());
            not_made.push(index);
        }
    }
    (capture_writers, not_made)
}

/// The failures in the status once the child has exec'd or ended.
fn failures(plan: &LaunchPlan) -> Vec<StartFailure> {
    let status: &ChildStatus = &plan.status;
    let attribute = status.failed().map(|(what, errno)| {
        let attribute = match what {
            SetupFailure::Session => None,
            SetupFailure::Attribute(index) => {
                plan.attributes.iter().chain(&plan.late_attributes).nth(index)
            }
        };
        attribute.map_or_else(
            || StartFailure::new(Stage::Session, errno, None),
            |attribute| attribute.failure(errno),
        )
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
            let detail = if missing {
                explain::missing(&plan.exe, plan.lookup_path)
            } else {
                explain::exec(plan, errno)
            };
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

/// Details of an error on a file that must be below a directory.
fn led_out(action: &FdAction, path: Option<&str>, errno: i32) -> Option<String> {
    let confined = match action {
        FdAction::Open { directory, .. } => directory.is_some(),
        _ => errno == libc::EXDEV,
    };
    let path = path.filter(|_| confined && matches!(errno, libc::EXDEV | libc::ELOOP))?;
    Some(format!("{path} leads out of the directory that run.allowed_directories lists"))
}
