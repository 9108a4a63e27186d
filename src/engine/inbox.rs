//! What comes to the driver from other threads: a queue, and an eventfd that wakes it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::Command;
use super::spawn::Spawned;

/// One thing for the driver to look at.
pub(super) enum Mail {
    /// From the owner of the engine.
    Command(Command),
    /// From a spawning thread.
    Spawned(Spawned),
}

/// The queue. It holds at most one entry per process that is being made, and the owner's commands.
pub(super) struct Inbox {
    queue: Mutex<Vec<Mail>>,
    wake: EventFd,
}

impl Inbox {
    /// An empty inbox.
    ///
    /// # Errors
    /// The OS error of making the eventfd.
    pub(super) fn new() -> io::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Inbox { queue: Mutex::new(Vec::new()), wake })
    }

    /// Adds an entry, and wakes the driver if it may be asleep.
    pub(super) fn put(&self, mail: Mail) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = queue.is_empty();
        queue.push(mail);
        drop(queue);
        if was_empty {
            // The only error is a counter at its maximum, which wakes as well.
            let _ = self.wake.write(1);
        }
    }

    /// Takes all entries, in the order they came.
    pub(super) fn take(&self) -> Vec<Mail> {
        // The counter first: what is put after this wakes again.
        let _ = self.wake.read();
        std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Readable when there is something to take.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
