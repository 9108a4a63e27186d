//! The last thing before a process's end is told: its captures are frozen, and what they hold is recorded.
//!
//! What is small and ours is hashed at once. The rest another thread hashes, for it may be much, or on a file system that does not answer;
//! the end waits for that, but not for long.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Driver, reading};
use crate::engine::capture::{Capture, Captures, Truncation};
use crate::engine::creds::Creds;
use crate::engine::mailbox::{DriverMessage, Mailbox};
use crate::engine::state::Input;
use crate::engine::timers::Alarm;
use crate::engine::{helpers, sys};

/// How long an end waits for its captures to be hashed: some gigabytes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The stack of a thread that hashes.
const STACK: usize = 128 * 1024;
/// How many threads hash files of ours at a time.
const THREADS: usize = 2;

/// Hashes the captures of ended processes. Its threads end when there is nothing to do.
pub(super) struct Sealer {
    inbox: Arc<Mailbox<DriverMessage>>,
    pool: Arc<Mutex<Pool>>,
}

#[derive(Default)]
struct Pool {
    /// The captures of processes, with their numbers.
    waiting: VecDeque<(u64, Arc<Captures>)>,
    threads: usize,
}

impl Sealer {
    pub(super) fn new(inbox: Arc<Mailbox<DriverMessage>>) -> Sealer {
        Sealer { inbox, pool: Arc::default() }
    }

    /// Has captures sealed; [`DriverMessage::Sealed`] tells when they are.
    ///
    /// # Errors
    /// The OS error of making a thread, where there is none.
    fn start(&self, serial: u64, captures: &Arc<Captures>) -> io::Result<()> {
        let (captures, inbox) = (Arc::clone(captures), Arc::clone(&self.inbox));
        if each(&captures).any(|capture| capture.named().is_some()) {
            // On whatever file system: others are not to wait for it.
            return helpers::start(&Creds::default(), move |_| {
                each(&captures).for_each(Capture::seal);
                inbox.put(DriverMessage::Sealed(serial));
            });
        }
        let mut pool = lock(&self.pool);
        if pool.threads < THREADS {
            let shared = Arc::clone(&self.pool);
            let thread = std::thread::Builder::new().name("seal".into()).stack_size(STACK);
            match thread.spawn(move || seal_all(&shared, &inbox)) {
                Ok(_) => pool.threads += 1,
                Err(error) if pool.threads == 0 => return Err(error),
                Err(_) => {}
            }
        }
        pool.waiting.push_back((serial, captures));
        Ok(())
    }
}

fn lock(pool: &Mutex<Pool>) -> MutexGuard<'_, Pool> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seals captures as long as there are any.
fn seal_all(pool: &Mutex<Pool>, inbox: &Mailbox<DriverMessage>) {
    sys::block_all_signals();
    loop {
        let next = {
            let mut pool = lock(pool);
            let next = pool.waiting.pop_front();
            // Whoever adds one from now on sees that this thread is gone.
            pool.threads -= usize::from(next.is_none());
            next
        };
        let Some((serial, captures)) = next else { return };
        each(&captures).for_each(Capture::seal);
        inbox.put(DriverMessage::Sealed(serial));
    }
}

/// How far recording what captures hold has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sealing {
    /// The process has not ended.
    #[default]
    NotBegun,
    /// Another thread is about it.
    Running,
    /// All that can be recorded is.
    Done,
}

impl Driver {
    /// Freezes and seals the captures of a process that has ended. Returns whether that is done; else [`sealed`](Self::sealed) comes.
    pub(super) fn seal(&mut self, serial: u64) -> bool {
        let Some(process) = self.processes.get_mut(&serial) else { return true };
        match process.sealing {
            Sealing::Running => return false,
            Sealing::Done => return true,
            Sealing::NotBegun => process.sealing = Sealing::Done,
        }
        let failed = !process.failures.is_empty();
        for (index, (_, capture)) in process.captures.iter().enumerate() {
            let Some(capture) = capture else { continue };
            // Opened once for both; but no path that a user has chosen, which may not answer.
            let _held = capture.named().is_none().then(|| capture.hold());
            capture.freeze();
            if capture.is_sealed_quickly() {
                capture.seal();
            }
            // The program that was to write there never ran.
            if failed {
                reading::note(&process.captures, &mut process.cut_short, index, Truncation::Setup);
            }
        }
        if each(&process.captures).all(Capture::is_sealed) {
            return true;
        }
        if let Err(error) = self.sealer.start(serial, &process.captures) {
            tracing::warn!(proc_id = %process.id, %error, "cannot hash captured output");
            each(&process.captures).for_each(Capture::leave_unsealed);
            return true;
        }
        process.sealing = Sealing::Running;
        self.timers.set(Instant::now() + PATIENCE, Alarm::Sealing(serial));
        false
    }

    /// The captures of a process are sealed, or have taken too long.
    pub(super) fn sealed(&mut self, serial: u64) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        if process.sealing != Sealing::Running {
            return;
        }
        process.sealing = Sealing::Done;
        if !each(&process.captures).all(Capture::is_sealed) {
            tracing::warn!(proc_id = %process.id, "hashing captured output takes too long: going on without");
            each(&process.captures).for_each(Capture::leave_unsealed);
        }
        // Whatever is still open, its time was over when this began.
        self.apply(serial, Input::GraceOver);
    }
}

fn each(captures: &Captures) -> impl Iterator<Item = &Capture> {
    captures.iter().filter_map(|(_, capture)| capture)
}
