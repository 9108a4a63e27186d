//! Secrets of the environment: they leave it at the start, and reach workers and later keepers
//! through a memory file.
//!
//! Every process of a user can read the initial environment of the user's other processes in
//! `/proc/PID/environ`. So the bytes there are overwritten. The keeper and its workers are also not
//! dumpable: without a capability, no other process can read their memory or descriptors, or trace
//! them. This is only a first barrier. A process of the same user has the user's other rights, such
//! as requests on the worker's socket.

use std::ffi::{CStr, OsStr, OsString, c_char};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Command;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};

use super::descriptors::{self, Foreign, read_state};
use super::variables::SECRETS_FD;
use crate::config::{self, Env};
use crate::engine::sys::{is_open, seal, sealable_memory_file};
use crate::mem::text_pages;

/// The variables whose values are secrets.
const NAMES: [&str; 3] = ["PROCSTAR_AGENT_TOKEN", "PROCSTAR_AGENT_KEY", "PROCSTAR_HTTP_TOKEN"];

unsafe extern "C" {
    /// The C library's table of the environment, which ends with a null pointer.
    static environ: *const *mut c_char;
}

/// Moves the secrets out of the environment, into [`config::process_env`]. Call it once, before any
/// thread is started.
///
/// # Errors
/// Another program has set [`SECRETS_FD`].
pub fn take() -> Result<(), Foreign> {
    let mut secrets = match std::env::var_os(SECRETS_FD) {
        Some(number) => handed_over(&number)?,
        None => Env::new(),
    };
    for name in NAMES {
        if let Some(value) = std::env::var_os(name) {
            secrets.insert(name.into(), value);
            overwrite(name);
            // SAFETY: there is one thread.
            unsafe { std::env::remove_var(name) };
        }
    }
    // SAFETY: as above.
    unsafe { std::env::remove_var(SECRETS_FD) };
    config::conceal(secrets);
    Ok(())
}

/// Reads the secrets that the previous program or the keeper has handed over, and closes their
/// descriptor.
fn handed_over(number: &OsStr) -> Result<Env, Foreign> {
    let foreign = || Foreign { variable: SECRETS_FD };
    let number = number.to_str().and_then(|text| text.parse().ok());
    let fd = number.filter(|fd: &RawFd| *fd > 2).ok_or_else(foreign)?;
    if !is_open(fd) {
        return Err(foreign());
    }
    // SAFETY: the descriptor is open, and there is one thread, so nothing closes it during this
    // function.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    // Checks for a sealed memory file: unlike the file's name, seals can be checked without
    // `/proc`.
    let seals = fcntl(borrowed, FcntlArg::F_GET_SEALS).unwrap_or(0);
    if !SealFlag::from_bits_retain(seals).contains(SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_WRITE) {
        return Err(foreign());
    }
    let bytes = borrowed.try_clone_to_owned().map(File::from).and_then(|file| read_state(&file));
    let found: Vec<(Vec<u8>, Vec<u8>)> =
        bytes.ok().and_then(|bytes| rmp_serde::from_slice(&bytes).ok()).ok_or_else(foreign)?;
    // SAFETY: the descriptor is open, and its file has our secrets. So the program that wrote them
    // has left it open for this call, and no value owns it.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    let text = OsString::from_vec;
    Ok(found.into_iter().map(|(name, value)| (text(name), text(value))).collect())
}

/// Overwrites the value of a variable in the memory that `/proc/PID/environ` shows.
fn overwrite(name: &str) {
    // SAFETY: there is one thread, so the table does not change. Each entry is a C string in
    // writable memory, and only the bytes before its end are written.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let text = CStr::from_ptr(*entry).to_bytes();
            let value = text.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
            if let Some(length) = value.map(<[u8]>::len) {
                let start = (*entry).add(name.len() + 1);
                for at in 0..length {
                    start.add(at).write_volatile(0);
                }
            }
            entry = entry.add(1);
        }
    }
}

/// The secrets as a sealed memory file; `None` if there are no secrets.
///
/// # Errors
/// The OS error of creating the file.
pub(super) fn file() -> io::Result<Option<File>> {
    let secrets = config::concealed();
    if secrets.is_empty() { Ok(None) } else { file_of(secrets).map(Some) }
}

fn file_of(secrets: &Env) -> io::Result<File> {
    let pairs: Vec<(&[u8], &[u8])> =
        secrets.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let mut file = File::from(sealable_memory_file()?);
    file.write_all(&rmp_serde::to_vec(&pairs).map_err(io::Error::other)?)?;
    file.rewind()?;
    seal(&file)?;
    Ok(file)
}

/// Hands the secrets over to the program of ours that `command` starts. The returned file must stay
/// open until then.
///
/// # Errors
/// As of [`file`].
pub(super) fn hand_over(command: &mut Command) -> io::Result<Option<File>> {
    let file = file()?;
    command.env_remove(SECRETS_FD);
    if let Some(file) = &file {
        descriptors::pass_on(command, file);
        command.env(SECRETS_FD, file.as_raw_fd().to_string());
    }
    Ok(file)
}

/// Prevents other processes of this user from reading the memory and descriptors of this one, and
/// from tracing it.
pub fn protect() {
    // The kernel then denies us these files too, unless they are already open.
    text_pages::prepare();
    // An error does not occur.
    let _ = nix::sys::prctl::set_dumpable(false);
}

/// Undoes [`protect`], for a command without secrets: the service that it connects to must see
/// whose process it is.
pub fn unprotect() {
    // An error does not occur.
    let _ = nix::sys::prctl::set_dumpable(true);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd;

    #[test]
    fn secrets_are_read_once() {
        let secrets = Env::from([
            ("PROCSTAR_AGENT_TOKEN".into(), OsString::from_vec(vec![0xff, b'x'])),
            ("PROCSTAR_HTTP_TOKEN".into(), "hunter2".into()),
        ]);
        let fd = file_of(&secrets).unwrap().into_raw_fd().to_string();
        assert_eq!(handed_over(fd.as_ref()).unwrap(), secrets);
        let other = File::from(sealable_memory_file().unwrap()).as_raw_fd().to_string();
        for foreign in [fd.as_str(), &other, "x", "-1", "0"] {
            let error = handed_over(foreign.as_ref()).unwrap_err().to_string();
            assert_eq!(error, "PROCSTAR_KEEPER_SECRETS is reserved for procstar itself; unset it");
        }
    }
}
