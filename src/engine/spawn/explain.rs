//! Explains why a file could not be executed, which the errno of execve does not show.
//!
//! The kernel reports a missing interpreter as a missing script, and a file without a `#!` line as
//! a format error. The beginning of the file shows the difference. It is read after the failure; if
//! the file has changed since, there may be no explanation.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::engine::plan::{Executable, LaunchPlan};

/// Bytes of a file that the kernel reads to find its interpreter.
const HEAD: usize = 256;
/// Depth of nested interpreters, as in the kernel.
const DEPTH: u32 = 5;
/// The longest path of a loader.
const PATH_MAX: usize = 4096;

/// Where a missing executable was searched, if its name alone does not show it.
pub(super) fn missing(exe: &str, lookup_path: bool) -> Option<String> {
    let explanation = match (exe.contains('/'), lookup_path) {
        (true, _) => return None,
        (false, true) => {
            "no directory of the process's PATH has it; \
             correct the name or PATH, or give an absolute path"
        }
        (false, false) => {
            "only the working directory was searched; \
             set `lookup_path: true` in the spec to search PATH, or give an absolute path"
        }
    };
    Some(explanation.to_owned())
}

/// Why the existing executable of a plan could not be executed; `None` if the errno says it all.
pub(super) fn exec(plan: &LaunchPlan, errno: i32) -> Option<String> {
    let cwd = plan.status.cwd();
    let cwd = Path::new(cwd.as_deref().unwrap_or("."));
    let paths = match &plan.executable {
        Executable::Paths(paths) => paths.as_slice(),
        Executable::Opened { path, .. } => std::slice::from_ref(path),
        Executable::Missing(_) => &[],
    };
    let paths = paths.iter().map(|path| cwd.join(std::ffi::OsStr::from_bytes(path.as_bytes())));
    let path = paths.into_iter().find(|path| path.exists())?;
    explain(&path, cwd, errno, DEPTH)
}

/// Why a file could not be executed.
fn explain(path: &Path, cwd: &Path, errno: i32, depth: u32) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    let meta = std::fs::metadata(path).ok()?;
    if errno == libc::EACCES
        && let Some(reason) = forbidden(path, &meta)
    {
        return Some(reason);
    }
    // Opening a special file may block, or have effects.
    let file = if meta.is_file() { open(path).ok()? } else { return None };
    let mut head = [0; HEAD];
    let read = file.read_at(&mut head, 0).ok()?;
    let head = head.get(..read).unwrap_or_default();
    if let Some(line) = head.strip_prefix(b"#!") {
        return interpreter(line, cwd, errno, depth);
    }
    if head.starts_with(b"\x7fELF") {
        return match errno {
            libc::ENOENT | libc::ENOTDIR => loader(&file, cwd),
            libc::ENOEXEC => Some("it is a program for another kind of machine".to_owned()),
            _ => None,
        };
    }
    (errno == libc::ENOEXEC).then(|| without_line(head).to_owned())
}

fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

/// Why a file may not be executed.
fn forbidden(path: &Path, meta: &Metadata) -> Option<String> {
    let reason = if meta.is_dir() {
        "it is a directory"
    } else if !meta.is_file() {
        "it is not a regular file"
    } else if meta.permissions().mode() & 0o111 == 0 {
        "it has no execute permission (chmod +x sets it)"
    } else if is_noexec(path) {
        "its file system is mounted with the option noexec"
    } else {
        return None;
    };
    Some(reason.to_owned())
}

fn is_noexec(path: &Path) -> bool {
    use nix::sys::statvfs::{FsFlags, statvfs};
    statvfs(path).is_ok_and(|stat| stat.flags().contains(FsFlags::ST_NOEXEC))
}

/// The problem with a script's interpreter; `line` is the text after `#!`.
fn interpreter(line: &[u8], cwd: &Path, errno: i32, depth: u32) -> Option<String> {
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | 0);
    let name: Vec<u8> =
        line.iter().copied().skip_while(blank).take_while(|byte| !blank(byte)).collect();
    if name.is_empty() {
        return Some("its `#!` line names no interpreter".to_owned());
    }
    let shown = String::from_utf8_lossy(&name).into_owned();
    let path: PathBuf = cwd.join(std::ffi::OsStr::from_bytes(&name));
    if !path.exists() {
        return Some(match shown.strip_suffix('\r') {
            Some(before) => format!(
                "its lines end in CRLF, so its interpreter would be {shown:?} instead of {before}; convert it to LF"
            ),
            None => format!("its interpreter {shown}, which its `#!` line names, does not exist"),
        });
    }
    let reason = explain(&path, cwd, errno, depth)?;
    Some(format!("its interpreter {shown} cannot be executed: {reason}"))
}

/// The problem with the loader of an ELF program.
fn loader(file: &File, cwd: &Path) -> Option<String> {
    let name = loader_of(file)?;
    let shown = String::from_utf8_lossy(&name).into_owned();
    let there = cwd.join(std::ffi::OsStr::from_bytes(&name)).exists();
    (!there).then(|| {
        format!("its loader {shown} does not exist: it is built for another C library or machine")
    })
}

/// The loader that a 64-bit ELF program of this machine's byte order names.
fn loader_of(file: &File) -> Option<Vec<u8>> {
    const PT_INTERP: u32 = 3;
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0).ok()?;
    let [.., 2] = header.get(..5)? else { return None };
    let number = |bytes: &[u8], at: usize, size: usize| -> Option<u64> {
        let mut number = [0; 8];
        let place = number.get_mut(..size)?;
        place.copy_from_slice(bytes.get(at..at + size)?);
        Some(u64::from_le_bytes(number))
    };
    let (table, size, count) =
        (number(&header, 32, 8)?, number(&header, 54, 2)?, number(&header, 56, 2)?);
    for index in 0..count {
        let mut entry = [0; 56];
        file.read_exact_at(&mut entry, table.checked_add(index.checked_mul(size)?)?).ok()?;
        if number(&entry, 0, 4)? == u64::from(PT_INTERP) {
            let length = usize::try_from(number(&entry, 32, 8)?).ok()?.min(PATH_MAX);
            let mut name = vec![0; length];
            file.read_exact_at(&mut name, number(&entry, 8, 8)?).ok()?;
            name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(length));
            return Some(name);
        }
    }
    None
}

/// The problem with a file that is neither a script nor a program.
fn without_line(head: &[u8]) -> &'static str {
    if head.is_empty() {
        "it is empty"
    } else if head.starts_with(b"\xef\xbb\xbf#!") {
        "it begins with a byte order mark, which hides its `#!` line; remove the mark"
    } else if head.contains(&0) {
        "it is no program that this machine can execute"
    } else {
        "it has no `#!` line that names an interpreter"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(content: &[u8], errno: i32) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        explain(&path, dir.path(), errno, DEPTH)
    }

    #[test]
    fn each_kind_of_file_has_its_reason() {
        for (content, errno, wanted) in [
            (&b"#!/no/such/sh -e\n"[..], libc::ENOENT, "interpreter /no/such/sh, which"),
            (b"#! \t/no/such/sh\t-e", libc::ENOENT, "interpreter /no/such/sh, which"),
            (
                b"#!/bin/sh\r\necho\r\n",
                libc::ENOENT,
                r#"CRLF, so its interpreter would be "/bin/sh\r""#,
            ),
            (b"#!/bin/sh/x\n", libc::ENOTDIR, "interpreter /bin/sh/x, which"),
            (b"#!\n", libc::ENOEXEC, "names no interpreter"),
            (b"#!/etc/passwd\n", libc::EACCES, "/etc/passwd cannot be executed: it has no execute"),
            (b"#!/etc\n", libc::EACCES, "/etc cannot be executed: it is a directory"),
            (b"echo hi\n", libc::ENOEXEC, "no `#!` line"),
            (b"", libc::ENOEXEC, "it is empty"),
            (b"\xef\xbb\xbf#!/bin/sh\n", libc::ENOEXEC, "byte order mark"),
            (b"MZ\0\0", libc::ENOEXEC, "no program"),
            (b"\x7fELF\x01", libc::ENOEXEC, "another kind of machine"),
        ] {
            let reason = reason(content, errno).unwrap_or_default();
            assert!(reason.contains(wanted), "{reason} for {wanted}");
        }
        assert_eq!(reason(b"#!/bin/sh\n", libc::ENOENT), None);
        assert_eq!(reason(b"\x7fELF", libc::ENOENT), None);
    }

    #[test]
    fn a_missing_name_without_a_slash_has_a_remedy() {
        assert_eq!(missing("/nope", false), None);
        assert_eq!(missing("./nope", true), None);
        assert!(missing("ls", false).unwrap().contains("`lookup_path: true`"));
        assert!(missing("nope", true).unwrap().starts_with("no directory of the process's PATH"));
    }

    /// This very program, with another loader.
    #[test]
    fn a_missing_loader_is_named() {
        let mut program = std::fs::read("/proc/self/exe").unwrap();
        let loader = loader_of(&File::open("/proc/self/exe").unwrap()).unwrap();
        let at = program.windows(loader.len()).position(|window| window == loader).unwrap();
        program[at + 1] = b'!';
        let wanted = String::from_utf8([b"/!", &loader[2..]].concat()).unwrap();
        let reason = reason(&program, libc::ENOENT).unwrap();
        assert!(reason.contains(&format!("its loader {wanted} does not exist")), "{reason}");
    }
}
