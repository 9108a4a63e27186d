//! Data that a process reads from an fd: a file that is written before the start, so that a slow
//! reader blocks no one.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::engine::failpoints::{self, Call};
use crate::engine::sys;

/// Data up to this size is kept in memory.
const IN_MEMORY: usize = 1024 * 1024;

/// A file without a name that holds `data`, open for reading from its start. A small one is in
/// memory and sealed, a larger one in the directory `files`. Any user can open the fd again by
/// `/dev/stdin`.
///
/// # Errors
/// The OS error; then no file remains.
pub(super) fn open(data: &[u8], files: &Path) -> io::Result<OwnedFd> {
    failpoints::check(Call::DataFile)?;
    let mut file = if data.len() <= IN_MEMORY {
        File::from(sys::sealable_memory_file()?)
    } else {
        let options = libc::O_TMPFILE | libc::O_EXCL | libc::O_CLOEXEC;
        File::options().write(true).mode(0o600).custom_flags(options).open(files)?
    };
    failpoints::check(Call::DataWrite)?;
    file.write_all(data)?;
    if data.len() <= IN_MEMORY {
        sys::seal(&file)?;
    } else {
        file.set_permissions(PermissionsExt::from_mode(0o444))?;
    }
    failpoints::check(Call::DataOpen)?;
    // A separate open file: read-only, at its start.
    match File::open(format!("/proc/self/fd/{}", file.as_raw_fd())) {
        Ok(file) => Ok(file.into()),
        // Without `/proc`, use the same open file: it is not shared, and sealed.
        Err(_) if data.len() <= IN_MEMORY && !Path::new("/proc/self").exists() => {
            file.rewind()?;
            Ok(file.into())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn small_and_large() {
        let dir = tempfile::tempdir().unwrap();
        for size in [0, 1, IN_MEMORY, IN_MEMORY + 1, 3 * IN_MEMORY] {
            let data: Vec<u8> = (0..size).map(|i| (i * 31 % 251) as u8).collect();
            let mut file = File::from(open(&data, dir.path()).unwrap());
            let mut read = Vec::new();
            file.read_to_end(&mut read).unwrap();
            assert!(read == data, "{size}");
            let error = file.write(b"x").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            assert!(
                size > IN_MEMORY
                    || File::options().append(true).open(&path).unwrap().write(b"x").is_err()
            );
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }
}
