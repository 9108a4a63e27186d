//! Writers for standard output and standard error: they wait for a slow reader, and count the bytes
//! that it accepts.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Number of bytes written to the readers of our output.
static PASSED_ON: AtomicU64 = AtomicU64::new(0);

/// Number of bytes of output and results that this program has written: it shows whether a reader
/// makes progress.
pub(crate) fn passed_on() -> u64 {
    PASSED_ON.load(Ordering::Relaxed)
}

/// Counts the written bytes.
pub(crate) struct Counted<'a, W>(pub(crate) &'a mut W);

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        PASSED_ON.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Waits where a write would block: a child that shares our standard output may have made it
/// non-blocking.
pub(crate) struct Patient(File);

impl Patient {
    /// Writes to what a descriptor is open to.
    ///
    /// # Errors
    /// The OS error of duplicating the descriptor.
    pub(crate) fn new(to: &impl AsFd) -> io::Result<Patient> {
        Ok(Patient(File::from(to.as_fd().try_clone_to_owned()?)))
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut wanted = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
                    match poll(&mut wanted, PollTimeout::NONE) {
                        Ok(_) | Err(Errno::EINTR) => {}
                        Err(errno) => return Err(errno.into()),
                    }
                }
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
