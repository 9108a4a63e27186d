//! A private directory: created, locked, protected from cleaners, and created again if somebody
//! removes it.
//!
//! It belongs to our user, and nobody else may enter it. It contains a file `lock`, which the
//! keeper has locked and which contains its pid: if the lock is free, the keeper is dead. The
//! directory itself is locked too, because systemd-tmpfiles cleans no directory that another
//! process has locked.

use std::fs::{DirBuilder, File, Metadata};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::engine::sys::set_cloexec;
use crate::path_bytes;
use crate::procfs::{ProcFs, ReadError};
use crate::users::user_name;

/// The name of the lock in its directory.
pub(super) const LOCK: &str = "lock";
/// How long a lock may outlast its holder, or a command may hold one to examine it.
const LOCK_RELEASE_TIMEOUT: Duration = Duration::from_secs(1);
/// The prefix of a directory that is being removed. The name of no instance begins with it.
pub(super) const GONE: &str = ".gone-";
/// The number of attempts to create a parent that others remove at the same moment.
const TRIES: u32 = 100;

/// An error of creating or locking a directory.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Another instance uses it.
    #[error("state directory {path} is in use by the procstar with pid {pid}")]
    InUse {
        /// The directory.
        path: String,
        /// The pid of the other instance, from its lock.
        pid: String,
    },
    /// Other users have access to it, so its contents cannot be trusted.
    #[error(
        "directory {path} must be a directory of user {uid} with mode 0700, {found}; remove or mend it"
    )]
    Untrusted {
        /// The directory.
        path: String,
        /// Our user ID.
        uid: u32,
        /// Its owner and mode.
        found: String,
    },
    /// It cannot be created or used.
    #[error("cannot use directory {path}: {source}")]
    Io {
        /// The directory.
        path: String,
        /// The reason.
        source: io::Error,
    },
    /// A state directory cannot be created or used.
    #[error(
        "cannot use state directory {path}: {source}; set --state-dir to a directory that user {uid} may make"
    )]
    State {
        /// The directory.
        path: String,
        /// Our user ID.
        uid: u32,
        /// The reason.
        source: io::Error,
    },
    /// A configured directory cannot be used.
    #[error(
        "{key} {path} cannot be used: {source}; set {key} to a directory in which user {uid} may make others"
    )]
    Configured {
        /// The setting.
        key: &'static str,
        /// Its value.
        path: String,
        /// Our user ID.
        uid: u32,
        /// The reason.
        #[source]
        source: Box<InstanceError>,
    },
}

impl InstanceError {
    pub(super) fn io(path: &Path, source: io::Error) -> InstanceError {
        InstanceError::Io { path: path.display().to_string(), source }
    }

    /// The error for a directory that other users have access to.
    pub(super) fn untrusted(path: &Path, meta: &Metadata) -> InstanceError {
        InstanceError::Untrusted {
            path: path.display().to_string(),
            uid: nix::unistd::geteuid().as_raw(),
            found: owner_and_mode(meta),
        }
    }

    fn is(&self, kind: io::ErrorKind) -> bool {
        matches!(self, InstanceError::Io { source, .. } if source.kind() == kind)
    }
}

/// The owner and the mode of a file that should be a directory of ours, for messages.
pub(super) fn owner_and_mode(meta: &Metadata) -> String {
    let (owner, mode) = (user_name(meta.uid()), meta.mode() & 0o7777);
    match (meta.is_symlink(), meta.is_dir()) {
        (true, _) => format!("but is a link of {owner}"),
        (_, true) => format!("but belongs to {owner} and has mode {mode:04o}"),
        _ => format!("but is a file of {owner}"),
    }
}

/// A directory that this process has locked.
pub(super) struct PrivateDir {
    path: PathBuf,
    lock: Flock<File>,
    /// The lock of the directory itself; `None` while a cleaner has it.
    guard: Option<Flock<File>>,
}

/// A directory in the handover to another program in this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DirHandover {
    #[serde(with = "path_bytes")]
    pub(super) path: PathBuf,
    pub(super) lock: RawFd,
    #[serde(default)]
    pub(super) guard: Option<RawFd>,
}

impl PrivateDir {
    /// Locks the directory at exactly this path, and creates it if it is missing.
    ///
    /// # Errors
    /// It cannot be created, or belongs to another user or another instance.
    pub(super) fn open(path: &Path) -> Result<PrivateDir, InstanceError> {
        make(path).map_err(|source| InstanceError::io(path, source))?;
        Ok(PrivateDir::new(path.to_path_buf(), lock_in_time(path)?))
    }

    /// Creates a directory below `parent`, which is created if it is missing: with the given name,
    /// or with a random one.
    ///
    /// # Errors
    /// It cannot be created.
    pub(super) fn below(
        mut parent: impl FnMut() -> Result<PathBuf, InstanceError>,
        name: Option<&str>,
    ) -> Result<PrivateDir, InstanceError> {
        let mut tries = 0;
        loop {
            match own_dir(&parent()?, name) {
                // Another instance has ended, and removed the parent just before this one used it.
                Err(error) if error.is(io::ErrorKind::NotFound) && tries < TRIES => tries += 1,
                made => return made,
            }
        }
    }

    fn new(path: PathBuf, lock: Flock<File>) -> PrivateDir {
        let guard = guard(&path);
        PrivateDir { path, lock, guard }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the directory or its lock again if somebody has removed it. Returns whether that was
    /// necessary.
    ///
    /// # Errors
    /// It cannot be created, or another instance has taken its name.
    pub(super) fn restore(&mut self) -> Result<bool, InstanceError> {
        let there = is_in(&self.lock, &self.path);
        if !there {
            for dir in self.path.parent().into_iter().chain([self.path.as_path()]) {
                make(dir).map_err(|source| InstanceError::io(dir, source))?;
            }
            self.lock = lock(&self.path)?;
        }
        if !there || self.guard.is_none() {
            self.guard = guard(&self.path);
        }
        Ok(!there)
    }

    /// Whether it still exists at its path.
    #[cfg(test)]
    fn exists(&self) -> bool {
        is_in(&self.lock, &self.path)
    }

    /// The handover to the next program in this process. Its descriptors must stay open.
    pub(super) fn handover(&self) -> DirHandover {
        let guard = self.guard.as_ref().map(|guard| guard.as_raw_fd());
        DirHandover { path: self.path.clone(), lock: self.lock.as_raw_fd(), guard }
    }

    /// Takes a directory that the previous program left in this process.
    ///
    /// # Errors
    /// The OS error, if the lock was not left open.
    pub(super) fn from_handover(handover: DirHandover) -> io::Result<PrivateDir> {
        let inherit = |fd| {
            // SAFETY: the previous program left the descriptor open for this call alone.
            let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
            set_cloexec(&file, true)?;
            Ok::<_, io::Error>(file)
        };
        // The locks belong to the open files, so this process has them already.
        let mut lock = Flock::lock(inherit(handover.lock)?, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| errno)?;
        // After a succession, the holder has another pid.
        enter_pid(&mut lock)?;
        let guard = match handover.guard {
            Some(fd) => Flock::lock(inherit(fd)?, FlockArg::LockSharedNonblock).ok(),
            None => guard(&handover.path),
        };
        Ok(PrivateDir { path: handover.path, lock, guard })
    }

    /// Removes the directory, and its parent if that only contains directories of this kind and is
    /// empty.
    pub(super) fn remove(&self) {
        remove(&out_of_the_way(&self.path));
        if let Some(parent) = self.path.parent()
            && parent
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"procstar-"))
        {
            // This fails unless the parent is empty.
            let _ = std::fs::remove_dir(parent);
        }
    }
}

impl DirHandover {
    pub(super) fn descriptors(&self) -> impl Iterator<Item = RawFd> + use<> {
        std::iter::once(self.lock).chain(self.guard)
    }
}

/// Renames a directory that is to be removed to a name that no instance has, so that an instance
/// that starts under its old name meanwhile does not use it.
pub(super) fn out_of_the_way(dir: &Path) -> PathBuf {
    let gone = dir.with_file_name(format!("{GONE}{:016x}", fastrand::u64(..)));
    match std::fs::rename(dir, &gone) {
        Ok(()) => gone,
        Err(_) => dir.to_path_buf(),
    }
}

pub(super) fn remove(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(dir = %dir.display(), %error, "cannot remove a directory");
    }
}

/// Creates a directory that only our user may enter. An existing one stays unchanged.
pub(super) fn make(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Whether only our user has access to a directory.
pub(super) fn is_ours(meta: &Metadata) -> bool {
    meta.is_dir() && meta.uid() == nix::unistd::geteuid().as_raw() && meta.mode() & 0o077 == 0
}

/// Opens a directory's lock without following a link.
fn open_lock(dir: &Path, create: bool) -> Result<File, InstanceError> {
    let meta = dir.symlink_metadata().map_err(|source| InstanceError::io(dir, source))?;
    if !is_ours(&meta) {
        return Err(InstanceError::untrusted(dir, &meta));
    }
    File::options()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(dir.join(LOCK))
        .map_err(|source| InstanceError::io(dir, source))
}

fn pid_in(file: &mut File) -> String {
    let mut pid = String::new();
    // Another instance may be writing its pid at this moment.
    let _ = file.take(20).read_to_string(&mut pid);
    pid
}

/// Writes our pid into a lock.
fn enter_pid(lock: &mut Flock<File>) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    write!(&mut **lock, "{}", std::process::id())
}

/// Locks a directory to which only our user has access, and writes our pid into the lock.
pub(super) fn lock(dir: &Path) -> Result<Flock<File>, InstanceError> {
    let failed = |source| InstanceError::io(dir, source);
    match Flock::lock(open_lock(dir, true)?, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            enter_pid(&mut lock).map_err(failed)?;
            Ok(lock)
        }
        Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
            Err(InstanceError::InUse { path: dir.display().to_string(), pid: pid_in(&mut file) })
        }
        Err((_, errno)) => Err(failed(errno.into())),
    }
}

/// The pid of the keeper that uses a directory. The brief shared lock delays a keeper that starts
/// there at the same moment.
pub(super) fn holder(dir: &Path) -> Option<i32> {
    let file = open_lock(dir, false).ok()?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => pid_in(&mut file).parse().ok(),
        _ => None,
    }
}

/// Locks a directory to which there is no alternative. If its holder is dead, a process that shares
/// its descriptors may be about to die; if the lock names no holder, a command may be examining it.
/// Both are waited for, by repeated attempts, because a file lock has no wait with a timeout.
fn lock_in_time(dir: &Path) -> Result<Flock<File>, InstanceError> {
    let deadline = Instant::now() + LOCK_RELEASE_TIMEOUT;
    loop {
        match lock(dir) {
            Err(InstanceError::InUse { pid, .. })
                if (pid.is_empty() || is_dead(&pid)) && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            locked => return locked,
        }
    }
}

/// Whether a process has ended, reaped or not; false if that is unknown.
fn is_dead(pid: &str) -> bool {
    let Ok(pid) = pid.parse() else { return false };
    match ProcFs::default().read_stat(pid) {
        Ok(stat) => matches!(stat.state, 'Z' | 'X'),
        Err(error) => matches!(error, ReadError::Gone { .. }),
    }
}

/// Locks the directory itself, as long as the returned value lives: systemd-tmpfiles skips a
/// directory that another process has locked.
fn guard(dir: &Path) -> Option<Flock<File>> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(dir)
        .ok()?;
    // If a cleaner has it now, a later `restore` tries again.
    Flock::lock(file, FlockArg::LockSharedNonblock).ok()
}

/// Whether the file that we have locked is still the directory's lock.
pub(super) fn is_in(lock: &File, dir: &Path) -> bool {
    let inode = |meta: Metadata| (meta.dev(), meta.ino());
    let there = dir.join(LOCK).symlink_metadata().map(inode);
    matches!((lock.metadata().map(inode), there), (Ok(ours), Ok(there)) if ours == there)
}

/// A random name, which no other instance has.
pub(super) fn random_name() -> String {
    format!("{}-{:08x}", std::process::id(), fastrand::u32(..))
}

/// Whether a name has the form of [`random_name`].
pub(super) fn is_random_name(name: &std::ffi::OsStr) -> bool {
    let parts = name.to_str().and_then(|name| name.split_once('-'));
    parts.is_some_and(|(pid, random)| {
        pid.parse::<u32>().is_ok() && random.len() == 8 && u32::from_str_radix(random, 16).is_ok()
    })
}

/// Creates and locks a directory with the given name, or with a random one.
fn own_dir(parent: &Path, name: Option<&str>) -> Result<PrivateDir, InstanceError> {
    let mut dir = parent.join(name.map_or_else(random_name, str::to_owned));
    let mut tries = 0;
    loop {
        make(&dir).map_err(|source| InstanceError::io(&dir, source))?;
        match lock_in_time(&dir) {
            Ok(lock) if is_in(&lock, &dir) => return Ok(PrivateDir::new(dir, lock)),
            // Another instance's sweep has removed the directory before it was locked.
            Ok(_) => {}
            Err(error) if error.is(io::ErrorKind::NotFound) && tries < TRIES => tries += 1,
            // An instance with the same name is running, so this one takes another name.
            Err(InstanceError::InUse { .. }) => dir = parent.join(random_name()),
            Err(error) => return Err(error),
        }
    }
}

/// Updates the access times of everything in a directory, because cleaners go by age.
pub(super) fn touch(dir: &Path) {
    use nix::sys::stat::{UtimensatFlags, utimensat};
    use nix::sys::time::TimeSpec;
    let now = |path: &Path| {
        // The modification times stay unchanged.
        let (used, written) = (TimeSpec::UTIME_NOW, TimeSpec::UTIME_OMIT);
        let at = nix::fcntl::AT_FDCWD;
        // A file may have been removed meanwhile.
        let _ = utimensat(at, path, &used, &written, UtimensatFlags::NoFollowSymlink);
    };
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        now(&entry.path());
    }
    now(dir);
}

#[cfg(test)]
mod tests;
