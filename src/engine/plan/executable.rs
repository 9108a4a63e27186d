//! The executable of a process: looked up in PATH if requested, and checked against a restriction.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use super::cwd::below;
use super::strings::{c_string, errno_of};
use crate::engine::failpoints::{self, Call};
use crate::engine::failure::{Stage, StartFailure};
use crate::engine::restriction::{Allowlist, open};
use crate::spec::ValidatedProc;

/// Default of PATH, as in execvp(3).
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// The executable of a child.
pub(in crate::engine) enum Executable {
    /// The first of these that can be executed, as in execvp(3).
    Paths(Vec<CString>),
    /// An opened and checked file.
    Opened {
        /// Its index among the sources.
        source: usize,
        /// The path for an interpreter, which has to open the file again: its real path, or one
        /// that is allowed literally.
        path: CString,
        /// The path of its lookup.
        found: CString,
    },
    /// No executable: the errno of the lookup.
    Missing(i32),
}

/// Finds the executable of `proc`; adds an opened one to the sources.
///
/// # Errors
/// The executable is not allowed.
pub(super) fn find(
    proc: &ValidatedProc,
    path: Option<&CString>,
    allowlist: Option<&Allowlist>,
    sources: &mut Vec<OwnedFd>,
) -> Result<Executable, StartFailure> {
    let candidates = candidates(proc, path);
    let Some(allowlist) = allowlist else { return Ok(Executable::Paths(candidates)) };
    let refused = |detail| StartFailure {
        detail,
        ..StartFailure::new(Stage::NotAllowed, 0, Some(allowlist.to_string()))
    };
    let looked_up = candidates.len() != 1 || candidates.first() != Some(&c_string(&proc.exe));
    let mut errno = libc::ENOENT;
    for candidate in candidates {
        let written = below(proc.attributes.cwd.as_deref(), &candidate.to_string_lossy());
        let opened = open(&written);
        match &opened {
            Err(error) if looked_up => {
                if error.raw_os_error() == Some(libc::EACCES) {
                    errno = libc::EACCES;
                }
                continue;
            }
            Ok(file) if looked_up && !is_program(file) => {
                errno = libc::EACCES;
                continue;
            }
            _ => {}
        }
        let file = match opened {
            Ok(file) => file,
            Err(error) if is_magic(&error) => return Err(refused(Some(magic(&written)))),
            // It is allowed, but missing.
            Err(error) if allowlist.names(&written) => {
                return Ok(Executable::Missing(errno_of(&error)));
            }
            Err(_) => return Err(refused(None)),
        };
        let path = if allowlist.names(&written) {
            candidate.clone()
        } else {
            real_path(&file, allowlist, &written).map_err(refused)?
        };
        sources.push(file.into());
        return Ok(Executable::Opened { source: sources.len() - 1, path, found: candidate });
    }
    // Nothing to execute, so nothing that is forbidden.
    Ok(Executable::Missing(errno))
}

/// The real path of an opened file, if a glob allows it, and the path leads to the same file, by
/// device and inode, in our own mount namespace.
///
/// # Errors
/// Details of the refusal, if they are not obvious.
fn real_path(file: &File, allowlist: &Allowlist, written: &str) -> Result<CString, Option<String>> {
    let real = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let real = real.ok().filter(|real| allowlist.matches(real)).ok_or(None)?;
    if !open::is_at(file, &real) {
        let real = real.display();
        return Err(Some(format!("{written} is another file than {real}, the path that it shows")));
    }
    CString::new(real.as_os_str().as_bytes()).map_err(|_| None)
}

fn is_magic(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ELOOP)
}

fn magic(written: &str) -> String {
    format!(
        "{written} goes through a link of /proc that no path describes, or through too many links"
    )
}

/// Every candidate path of the executable.
fn candidates(proc: &ValidatedProc, path: Option<&CString>) -> Vec<CString> {
    let exe = &proc.exe;
    if !proc.lookup_path || exe.is_empty() || exe.contains('/') {
        return vec![c_string(exe)];
    }
    let path = path.map_or(DEFAULT_PATH, |path| path.as_bytes());
    path.split(|b| *b == b':')
        .filter_map(|dir| {
            // An empty entry is the working directory.
            let slash: &[u8] = if dir.is_empty() { b"./" } else { b"/" };
            CString::new([dir, slash, exe.as_bytes()].concat()).ok()
        })
        .collect()
}

/// Opens a file only to identify and execute it.
fn open(path: &str) -> io::Result<File> {
    failpoints::check(Call::OpenExe)?;
    open::executable(path)
}

/// Whether any user may execute a file.
fn is_program(file: &File) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
