//! The pool of [clone helpers](super::clone_helper): their number, their requests, and the results.
//!
//! A thread that has planned a child puts a request into a pipe and goes on. A free clone helper
//! reads it, clones the child, and puts the request's number into another pipe, which the engine
//! reads. So no thread waits for another, and a slow set-up delays only its own child and helper.
//! Helpers take no lock, because they can be killed at any moment.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::clone_helper::{self, HelperExit, Message, SpawnRequest};
use super::{MAX_THREADS, PERMANENT_THREADS, Spawned, child_of_helper, outcome};
use crate::engine::failpoints::{self, Call};
use crate::engine::owned_child::OwnedChild;
use crate::engine::plan::LaunchPlan;
use crate::engine::sys;
use crate::mem::text_pages::Floor;

/// Most helpers, and so most set-ups at once.
const MAX_HELPERS: usize = MAX_THREADS;
/// After so many helpers in a row that were killed before their first request, no more are made.
const MAX_FRUITLESS: usize = 3;
/// Stack size of an owner thread, which does little more than wait.
const OWNER_STACK: usize = 64 * 1024;

/// The pending requests, the helpers, and the pipes between.
pub(super) struct HelperPool {
    state: Mutex<PoolState>,
    /// From planning threads to helpers. Writing does not wait.
    requests: Pipe,
    /// From helpers to the engine. Reading does not wait.
    done: Pipe,
}

struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

#[derive(Default)]
struct PoolState {
    /// The requests whose results the engine has not collected.
    pending: HashMap<u64, Box<PendingSpawn>>,
    /// The numbers of the requests that helpers have not begun, and of some that they have: helpers
    /// begin them in order.
    unclaimed: Vec<u64>,
    last_number: u64,
    /// The threads that make helpers and outlive them.
    owners: Vec<JoinHandle<()>>,
    /// The number of helpers, and of helpers that are being shut down.
    helpers: usize,
    leaving: usize,
    /// Whether the pool is closing: helpers are no longer replaced.
    closing: bool,
}

/// A process whose child a helper will clone, with the parent's ends of its fds.
pub(super) struct PendingSpawn {
    pub(super) serial: u64,
    pub(super) request: SpawnRequest,
    pub(super) capture_writers: Vec<(usize, OwnedChild)>,
    pub(super) not_made: Vec<usize>,
    floor: Floor,
}

impl PendingSpawn {
    pub(super) fn new(
        serial: u64,
        plan: LaunchPlan,
        capture_writers: Vec<(usize, OwnedChild)>,
        not_made: Vec<usize>,
        floor: Floor,
    ) -> Box<PendingSpawn> {
        let request = SpawnRequest::new(plan);
        Box::new(PendingSpawn { serial, request, capture_writers, not_made, floor })
    }

    /// The result of the request.
    fn spawned(self) -> Spawned {
        let cloned = match self.request.child.load(Ordering::Acquire) {
            pid if pid > 0 => child_of_helper(pid, &self.request.plan),
            errno => Err(io::Error::from_raw_os_error(-errno)),
        };
        let made =
            outcome(self.serial, &self.request.plan, cloned, self.capture_writers, self.not_made);
        Spawned { floor: self.floor.executed(), ..made }
    }

    /// The result of a request that could not be submitted.
    pub(super) fn failed(self, error: io::Error) -> Spawned {
        outcome(self.serial, &self.request.plan, Err(error), self.capture_writers, self.not_made)
    }
}

impl HelperPool {
    /// A pool without helpers: most programs need none.
    ///
    /// # Errors
    /// The OS error of making pipes.
    pub(super) fn new() -> io::Result<Self> {
        let pipe = || sys::pipe().map(|(reader, writer)| Pipe { reader, writer });
        let (requests, done) = (pipe()?, pipe()?);
        sys::set_nonblocking(&requests.writer)?;
        sys::set_nonblocking(&done.reader)?;
        Ok(HelperPool { state: Mutex::default(), requests, done })
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        // No holder of the lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Submits a request for a child.
    ///
    /// # Errors
    /// The request, with the OS error of making a helper if there is none.
    pub(super) fn submit(
        self: &Arc<Self>,
        pending: Box<PendingSpawn>,
    ) -> Result<(), (Box<PendingSpawn>, io::Error)> {
        if let Err(error) = failpoints::check(Call::Clone) {
            return Err((pending, error));
        }
        loop {
            let mut state = self.state();
            if state.closing {
                return Ok(());
            }
            // One helper for each pending child, up to a limit: for long waits, `grow` adds more.
            if state.pending.len() >= state.live()
                && state.live() < PERMANENT_THREADS
                && let Err(error) = self.add_helper(&mut state)
                && state.live() == 0
            {
                return Err((pending, error));
            }
            let number = state.last_number + 1;
            match self.send(Message::of(&pending.request, number)) {
                Ok(()) => {
                    state.last_number = number;
                    state.unclaimed.push(number);
                    // Boxed, so that its address stays the same.
                    state.pending.insert(number, pending);
                    return Ok(());
                }
                Err(Errno::EAGAIN) => {}
                Err(error) => return Err((pending, error.into())),
            }
            drop(state);
            self.wait_for_room();
        }
    }

    /// Writes a whole message into the pipe, or nothing. Each message is read by one helper only.
    fn send(&self, message: Message) -> Result<(), Errno> {
        nix::unistd::write(&self.requests.writer, &message.to_bytes()).map(drop)
    }

    /// The number of requests that no helper has begun.
    pub(super) fn waiting(&self) -> usize {
        self.state().waiting()
    }

    /// Makes a helper for every waiting request, up to the limit. Call it when all helpers are held
    /// by set-ups.
    pub(super) fn grow(self: &Arc<Self>) {
        let mut state = self.state();
        let room = MAX_HELPERS.saturating_sub(state.helpers);
        let lacking = state.pending.len().saturating_sub(state.live());
        for _ in 0..state.waiting().min(lacking).min(room) {
            // Without another helper, the requests wait for a free one.
            if self.add_helper(&mut state).is_err() {
                break;
            }
        }
    }

    /// Readable once a request is completed.
    pub(super) fn done(&self) -> BorrowedFd<'_> {
        self.done.reader.as_fd()
    }

    /// Collects the completed requests. Only one thread may call it.
    pub(super) fn collect(&self) -> Vec<Spawned> {
        let mut numbers = [0; 64 * 8];
        let read = nix::unistd::read(&self.done.reader, &mut numbers).unwrap_or(0);
        let (numbers, _) = numbers.get(..read).unwrap_or_default().as_chunks::<8>();
        let mut state = self.state();
        // The completion by a killed helper is sometimes reported twice.
        let numbers = numbers.iter().map(|number| u64::from_ne_bytes(*number));
        let pending: Vec<_> = numbers.filter_map(|number| state.pending.remove(&number)).collect();
        // Keep the permanent helpers; the other free ones end.
        let needed = state.pending.len().max(PERMANENT_THREADS);
        let surplus = state.live().saturating_sub(needed);
        self.shut_down(&mut state, surplus);
        drop(state);
        pending.into_iter().map(|pending| pending.spawned()).collect()
    }

    /// Shuts free helpers down.
    fn shut_down(&self, state: &mut PoolState, count: usize) {
        for _ in 0..count {
            while self.send(Message::SHUTDOWN) == Err(Errno::EAGAIN) {
                // Several hundred messages can fill the pipe.
                self.wait_for_room();
            }
            state.leaving += 1;
        }
    }

    /// Ends the helpers, all of which must be free: after an exec they could not end properly.
    pub(super) fn end_helpers(&self) {
        let mut state = self.state();
        state.closing = true;
        let count = state.live();
        self.shut_down(&mut state, count);
        let owners = std::mem::take(&mut state.owners);
        drop(state);
        for owner in owners {
            // An owner thread does not panic.
            let _ = owner.join();
        }
        let mut state = self.state();
        self.empty(&mut state);
        state.closing = false;
    }

    /// Drops the requests that no helper has begun, and ends each helper once it is free.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closing = true;
        state.pending.values().for_each(|pending| {
            pending.request.begun.store(true, Ordering::Release);
        });
        // If busy helpers leave no room for all messages, the rest end with this program.
        for _ in 0..state.live() {
            if self.send(Message::SHUTDOWN).is_ok() {
                state.leaving += 1;
            }
        }
    }

    /// Empties the pipe. No helper may be reading it.
    fn empty(&self, state: &mut PoolState) {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the kernel writes one int.
        unsafe { libc::ioctl(self.requests.reader.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
        let mut bytes = vec![0; usize::try_from(bytes).unwrap_or(0)];
        if !bytes.is_empty() {
            // The pipe holds this many bytes, so the read does not wait.
            let _ = nix::unistd::read(&self.requests.reader, &mut bytes);
        }
        state.leaving = 0;
    }

    fn add_helper(self: &Arc<Self>, state: &mut PoolState) -> io::Result<()> {
        let requests = Arc::clone(self);
        state.owners.retain(|owner| !owner.is_finished());
        let owner = std::thread::Builder::new()
            .name("proxy".into())
            .stack_size(OWNER_STACK)
            .spawn(move || {
                sys::block_all_signals();
                match sys::leave_own_umask() {
                    Ok(()) => requests.run_helpers(),
                    Err(error) => requests.lose_helper(&error),
                }
            })?;
        state.helpers += 1;
        state.owners.push(owner);
        Ok(())
    }

    /// The main function of an owner thread: it runs one helper after another, until one is shut
    /// down.
    fn run_helpers(&self) {
        // Helpers in a row that were killed before their first request.
        let mut fruitless = 0;
        loop {
            let left =
                clone_helper::run_to_exit(self.requests.reader.as_fd(), self.done.writer.as_fd());
            match left {
                Ok(HelperExit::Shutdown) => {
                    let mut state = self.state();
                    state.leaving = state.leaving.saturating_sub(1);
                    state.helpers -= 1;
                    return;
                }
                Ok(HelperExit::Completed(number)) => {
                    fruitless = 0;
                    self.notify(number);
                }
                Ok(HelperExit::Interrupted { message, first }) => {
                    fruitless = if first { fruitless + 1 } else { 0 };
                    self.resubmit(message);
                }
                Ok(HelperExit::Idle) => fruitless += 1,
                Err(error) => return self.lose_helper(&error),
            }
            if fruitless >= MAX_FRUITLESS {
                return self.lose_helper(&io::Error::from_raw_os_error(libc::ECHILD));
            }
            if self.state().closing {
                self.state().helpers -= 1;
                return;
            }
        }
    }

    /// Reports to the engine that a request was completed, or never will be.
    fn notify(&self, number: u64) {
        // Waits while thousands of numbers are unread. Any other error would be a closed
        // descriptor.
        let _ = nix::unistd::write(&self.done.writer, &number.to_ne_bytes());
    }

    fn resubmit(&self, message: Message) {
        loop {
            let mut state = self.state();
            let Some(pending) = state.pending.get(&message.number) else { return };
            if state.closing {
                return;
            }
            pending.request.begun.store(false, Ordering::Release);
            if self.send(message) != Err(Errno::EAGAIN) {
                state.unclaimed.push(message.number);
                return;
            }
            drop(state);
            self.wait_for_room();
        }
    }

    /// Counts one helper less. With the last one, all pending requests fail.
    fn lose_helper(&self, error: &io::Error) {
        let errno = error.raw_os_error().unwrap_or(libc::ECHILD);
        let mut state = self.state();
        state.helpers -= 1;
        if state.helpers > 0 {
            return;
        }
        self.empty(&mut state);
        let fails_now = |request: &SpawnRequest| {
            request.child.compare_exchange(0, -errno, Ordering::AcqRel, Ordering::Acquire).is_ok()
        };
        let failed: Vec<u64> = state
            .pending
            .iter()
            .filter(|(_, pending)| fails_now(&pending.request))
            .map(|(number, _)| *number)
            .collect();
        drop(state);
        failed.into_iter().for_each(|number| self.notify(number));
    }

    /// Waits until there may be room for another message: thousands wait for helpers.
    fn wait_for_room(&self) {
        let mut room = [PollFd::new(self.requests.writer.as_fd(), PollFlags::POLLOUT)];
        let _ = poll(&mut room, PollTimeout::NONE);
    }
}

impl PoolState {
    /// The number of requests that no helper has begun.
    fn waiting(&mut self) -> usize {
        let PoolState { pending, unclaimed, .. } = self;
        let begun = |number: &u64| {
            pending.get(number).is_none_or(|it| it.request.begun.load(Ordering::Acquire))
        };
        unclaimed.retain(|number| !begun(number));
        unclaimed.len()
    }

    /// The number of helpers that are not being shut down.
    fn live(&self) -> usize {
        self.helpers.saturating_sub(self.leaving)
    }
}
