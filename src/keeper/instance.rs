//! The directory of one running instance: its lock, its journal, its captures.
//!
//! Every instance has its own, in a directory of the user's below the base (`$TMPDIR` or `/tmp`), and removes it at its
//! ordered end. One that was not removed is no longer locked, and is swept by the next start of any instance, unless processes
//! of it still live. A lasting directory is named by `state_dir`.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, Metadata};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::journal;
use super::protocol::Settings;
use crate::engine::Places;
use crate::engine::procfs::{ProcFs, ReadError};
use crate::engine::sys;
use crate::engine::sys::set_cloexec;

const LOCK: &str = "lock";
/// How long a lock may outlast whoever had it.
const LAST_BREATH: Duration = Duration::from_secs(1);
/// How the name of a directory begins that is being removed. No connection ID begins so that names a directory.
const GONE: &str = ".gone-";
/// How often a base that is removed by others at the same moment is made anew.
const TRIES: u32 = 100;
/// The journal's name in the directory.
pub const JOURNAL: &str = "journal";
/// Where memory captures go, if it is there.
const SHARED_MEMORY: &str = "/dev/shm";
/// Where an instance's directory is made if it cannot be where it should.
const LAST_RESORTS: [&str; 2] = ["/tmp", SHARED_MEMORY];

/// The name, in the directory, of what became of the last wish for an upgrade.
pub const RELOADED: &str = "reloaded";

/// The name, in the directory, of a wish for an upgrade, which a signal follows.
const WISH: &str = "reload";

/// An instance that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its directory.
    pub dir: PathBuf,
    /// Its keeper's pid.
    pub pid: i32,
}

impl Running {
    /// Leaves the wish for an upgrade: the signal that follows then means this, whatever else it would mean.
    ///
    /// # Errors
    /// The OS error.
    pub fn wish_reload(&self) -> io::Result<()> {
        std::fs::write(self.dir.join(WISH), "")
    }

    /// Withdraws the wish, where nobody has taken it.
    pub fn withdraw_wish(&self) {
        // As a rule it has been taken.
        let _ = std::fs::remove_file(self.dir.join(WISH));
    }
}

/// The instance that works in `dir`, if one does.
pub fn running_in(dir: &Path) -> Option<Running> {
    if !dir.symlink_metadata().is_ok_and(|meta| is_ours(&meta)) || !dir.join(LOCK).exists() {
        return None;
    }
    match lock(dir) {
        Err(InstanceError::InUse { pid, .. }) => {
            Some(Running { dir: dir.to_path_buf(), pid: pid.parse().ok()? })
        }
        _ => None,
    }
}

/// Whether an instance works in `dir`; none where that is not the directory of one. One that does not exist any more was.
pub fn is_running_in(dir: &Path) -> Option<bool> {
    (!dir.exists() || dir.join(LOCK).exists()).then(|| running_in(dir).is_some())
}

/// The instances of this user below a base directory.
pub fn running_below(base: &Path) -> Vec<Running> {
    let uid = nix::unistd::geteuid();
    let Ok(entries) = std::fs::read_dir(base.join(format!("procstar-{uid}"))) else {
        return Vec::new();
    };
    entries.flatten().filter_map(|entry| running_in(&entry.path())).collect()
}

/// Why there is no directory to work in.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Another instance works in it.
    #[error("state directory {path} is in use by the procstar with pid {pid}")]
    InUse {
        /// The directory.
        path: String,
        /// The other one's pid, as its lock says.
        pid: String,
    },
    /// It is not the user's alone, and what lies in it cannot be trusted.
    #[error("state directory {path} must be a directory of user {uid} with mode 0700")]
    Untrusted {
        /// The directory.
        path: String,
        /// Who we are.
        uid: u32,
    },
    /// It cannot be made or used.
    #[error("cannot use state directory {path}: {source}")]
    Io {
        /// The directory.
        path: String,
        /// Why not.
        source: io::Error,
    },
}

/// A directory as it is handed over to another program in this process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Remains {
    dir: PathBuf,
    memory: Option<PathBuf>,
    lasting: bool,
    lock: RawFd,
}

impl Remains {
    /// The lock's descriptor, which must stay open.
    pub fn lock(&self) -> RawFd {
        self.lock
    }
}

/// A locked directory.
pub struct Instance {
    dir: PathBuf,
    memory: Option<PathBuf>,
    lasting: bool,
    lock: Flock<File>,
}

impl Instance {
    /// Takes or makes the directory that the settings ask for, and sweeps what earlier ones have left.
    ///
    /// # Errors
    /// Where there can be none; with its path and what to mend.
    pub fn open(settings: &Settings) -> Result<Instance, InstanceError> {
        if let Some(dir) = &settings.state_dir {
            make(dir).map_err(|source| error(dir, source))?;
            let lock = lock_in_time(dir)?;
            return Ok(Instance { dir: dir.clone(), memory: None, lasting: true, lock });
        }
        let conn_id = settings.conn_id.as_deref();
        Instance::open_below(&settings.base_dir, conn_id).or_else(|first| {
            // Programs run where TMPDIR names nothing, or is full, as long as they can be kept somewhere.
            tracing::warn!(error = %first, "keeping this instance's files elsewhere");
            let elsewhere = |place| Instance::open_below(Path::new(place), conn_id).ok();
            LAST_RESORTS.into_iter().find_map(elsewhere).ok_or(first)
        })
    }

    /// Takes a directory below that of the user's in `place`.
    fn open_below(place: &Path, conn_id: Option<&str>) -> Result<Instance, InstanceError> {
        let mut tries = 0;
        loop {
            match Instance::below(place, conn_id) {
                // Another instance has ended, and removed the base just before we went into it.
                Err(InstanceError::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && tries < TRIES =>
                {
                    tries += 1;
                }
                opened => return opened,
            }
        }
    }

    fn below(place: &Path, conn_id: Option<&str>) -> Result<Instance, InstanceError> {
        let uid = nix::unistd::geteuid().as_raw();
        let base = base(&place.join(format!("procstar-{uid}")))?;
        sweep(&base);
        let name = conn_id.and_then(plain_name);
        let (dir, lock) = own_dir(&base, name)?;
        let memory = memory_dir(uid, &dir);
        Ok(Instance { dir, memory, lasting: false, lock })
    }

    /// Takes the wish for an upgrade, if there is one.
    pub fn take_wish(&self) -> bool {
        std::fs::remove_file(self.dir.join(WISH)).is_ok()
    }

    /// Leaves word of what became of a wish for an upgrade.
    pub fn answer_reload(&self, outcome: &Result<String, String>) {
        let text = match outcome {
            Ok(text) => text.clone(),
            Err(error) => format!("error: {error}"),
        };
        let beside = self.dir.join("reloaded.new");
        let written = std::fs::write(&beside, format!("{:016x}\n{text}", fastrand::u64(..)))
            .and_then(|()| std::fs::rename(&beside, self.dir.join(RELOADED)));
        if let Err(error) = written {
            tracing::error!(%error, "cannot leave word of the upgrade");
        }
    }

    /// What another program needs to go on with the directory.
    pub fn remains(&self) -> Remains {
        Remains {
            dir: self.dir.clone(),
            memory: self.memory.clone(),
            lasting: self.lasting,
            lock: self.lock.as_raw_fd(),
        }
    }

    /// Goes on with a directory that another program has left in this process.
    ///
    /// # Errors
    /// The OS error, where the lock was not left open.
    pub fn take_over(remains: Remains) -> io::Result<Instance> {
        let Remains { dir, memory, lasting, lock } = remains;
        // SAFETY: it was left open for this.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(lock) });
        set_cloexec(&file, true)?;
        // The lock is the open file's, and so ours already.
        let lock =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
        Ok(Instance { dir, memory, lasting, lock })
    }

    /// Whether the next start finds what is left in it.
    pub fn is_lasting(&self) -> bool {
        self.lasting
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The journal.
    pub fn journal(&self) -> PathBuf {
        self.dir.join(JOURNAL)
    }

    /// Where captures go.
    pub fn places(&self) -> Places {
        let memory = self.memory.clone().unwrap_or_else(|| self.dir.clone());
        Places { files: self.dir.clone(), memory }
    }

    /// At the ordered end: removes the directory, or what need not last of it.
    pub fn close(self) {
        // First what only the directory leads to.
        let own = (!self.lasting).then_some(&self.dir);
        for dir in self.memory.iter().chain(own) {
            remove(&out_of_the_way(dir));
            if let Some(base) = dir.parent() {
                // Only the last one finds it empty.
                let _ = std::fs::remove_dir(base);
            }
        }
    }
}

fn error(path: &Path, source: io::Error) -> InstanceError {
    InstanceError::Io { path: path.display().to_string(), source }
}

/// Gives a directory that is to be removed a name that no instance has: one that starts under its old name meanwhile must
/// not work in it.
fn out_of_the_way(dir: &Path) -> PathBuf {
    let gone = dir.with_file_name(format!("{GONE}{:016x}", fastrand::u64(..)));
    match std::fs::rename(dir, &gone) {
        Ok(()) => gone,
        Err(_) => dir.to_path_buf(),
    }
}

fn remove(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(dir = %dir.display(), %error, "cannot remove a state directory");
    }
}

fn make(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn is_ours(meta: &Metadata) -> bool {
    meta.is_dir() && meta.uid() == nix::unistd::geteuid().as_raw() && meta.mode() & 0o077 == 0
}

/// Locks a directory that is the user's alone, and enters our pid.
fn lock(dir: &Path) -> Result<Flock<File>, InstanceError> {
    let path = dir.display().to_string();
    let meta = dir.symlink_metadata().map_err(|source| error(dir, source))?;
    if !is_ours(&meta) {
        return Err(InstanceError::Untrusted { path, uid: nix::unistd::geteuid().as_raw() });
    }
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(dir.join(LOCK))
        .map_err(|source| error(dir, source))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            let entered = lock
                .set_len(0)
                .and_then(|()| lock.rewind())
                .and_then(|()| write!(&mut *lock, "{}", std::process::id()));
            entered.map_err(|source| error(dir, source))?;
            Ok(lock)
        }
        Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
            let mut pid = String::new();
            // Another's lock may be just being entered.
            let _ = (&mut file).take(20).read_to_string(&mut pid);
            Err(InstanceError::InUse { path, pid })
        }
        Err((_, errno)) => Err(error(dir, errno.into())),
    }
}

/// Locks the one directory that will do. Where who had it is dead, what shared its descriptors may be about to die: that is waited for,
/// by asking again, for no lock of a file can be waited for with an end.
fn lock_in_time(dir: &Path) -> Result<Flock<File>, InstanceError> {
    let deadline = Instant::now() + LAST_BREATH;
    loop {
        match lock(dir) {
            Err(InstanceError::InUse { pid, .. }) if is_dead(&pid) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            locked => return locked,
        }
    }
}

/// Whether a process has ended, reaped or not. One that cannot be told of has not.
fn is_dead(pid: &str) -> bool {
    let Ok(pid) = pid.parse() else { return false };
    match ProcFs::default().read_stat(pid) {
        Ok(stat) => matches!(stat.state, 'Z' | 'X'),
        Err(error) => matches!(error, ReadError::Gone { .. }),
    }
}

/// The directory that holds those of instances; another one if somebody else has taken its name.
fn base(wanted: &Path) -> Result<PathBuf, InstanceError> {
    make(wanted).map_err(|source| error(wanted, source))?;
    if wanted.symlink_metadata().is_ok_and(|meta| is_ours(&meta)) {
        sys::spread_below(wanted);
        return Ok(wanted.to_path_buf());
    }
    let mut name = wanted.as_os_str().to_owned();
    name.push(format!("-{:016x}", fastrand::u64(..)));
    let other = PathBuf::from(name);
    DirBuilder::new().mode(0o700).create(&other).map_err(|source| error(&other, source))?;
    Ok(other)
}

/// A connection ID that can be a file's name as it is.
fn plain_name(conn_id: &str) -> Option<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let fits = !conn_id.is_empty() && conn_id.len() <= 100 && !conn_id.starts_with('.');
    (fits && conn_id.bytes().all(plain)).then_some(conn_id)
}

/// The instance's own directory, locked: of the given name, or of one that nobody has.
fn own_dir(base: &Path, name: Option<&str>) -> Result<(PathBuf, Flock<File>), InstanceError> {
    let random = || format!("{}-{:08x}", std::process::id(), fastrand::u32(..));
    let mut dir = base.join(name.map_or_else(random, str::to_owned));
    loop {
        make(&dir).map_err(|source| error(&dir, source))?;
        match lock(&dir) {
            Ok(lock) if is_in(&lock, &dir) => return Ok((dir, lock)),
            // Another one's sweep has taken the directory for a dead one's before we had locked it.
            Ok(_) => {}
            Err(InstanceError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            // An instance of the same name runs: side by side with it, under another one.
            Err(InstanceError::InUse { .. }) => dir = base.join(random()),
            Err(error) => return Err(error),
        }
    }
}

/// Whether the file that we have locked is still the directory's lock.
fn is_in(lock: &File, dir: &Path) -> bool {
    let inode = |meta: Metadata| (meta.dev(), meta.ino());
    let there = dir.join(LOCK).symlink_metadata().map(inode);
    matches!((lock.metadata().map(inode), there), (Ok(ours), Ok(there)) if ours == there)
}

/// The name of an instance's directory for memory captures. Directories of the same name below different bases have different ones.
fn memory_name(dir: &Path) -> Option<OsString> {
    let meta = dir.symlink_metadata().ok()?;
    let mut name = dir.file_name()?.to_owned();
    name.push(format!("-{:x}-{:x}", meta.dev(), meta.ino()));
    Some(name)
}

/// A directory for memory captures, where there is a file system in memory.
fn memory_dir(uid: u32, dir: &Path) -> Option<PathBuf> {
    let shared = Path::new(SHARED_MEMORY);
    let in_memory = nix::sys::statfs::statfs(shared)
        .is_ok_and(|stat| stat.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC);
    if !in_memory {
        return None;
    }
    let base = base(&shared.join(format!("procstar-{uid}"))).ok()?;
    let memory = base.join(memory_name(dir)?);
    make(&memory).ok()?;
    memory.symlink_metadata().is_ok_and(|meta| is_ours(&meta)).then_some(memory)
}

/// Removes the directories of instances that did not end in order, and of which nothing lives any more.
fn sweep(base: &Path) {
    let Ok(entries) = std::fs::read_dir(base) else { return };
    let procfs = ProcFs::default();
    for dir in entries.flatten().map(|entry| entry.path()) {
        let is_gone = |name: &OsStr| name.as_bytes().starts_with(GONE.as_bytes());
        if dir.file_name().is_some_and(is_gone) {
            // Somebody is removing it, or was, and died over it.
            remove(&dir);
            continue;
        }
        if !dir.join(LOCK).exists() {
            // It is being made, or removed; or was left so, and then it is empty.
            let _ = std::fs::remove_dir(&dir);
            continue;
        }
        // Held while it is removed: an instance of that name that starts now waits for nothing, it takes another.
        let Ok(locked) = lock(&dir) else { continue };
        if !is_in(&locked, &dir) {
            continue;
        }
        match journal::read(&dir.join(JOURNAL)) {
            Ok(records) if records.iter().any(|record| journal::is_alive(record, &procfs)) => {
                continue;
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Of a newer version, perhaps; whether its processes live cannot be known.
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "leaving what a dead instance has left");
                continue;
            }
        }
        tracing::info!(dir = %dir.display(), "removing what a dead instance has left");
        // First what only the directory leads to.
        if let (Some(user), Some(name)) = (base.file_name(), memory_name(&dir)) {
            remove(&Path::new(SHARED_MEMORY).join(user).join(name));
        }
        remove(&out_of_the_way(&dir));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    fn settings(base: &Path, state_dir: Option<&Path>, conn_id: Option<&str>) -> Settings {
        Settings {
            state_dir: state_dir.map(Path::to_path_buf),
            base_dir: base.to_path_buf(),
            conn_id: conn_id.map(str::to_owned),
            drain_grace: Duration::ZERO,
            setup_patience: Duration::ZERO,
            restrict_exe: Vec::new(),
            log: crate::config::LogSettings::default(),
            limit: Default::default(),
        }
    }

    #[test]
    fn side_by_side_and_gone_at_the_end() {
        let base = tempfile::tempdir().unwrap();
        let open = |id| Instance::open(&settings(base.path(), None, id)).unwrap();
        let (a, b, c, d) = (open(None), open(None), open(Some("x")), open(Some("x")));
        let dirs: std::collections::HashSet<_> =
            [&a, &b, &c, &d].iter().map(|i| i.dir().to_path_buf()).collect();
        assert_eq!(dirs.len(), 4);
        assert!(c.dir().ends_with("x"));
        for instance in [a, b, c, d] {
            let dir = instance.dir().to_path_buf();
            assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
            instance.close();
            assert!(!dir.exists());
        }
    }

    #[test]
    fn what_was_left_is_swept() {
        let base = tempfile::tempdir().unwrap();
        let dead = Instance::open(&settings(base.path(), None, Some("dead"))).unwrap();
        let dir = dead.dir().to_path_buf();
        std::fs::write(dir.join("1.0"), "output").unwrap();
        // As if it were killed: the lock is gone, the directory is not.
        drop(dead);
        assert!(dir.exists());
        Instance::open(&settings(base.path(), None, None)).unwrap().close();
        assert!(!dir.exists());
    }

    #[test]
    fn where_nothing_can_be_made_it_is_made_elsewhere() {
        let settings = settings(Path::new("/no/such"), None, None);
        let instance = Instance::open(&settings).unwrap();
        let dir = instance.dir().to_path_buf();
        assert!(dir.is_dir());
        instance.close();
        assert!(!dir.exists());
    }

    #[test]
    fn instances_of_one_name_start_and_end_side_by_side() {
        let base = tempfile::tempdir().unwrap();
        let run = || {
            for _ in 0..200 {
                let instance = Instance::open(&settings(base.path(), None, Some("x"))).unwrap();
                let file = instance.dir().join("capture");
                std::fs::write(&file, "x").unwrap();
                // Nobody else thinks that this is theirs.
                assert!(file.exists());
                instance.close();
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(run))));
    }

    #[test]
    fn what_cannot_be_read_is_left() {
        let base = tempfile::tempdir().unwrap();
        let dead = Instance::open(&settings(base.path(), None, Some("dead"))).unwrap();
        let dir = dead.dir().to_path_buf();
        std::fs::write(dir.join(JOURNAL), b"\0\0\0\x02{}").unwrap();
        drop(dead);
        Instance::open(&settings(base.path(), None, None)).unwrap().close();
        assert!(dir.exists());
    }

    #[test]
    fn equal_names_in_different_places_share_no_memory() {
        let bases = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [a, b] = bases
            .each_ref()
            .map(|base| Instance::open(&settings(base.path(), None, Some("x"))).unwrap());
        let memory = b.places().memory;
        assert_ne!(a.places().memory, memory);
        a.close();
        assert!(memory.exists());
        b.close();
    }

    #[test]
    fn a_lasting_directory_is_one_instances_and_the_users_alone() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("state");
        let settings = settings(base.path(), Some(&dir), None);
        let first = Instance::open(&settings).unwrap();
        let refused = Instance::open(&settings).err().unwrap().to_string();
        assert!(refused.ends_with(&format!("pid {}", std::process::id())), "{refused}");
        first.close();
        assert!(dir.exists());
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).unwrap();
        let refused = Instance::open(&settings).err().unwrap().to_string();
        assert!(refused.contains("mode 0700"), "{refused}");
    }

    #[test]
    fn a_lock_that_outlasts_its_holder_is_waited_for() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("state");
        let settings = settings(base.path(), Some(&dir), None);
        let first = Instance::open(&settings).unwrap();
        let mut ended = std::process::Command::new("/bin/true").spawn().unwrap();
        let dead = ended.id().to_string();
        ended.wait().unwrap();
        std::fs::write(dir.join(LOCK), &dead).unwrap();
        // It is not waited for without end.
        let refused = Instance::open(&settings).err().unwrap().to_string();
        assert!(refused.ends_with(&format!("pid {dead}")), "{refused}");
        let rest = std::thread::spawn(move || drop(first));
        Instance::open(&settings).unwrap();
        rest.join().unwrap();
    }

    #[test]
    fn who_is_dead() {
        let mut ended = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = ended.id().to_string();
        let id = nix::sys::wait::Id::Pid(nix::unistd::Pid::from_raw(ended.id().cast_signed()));
        let seen = nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT;
        nix::sys::wait::waitid(id, seen).unwrap();
        assert!(is_dead(&pid), "a zombie is");
        ended.wait().unwrap();
        assert!(is_dead(&pid));
        assert!(!is_dead(&std::process::id().to_string()));
        assert!(!is_dead("") && !is_dead("x"), "nobody knows");
    }
}
