//! The last thing before a process's end is told: its captures are frozen, and what they hold is
//! recorded.
//!
//! What is small and ours is hashed at once. The rest another thread hashes, for it may be much, or
//! on a file system that does not answer; the end waits for that, but not for long.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Driver;
use super::message::DriverMessage;
use crate::clock::{after, monotonic};
use crate::engine::capture::{Capture, Captures, Truncation};
use crate::engine::creds::Creds;
use crate::engine::mailbox::Mailbox;
use crate::engine::process::Input;
use crate::engine::process::effect::ProcessAlarm;
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
    mailbox: Arc<Mailbox<DriverMessage>>,
    pool: Arc<Mutex<Pool>>,
}

#[derive(Default)]
struct Pool {
    /// The captures of processes, with their numbers.
    waiting: VecDeque<(u64, Arc<Captures>)>,
    threads: usize,
}

impl Sealer {
    pub(super) fn new(mailbox: Arc<Mailbox<DriverMessage>>) -> Sealer {
        Sealer { mailbox, pool: Arc::default() }
    }

    /// Has captures sealed; [`DriverMessage::Sealed`] tells when they are.
    ///
    /// # Errors
    /// The OS error of making a thread, where there is none.
    fn start(&self, serial: u64, captures: &Arc<Captures>) -> io::Result<()> {
        let (captures, mailbox) = (Arc::clone(captures), Arc::clone(&self.mailbox));
        if each(&captures).any(|capture| capture.named().is_some()) {
            // On whatever file system: others are not to wait for it.
            return helpers::start(&Creds::default(), move |_| {
                each(&captures).for_each(Capture::seal);
                mailbox.put(DriverMessage::Sealed(serial));
            });
        }
        let mut pool = lock(&self.pool);
        if pool.threads < THREADS {
            let shared = Arc::clone(&self.pool);
            let thread = std::thread::Builder::new().name("seal".into()).stack_size(STACK);
            match thread.spawn(move || seal_all(&shared, &mailbox)) {
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
fn seal_all(pool: &Mutex<Pool>, mailbox: &Mailbox<DriverMessage>) {
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
        mailbox.put(DriverMessage::Sealed(serial));
    }
}

impl Driver {
    /// Freezes and seals the captures of a process that has ended. [`Input::Sealed`] follows: at
    /// once if that is quick, else when another thread has done it, or has taken too long.
    pub(super) fn seal(&mut self, serial: u64) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        for capture in each(process.output.captures()) {
            // Opened once for both; but no path that a user has chosen, which may not answer.
            let _held = capture.named().is_none().then(|| capture.hold());
            capture.freeze();
            if capture.is_sealed_quickly() {
                capture.seal();
            }
        }
        if process.has_failed() {
            // The program that was to write there never ran.
            process.output.truncate_all(Truncation::NotStarted);
        }
        let running = !each(process.output.captures()).all(Capture::is_sealed)
            && match self.sealer.start(serial, process.output.captures()) {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(proc_id = %process.id, %error, "cannot hash captured output");
                    each(process.output.captures()).for_each(Capture::leave_unsealed);
                    false
                }
            };
        // What still comes is not to take any room.
        process.output.filters().for_each(|pid| self.io.filters.stop(pid));
        if running {
            let alarm = Alarm::Process(serial, ProcessAlarm::SealTimeout);
            self.io.timers.set(after(monotonic(), PATIENCE), alarm);
        } else {
            self.on(serial, Input::Sealed);
        }
    }

    /// The captures of a process are sealed, or have taken too long.
    pub(super) fn sealed(&mut self, serial: u64) {
        let Some(process) = self.processes.get(&serial).filter(|p| p.is_sealing()) else { return };
        let captures = process.output.captures();
        if !each(captures).all(Capture::is_sealed) {
            tracing::warn!(proc_id = %process.id, "hashing captured output takes too long: going on without");
            each(captures).for_each(Capture::leave_unsealed);
        }
        self.on(serial, Input::Sealed);
    }
}

fn each(captures: &Captures) -> impl Iterator<Item = &Capture> {
    captures.iter().filter_map(|(_, capture)| capture)
}
