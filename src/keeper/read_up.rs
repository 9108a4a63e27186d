//! Descriptors that a worker has read to their end, such as a shell's `<(...)`. Each is replaced by
//! a file with the same bytes, so that a later worker can read it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};

use super::launch_environment::LaunchEnvironment;
use crate::engine::sys::{seal, sealable_memory_file};

impl LaunchEnvironment {
    /// Replaces one of the user's descriptors by a file with the bytes read from it.
    pub(super) fn put_back(&self, fd: RawFd, bytes: &[u8]) {
        if !self.fds.contains(&fd) {
            return tracing::error!(
                fd,
                "ignoring the contents of a descriptor that the user did not pass"
            );
        }
        put_back(fd, bytes);
    }
}

/// Replaces one of the user's descriptors by a file with the bytes read from it, for later workers.
pub fn put_back(fd: RawFd, bytes: &[u8]) {
    if let Err(error) = replace(fd, bytes) {
        tracing::warn!(fd, %error, "cannot keep what was read of a descriptor for a later worker");
    }
}

/// Replaces the descriptor by a read-only memory file with these bytes.
fn replace(fd: RawFd, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::from(sealable_memory_file()?);
    file.write_all(bytes)?;
    seal(&file)?;
    // Opened again, because the descriptor must be read-only and start at offset 0.
    let reader = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    // SAFETY: the descriptor is the user's, and no Rust value owns it; `dup3` closes the old file.
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
        // SAFETY: `into_raw_fd` gave up ownership, and no other value owns the descriptor.
        drop(unsafe { File::from_raw_fd(fd) });
    }
}
