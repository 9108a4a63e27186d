//! Descriptors that a worker has read to their end, such as a shell's `<(...)`, and that a later worker reads again.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};

use super::launch_environment::LaunchEnvironment;
use crate::engine::sys::{seal, sealable_memory_file};

impl LaunchEnvironment {
    /// Puts what was read of one of the user's descriptors where that was.
    pub(super) fn put_back(&self, fd: RawFd, bytes: &[u8]) {
        if !self.fds.contains(&fd) {
            return tracing::error!(fd, "the worker has read what the user has not given");
        }
        put_back(fd, bytes);
    }
}

/// Puts what was read of a descriptor of the user's back, for later processes of this program.
pub fn put_back(fd: RawFd, bytes: &[u8]) {
    if let Err(error) = replace(fd, bytes) {
        tracing::warn!(fd, %error, "cannot keep what was read of a descriptor for a later worker");
    }
}

/// Has a number mean a file that holds these bytes.
fn replace(fd: RawFd, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::from(sealable_memory_file()?);
    file.write_all(bytes)?;
    seal(&file)?;
    // An open file of its own: only for reading, at its start.
    let reader = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    // SAFETY: the number is the user's, which nothing of ours owns; what it meant is closed.
    if unsafe { libc::dup3(reader.as_raw_fd(), fd, libc::O_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{FromRawFd, IntoRawFd};

    #[test]
    fn a_replaced_descriptor_reads_the_same_bytes_each_time() {
        let (read, write) = nix::unistd::pipe().unwrap();
        drop(write);
        let fd = read.into_raw_fd();
        replace(fd, b"some text").unwrap();
        for _ in 0..2 {
            assert_eq!(std::fs::read(format!("/proc/self/fd/{fd}")).unwrap(), b"some text");
        }
        // SAFETY: the number is ours alone.
        drop(unsafe { File::from_raw_fd(fd) });
    }
}
