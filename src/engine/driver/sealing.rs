//! The last step before the end of a process is reported: its captures are frozen, and their
//! contents recorded.
//!
//! The engine hashes small files of ours at once. Another thread hashes the others, which may be
//! large or on a hung file system; the report waits for it, up to a timeout.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Driver;
use super::message::DriverMessage;
use crate::clock::{after, monotonic};
use crate::engine::capture::{Capture, Captures, SealGate, Truncation};
use crate::engine::creds::Creds;
use crate::engine::mailbox::Mailbox;
use crate::engine::process::Input;
use crate::engine::process::effect::ProcessAlarm;
use crate::engine::timers::Alarm;
use crate::engine::{helpers, sys};

/// Timeout of hashing, enough for some gigabytes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The stack size of a hashing thread.
const STACK: usize = 128 * 1024;
/// Most threads that hash files of ours at a time.
const THREADS: usize = 2;

/// Hashes the captures of ended processes. Its threads end when there is nothing to do.
pub(super) struct Sealer {
    mailbox: Arc<Mailbox<DriverMessage>>,
    pool: Arc<Mutex<Pool>>,
    gate: Arc<SealGate>,
}

#[derive(Default)]
struct Pool {
    /// The captures of processes, with their numbers.
    waiting: VecDeque<(u64, Arc<Captures>)>,
    threads: usize,
}

impl Sealer {
    pub(super) fn new(mailbox: Arc<Mailbox<DriverMessage>>) -> Sealer {
        Sealer { mailbox, pool: Arc::default(), gate: Arc::default() }
    }

    /// Pauses the threads before their next change of a file.
    pub(super) fn pause(&self) {
        self.gate.close();
    }

    /// Lets them go on.
    pub(super) fn go_on(&self) {
        self.gate.open();
    }

    /// Seals captures on another thread; [`DriverMessage::Sealed`] reports the completion.
    ///
    /// # Errors
    /// The OS error of making a thread, if there is none.
    fn start(&self, serial: u64, captures: &Arc<Captures>) -> io::Result<()> {
        let (captures, mailbox) = (Arc::clone(captures), Arc::clone(&self.mailbox));
        let gate = Arc::clone(&self.gate);
        if each(&captures).any(|capture| capture.named().is_some()) {
            // A named file may be on a hung file system, which must not delay other captures.
            return helpers::start(&Creds::default(), move |_| {
                each(&captures).for_each(|capture| capture.seal(&gate));
                mailbox.put(DriverMessage::Sealed(serial));
            });
        }
        let mut pool = lock(&self.pool);
        if pool.threads < THREADS {
            let shared = Arc::clone(&self.pool);
            let thread = std::thread::Builder::new().name("seal".into()).stack_size(STACK);
            match thread.spawn(move || seal_all(&shared, &mailbox, &gate)) {
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

/// Seals queued captures until the queue is empty.
fn seal_all(pool: &Mutex<Pool>, mailbox: &Mailbox<DriverMessage>, gate: &SealGate) {
    sys::block_all_signals();
    loop {
        let next = {
            let mut pool = lock(pool);
            let next = pool.waiting.pop_front();
            // A later addition to the queue then starts a new thread.
            pool.threads -= usize::from(next.is_none());
            next
        };
        let Some((serial, captures)) = next else { return };
        each(&captures).for_each(|capture| capture.seal(gate));
        mailbox.put(DriverMessage::Sealed(serial));
    }
}

impl Driver {
    /// Freezes and seals the captures of a process that has ended. [`Input::Sealed`] follows: at
    /// once if that is quick, otherwise when another thread has completed, or after the timeout.
    pub(super) fn seal(&mut self, serial: u64) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        for capture in each(process.output.captures()) {
            // Opens each file once for both; except a named one, whose file system may hang.
            let _held = capture.named().is_none().then(|| capture.hold());
            capture.freeze();
            if capture.is_sealed_quickly() {
                capture.seal(&self.sealer.gate);
            }
        }
        if process.has_failed() {
            // The program was never executed, so nothing was written.
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
        // Later output must not take disk space.
        process.output.capture_writers().for_each(|pid| self.io.capture_writers.stop(pid));
        if running {
            let alarm = Alarm::Process(serial, ProcessAlarm::SealTimeout);
            self.io.timers.set(after(monotonic(), PATIENCE), alarm);
        } else {
            self.on(serial, Input::Sealed);
        }
    }

    /// Handles the sealing of a process's captures, or its timeout.
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
