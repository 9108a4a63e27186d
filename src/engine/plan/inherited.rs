//! What children inherit from the keeper's start.

use std::collections::BTreeSet;
use std::ffi::{CString, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;

/// The part of the keeper's environment that children can inherit, recorded once at its start.
pub struct Inherited {
    /// The variables, as `NAME=VALUE`; without the keeper's secrets.
    pub(super) variables: Vec<CString>,
    /// The fds from 3 up that the keeper was started with, sorted.
    pub(super) fds: Vec<RawFd>,
    /// The open-file limit that the keeper was started with, if it has raised its own.
    pub(super) nofile: Option<libc::rlimit>,
    /// The signals that were ignored at the program's start, signal N by bit N - 1: for a process
    /// of its own job on the terminal.
    pub(super) ignored: u64,
}

impl Inherited {
    /// The inheritable environment: `variables` except those named in `secrets`, the fds in `fds`,
    /// and the open-file limit `nofile`, which children get if the keeper has raised its own.
    pub fn new(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        secrets: &[&str],
        fds: impl IntoIterator<Item = RawFd>,
        nofile: Option<(u64, u64)>,
    ) -> Self {
        let variables = variables
            .into_iter()
            .filter(|(name, _)| !secrets.iter().any(|secret| name == secret))
            .filter_map(|(name, value)| {
                CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
            })
            .collect();
        let fds: BTreeSet<RawFd> = fds.into_iter().filter(|fd| *fd > 2).collect();
        Inherited {
            variables,
            fds: fds.into_iter().collect(),
            nofile: nofile.map(|(rlim_cur, rlim_max)| libc::rlimit { rlim_cur, rlim_max }),
            ignored: 0,
        }
    }

    /// The same for a program that was started with these signals ignored, signal N by bit N - 1.
    pub fn ignoring(self, ignored: u64) -> Self {
        Inherited { ignored, ..self }
    }
}
