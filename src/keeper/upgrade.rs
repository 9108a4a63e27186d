//! The upgrade: the keeper replaces itself by the program that is now on disk.
//!
//! Exec keeps the pid and the children; the keeper's state crosses in a memory file, with the
//! descriptors that belong to it. Beforehand, the new program [checks](super::check) whether it
//! understands that file and can start with it.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::secrets;
use super::variables::{self, SECRETS_FD, STATE_FD};
use crate::engine::permitted;
use crate::engine::sys::{set_cloexec, set_cloexec_of};

/// The program to execute, with its arguments.
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
}

impl Program {
    /// This program, by the path at which its successors will be.
    ///
    /// # Errors
    /// The OS error of looking up that path.
    pub fn of_this_process() -> io::Result<Program> {
        // Without `/proc`, the path by which it was executed serves as well.
        let path = std::env::current_exe().unwrap_or_else(|_| permitted::own_program());
        let path = path_of_successor(&path).to_path_buf();
        Ok(Program::new(path, std::env::args_os().collect()))
    }

    /// A program by its path and arguments, including its name.
    pub(super) fn new(path: PathBuf, args: Vec<OsString>) -> Program {
        Program { path, args }
    }

    /// The program's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name under which it was started.
    pub(super) fn name(&self) -> &OsStr {
        self.args.first().map_or(self.path.as_os_str(), OsString::as_os_str)
    }

    /// Its arguments, without its name.
    pub(super) fn args(&self) -> &[OsString] {
        self.args.get(1..).unwrap_or_default()
    }

    /// Executes the program that is now on disk. Returns only if that fails; then nothing has
    /// changed.
    pub fn exec_successor(&self, state: &File, open: &[RawFd]) -> io::Error {
        self.exec(STATE_FD, state, open, &[])
    }

    /// Executes the program with a state, whose descriptor it finds in `variable`; `set` replaces
    /// variables of its environment. Returns only if that fails; then nothing has changed.
    pub(super) fn exec(
        &self,
        variable: &str,
        state: &File,
        open: &[RawFd],
        set: &[(&str, String)],
    ) -> io::Error {
        let secrets = match secrets::file() {
            Ok(secrets) => secrets,
            Err(error) => return error,
        };
        // No child can inherit these: the engine is quiesced, and nothing else in this process
        // starts one.
        let keep = |close| {
            set_cloexec(state, close)?;
            secrets.iter().try_for_each(|secrets| set_cloexec(secrets, close))?;
            open.iter().try_for_each(|fd| set_cloexec_of(*fd, close))
        };
        let run = || -> io::Result<()> {
            keep(false)?;
            let c = |text: &[u8]| CString::new(text).map_err(io::Error::from);
            let args =
                self.args.iter().map(|arg| c(arg.as_bytes())).collect::<io::Result<Vec<_>>>()?;
            let named = |name: &str, fd: RawFd| c(format!("{name}={fd}").as_bytes());
            let secrets = secrets.iter().map(|file| named(SECRETS_FD, file.as_raw_fd()));
            let replaced = |name: &OsStr| {
                variables::ALL
                    .iter()
                    .chain(set.iter().map(|(name, _)| name))
                    .any(|one| name == *one)
            };
            let env = std::env::vars_os()
                .filter(|(name, _)| !replaced(name))
                .map(|(name, value)| c(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
                .chain(std::iter::once(named(variable, state.as_raw_fd())))
                .chain(set.iter().map(|(name, value)| c(format!("{name}={value}").as_bytes())))
                .chain(secrets)
                .collect::<io::Result<Vec<_>>>()?;
            // Not by std's `Command`, because the signal mask must stay, with the pending signals.
            nix::unistd::execve(&c(self.path.as_os_str().as_bytes())?, &args, &env)?;
            Ok(())
        };
        let error = run().err().unwrap_or_else(|| io::ErrorKind::Other.into());
        // Close-on-exec again, because children must not inherit these.
        if let Err(error) = keep(true) {
            tracing::error!(%error, "cannot close descriptors on exec");
        }
        error
    }
}

/// The present path of a program that may have been replaced: the kernel appends a mark to the path
/// of a replaced one.
fn path_of_successor(path: &Path) -> &Path {
    const MARK: &str = " (deleted)";
    let plain = path.to_str().and_then(|path| path.strip_suffix(MARK)).map(Path::new);
    plain.filter(|_| !path.exists()).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_program_is_searched_at_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let marked = dir.path().join("procstar (deleted)");
        assert_eq!(path_of_successor(&marked), dir.path().join("procstar"));
        std::fs::write(&marked, "").unwrap();
        assert_eq!(path_of_successor(&marked), marked);
    }
}
