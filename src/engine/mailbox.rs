//! Messages from other threads to an event loop: a queue, and an eventfd that wakes the loop.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// The queue. The driver's holds its messages; the keeper's, the events of each process.
pub(crate) struct Mailbox<T> {
    queue: Mutex<Vec<T>>,
    wake: EventFd,
}

impl<T> Mailbox<T> {
    /// An empty inbox.
    ///
    /// # Errors
    /// The OS error of making the eventfd.
    pub(crate) fn new() -> io::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Mailbox { queue: Mutex::new(Vec::new()), wake })
    }

    /// Adds an entry, and wakes the loop if it may be asleep.
    pub(crate) fn put(&self, mail: T) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = queue.is_empty();
        queue.push(mail);
        drop(queue);
        if was_empty {
            // The only error is a counter at its maximum, which wakes as well.
            let _ = self.wake.write(1);
        }
    }

    /// Adds several entries, with one wake for all; leaves `mail` empty.
    pub(crate) fn put_all(&self, mail: &mut Vec<T>) {
        if mail.is_empty() {
            return;
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = queue.is_empty();
        queue.append(mail);
        drop(queue);
        if was_empty {
            // The only error is a counter at its maximum, which wakes as well.
            let _ = self.wake.write(1);
        }
    }

    /// Removes and returns all entries in order.
    pub(crate) fn take(&self) -> Vec<T> {
        // Reset the counter first: a later entry wakes the loop again.
        let _ = self.wake.read();
        std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Readable when there are entries.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
