//! The pool of [clone helpers](super::clone_helper): how many there are, which requests they carry out, and with which result.
//!
//! A thread that has planned a child puts a request into a pipe and goes on. A free clone helper takes it, clones the child, and puts the request's
//! number into another pipe, which the engine reads. So nobody waits for anybody, a helper that is held by a child's set-up holds nothing but
//! that child, and no lock is taken by one, which can be killed at any moment.

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

/// As many helpers can be held by set-ups at once.
const MAX_HELPERS: usize = MAX_THREADS;
/// So many helpers in turn may be killed before they have done anything, until no more are made.
const MAX_FRUITLESS: usize = 3;
/// An owner thread does little more than wait.
const OWNER_STACK: usize = 64 * 1024;

/// The pending requests, the helpers, and the pipes between.
pub(super) struct HelperPool {
    state: Mutex<PoolState>,
    /// From those who plan to helpers. Writing does not wait.
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
    /// The numbers of those that helpers have not begun, and of some that they have: they begin them in turn.
    unclaimed: Vec<u64>,
    last_number: u64,
    /// The threads that make helpers and outlive them.
    owners: Vec<JoinHandle<()>>,
    /// How many of them there are, and how many of their helpers are being shut down.
    helpers: usize,
    leaving: usize,
    /// No helper takes the place of one that ends.
    closing: bool,
}

/// A process whose child a helper is to clone, with what was made beside it.
pub(super) struct PendingSpawn {
    pub(super) serial: u64,
    pub(super) request: SpawnRequest,
    pub(super) filters: Vec<(usize, OwnedChild)>,
    pub(super) not_made: Vec<usize>,
    floor: Floor,
}

impl PendingSpawn {
    pub(super) fn new(
        serial: u64,
        plan: LaunchPlan,
        filters: Vec<(usize, OwnedChild)>,
        not_made: Vec<usize>,
        floor: Floor,
    ) -> Box<PendingSpawn> {
        let request = SpawnRequest::new(plan);
        Box::new(PendingSpawn { serial, request, filters, not_made, floor })
    }

    /// What became of it.
    fn spawned(self) -> Spawned {
        let cloned = match self.request.child.load(Ordering::Acquire) {
            pid if pid > 0 => child_of_helper(pid, &self.request.plan),
            errno => Err(io::Error::from_raw_os_error(-errno)),
        };
        let made = outcome(self.serial, &self.request.plan, cloned, self.filters, self.not_made);
        Spawned { floor: self.floor.executed(), ..made }
    }

    /// The result where the request could not even be submitted.
    pub(super) fn failed(self, error: io::Error) -> Spawned {
        outcome(self.serial, &self.request.plan, Err(error), self.filters, self.not_made)
    }
}

impl HelperPool {
    /// Without any helper: most programs need none.
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
        // Nothing that holds the lock can leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Submits a request for a child.
    ///
    /// # Errors
    /// The OS error where there is no helper, and none can be made; and the request.
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
            // One for each child that is being made, up to a number: what waits longer gets more by `grow`.
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
                    // Boxed: it stays where it is.
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

    /// Puts a message into the pipe, or nothing. What is in it is read by one helper only.
    fn send(&self, message: Message) -> Result<(), Errno> {
        nix::unistd::write(&self.requests.writer, &message.to_bytes()).map(drop)
    }

    /// How many requests no helper has begun.
    pub(super) fn waiting(&self) -> usize {
        self.state().waiting()
    }

    /// Makes a helper for every request that waits, where there are not as many already: all are held by a child's set-up.
    pub(super) fn grow(self: &Arc<Self>) {
        let mut state = self.state();
        let room = MAX_HELPERS.saturating_sub(state.helpers);
        let lacking = state.pending.len().saturating_sub(state.live());
        for _ in 0..state.waiting().min(lacking).min(room) {
            // Without another one the requests wait for one that comes free.
            if self.add_helper(&mut state).is_err() {
                break;
            }
        }
    }

    /// Readable when an request was carried out.
    pub(super) fn done(&self) -> BorrowedFd<'_> {
        self.done.reader.as_fd()
    }

    /// Takes what was carried out. To be called by one thread only.
    pub(super) fn collect(&self) -> Vec<Spawned> {
        let mut numbers = [0; 64 * 8];
        let read = nix::unistd::read(&self.done.reader, &mut numbers).unwrap_or(0);
        let (numbers, _) = numbers.get(..read).unwrap_or_default().as_chunks::<8>();
        let mut state = self.state();
        // The end of a helper that was killed is told of twice now and then.
        let numbers = numbers.iter().map(|number| u64::from_ne_bytes(*number));
        let pending: Vec<_> = numbers.filter_map(|number| state.pending.remove(&number)).collect();
        // Those that are free, but for the permanent ones.
        let needed = state.pending.len().max(PERMANENT_THREADS);
        let surplus = state.live().saturating_sub(needed);
        self.shut_down(&mut state, surplus);
        drop(state);
        pending.into_iter().map(|pending| pending.spawned()).collect()
    }

    /// Has free helpers end.
    fn shut_down(&self, state: &mut PoolState, count: usize) {
        for _ in 0..count {
            while self.send(Message::SHUTDOWN) == Err(Errno::EAGAIN) {
                // Of hundreds.
                self.wait_for_room();
            }
            state.leaving += 1;
        }
    }

    /// Ends the helpers, all of which must be free: in a program that takes the place of this one they would not end as they must.
    pub(super) fn end_helpers(&self) {
        let mut state = self.state();
        state.closing = true;
        let count = state.live();
        self.shut_down(&mut state, count);
        let owners = std::mem::take(&mut state.owners);
        drop(state);
        for owner in owners {
            // It does not panic.
            let _ = owner.join();
        }
        let mut state = self.state();
        self.empty(&mut state);
        state.closing = false;
    }

    /// Forgets what no helper has begun, and ends each once it is free.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closing = true;
        state.pending.values().for_each(|pending| {
            pending.request.begun.store(true, Ordering::Release);
        });
        // Where so many are held that there is no room for all, they end when this program does.
        for _ in 0..state.live() {
            if self.send(Message::SHUTDOWN).is_ok() {
                state.leaving += 1;
            }
        }
    }

    /// Takes everything out of the pipe. There must be no helper that reads it, too.
    fn empty(&self, state: &mut PoolState) {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the kernel writes one int.
        unsafe { libc::ioctl(self.requests.reader.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
        let mut bytes = vec![0; usize::try_from(bytes).unwrap_or(0)];
        if !bytes.is_empty() {
            // There is so much in it, so this does not wait.
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

    /// The life of an owner thread: one helper after another, until one is shut down.
    fn run_helpers(&self) {
        // How many in turn were killed before they had done anything.
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
                    self.tell(number);
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

    /// Tells the engine that an request was carried out, or never will be.
    fn tell(&self, number: u64) {
        // Waits while thousands are untold. What else could fail is a descriptor that is not ours.
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
        let told = |request: &SpawnRequest| {
            request.child.compare_exchange(0, -errno, Ordering::AcqRel, Ordering::Acquire).is_ok()
        };
        let failed: Vec<u64> = state
            .pending
            .iter()
            .filter(|(_, pending)| told(&pending.request))
            .map(|(number, _)| *number)
            .collect();
        drop(state);
        failed.into_iter().for_each(|number| self.tell(number));
    }

    /// Waits until there may be room for another message: thousands wait for helpers.
    fn wait_for_room(&self) {
        let mut room = [PollFd::new(self.requests.writer.as_fd(), PollFlags::POLLOUT)];
        let _ = poll(&mut room, PollTimeout::NONE);
    }
}

impl PoolState {
    /// How many requests no helper has begun.
    fn waiting(&mut self) -> usize {
        let PoolState { pending, unclaimed, .. } = self;
        let begun = |number: &u64| {
            pending.get(number).is_none_or(|it| it.request.begun.load(Ordering::Acquire))
        };
        unclaimed.retain(|number| !begun(number));
        unclaimed.len()
    }

    /// How many helpers there are that are not being shut down.
    fn live(&self) -> usize {
        self.helpers.saturating_sub(self.leaving)
    }
}
