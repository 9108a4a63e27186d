//! Tries a sandbox in a child that executes nothing, for reports about the host.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;

use super::child;
use super::failure::{Stage, StartFailure};
use super::plan::sandbox_attributes;
use crate::spec::Sandbox;

/// Takes all steps into a sandbox in a child, which ends then.
///
/// # Errors
/// The first part that cannot be had, as a process with this sandbox would report it.
pub fn probe_sandbox(sandbox: Sandbox) -> Result<(), StartFailure> {
    let attributes = sandbox_attributes(sandbox).map_err(|failures| {
        failures.into_iter().next().unwrap_or(StartFailure::new(Stage::Fork, 0, None))
    })?;
    let failed = |error: io::Error| {
        StartFailure::new(Stage::Fork, error.raw_os_error().unwrap_or_default(), None)
    };
    let (reader, writer) = nix::unistd::pipe().map_err(|errno| failed(errno.into()))?;
    // SAFETY: the child makes system calls only, and ends by _exit.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let report = match child::first_failure(&attributes) {
            None => [-1, 0],
            Some((index, errno)) => [i32::try_from(index).unwrap_or(i32::MAX), errno],
        };
        // SAFETY: the kernel reads two numbers, which live here; then this process ends, without
        // exit handlers of its parent.
        unsafe {
            libc::write(writer.as_raw_fd(), report.as_ptr().cast(), size_of_val(&report));
            libc::_exit(0)
        }
    }
    drop(writer);
    if pid < 0 {
        return Err(failed(io::Error::last_os_error()));
    }
    let mut report = [0; 8];
    let read = File::from(reader).read_exact(&mut report);
    // SAFETY: a null pointer is allowed, for a status that nobody needs.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    read.map_err(|_| StartFailure::new(Stage::KilledInSetup, 0, None))?;
    let [index, errno] = [&report[..4], &report[4..]]
        .map(|bytes| bytes.try_into().map(i32::from_ne_bytes).unwrap_or_default());
    match usize::try_from(index).ok().and_then(|index| attributes.get(index)) {
        None => Ok(()),
        Some(attribute) => Err(attribute.failure(errno)),
    }
}
