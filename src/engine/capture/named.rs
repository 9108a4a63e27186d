//! Files that the user has named.
//!
//! Their paths lie where others may write, above all the process itself. So procstar creates such a
//! file once, as the user of the process, and follows no link that another user may have placed
//! (see [`below`]). From then on it uses only the descriptors of that moment: one of the file for
//! reading, and one of the directory for the removal. A later file at the same path is ignored.
//!
//! The process that created the file keeps both descriptors as long as some capture refers to the
//! file. Captures that cross to another program (in the journal, in an upgrade) carry a key, and
//! those in one program with the same key share one [`Named`].

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak, mpsc};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};

use super::intact::gone;
use crate::clock::TimePoint;
use crate::engine::below::{self, WalkError};
use crate::engine::creds::Creds;
use crate::engine::helpers::{self, Patient};
use crate::engine::restriction::{self, Below};
use crate::engine::sys::{self, Writers};
use crate::path_bytes;
use crate::spec::CaptureFile;

/// The identity of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(meta: &Metadata) -> FileId {
        FileId { device: meta.dev(), inode: meta.ino() }
    }
}

/// The record of a file's creation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Made {
    /// The inode. The number of the file system is not recorded: it may change when the machine
    /// reboots.
    inode: u64,
    /// The credentials of its creator.
    #[serde(default, skip_serializing_if = "Creds::are_ours")]
    creds: Creds,
}

/// The descriptors of a file.
struct Open {
    reader: Arc<File>,
    dir: OwnedFd,
    name: OsString,
}

/// A file that the user has named, shared by all captures in this program that refer to it.
pub(in crate::engine) struct Named {
    key: u64,
    /// `None` before the creation.
    made: OnceLock<Made>,
    open: Mutex<Option<Arc<Open>>>,
    look: Mutex<Look>,
    /// The request for the descriptor of another process.
    requests: Patient,
    /// Whether the removal has begun.
    removed: AtomicBool,
}

/// The progress of an examination of a file.
#[derive(Default)]
struct Look {
    going: bool,
    seen: Option<Seen>,
}

/// The outcome of an examination of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Seen {
    /// Whether a process has the file open for writing.
    pub(in crate::engine) writers: Writers,
    /// The file's length; `None` if the file is gone or unreachable.
    pub(super) length: Option<u64>,
}

/// The named files of this program, by key.
static ALL: LazyLock<Mutex<HashMap<u64, Weak<Named>>>> = LazyLock::new(Mutex::default);

fn all() -> MutexGuard<'static, HashMap<u64, Weak<Named>>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Timeout of creating a file.
const PATIENCE: Duration = Duration::from_secs(10);

/// Timeout of the file system's answer to a reader.
const ANSWER: Duration = Duration::from_secs(1);

/// A key that no other file has, in this program and its predecessors.
fn next_key() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = TimePoint::now().unix_nanos.unsigned_abs();
    let later = |last: u64| now.max(last.saturating_add(1));
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(later(last)));
    later(last.unwrap_or_default())
}

/// Asks the process that holds the descriptors for the file with a key; `None` if it holds no such
/// file.
pub(crate) type Holder = Box<dyn Fn(u64) -> io::Result<Option<OwnedFd>> + Send + Sync>;

static HOLDER: OnceLock<Holder> = OnceLock::new();

/// From now on, asks another process for the descriptors of named files.
pub(crate) fn request_files_from(holder: Holder) {
    // A process has one keeper for its whole life.
    let _ = HOLDER.set(holder);
}

/// The file with a key, open for reading, if this process holds it.
pub(crate) fn held_file(key: u64) -> Option<Arc<File>> {
    let named = all().get(&key).and_then(Weak::upgrade)?;
    let open = named.opened();
    open.as_ref().map(|open| Arc::clone(&open.reader))
}

impl Named {
    /// A file that is about to be created.
    pub(super) fn new() -> Arc<Named> {
        Named::with_key(next_key(), None)
    }

    /// The file with this key and this record of its creation.
    pub(super) fn with_key(key: u64, made: Option<Made>) -> Arc<Named> {
        let mut all = all();
        let named = all.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
            let named = Arc::new(Named {
                key,
                made: OnceLock::new(),
                open: Mutex::new(None),
                look: Mutex::default(),
                requests: Patient::default(),
                removed: AtomicBool::new(false),
            });
            all.insert(key, Arc::downgrade(&named));
            named
        });
        drop(all);
        if let Some(made) = made {
            // An earlier record is the same.
            let _ = named.made.set(made);
        }
        named
    }

    /// The file's key.
    pub(super) fn key(&self) -> u64 {
        self.key
    }

    /// The record of the creation; `None` before it.
    pub(super) fn made(&self) -> Option<&Made> {
        self.made.get()
    }

    /// Whether this program holds the descriptors.
    pub(super) fn is_held(&self) -> bool {
        self.opened().is_some()
    }

    fn opened(&self) -> MutexGuard<'_, Option<Arc<Open>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates or empties the file with the credentials `creds`, below `within`; returns it open
    /// for writing. Waits for the file system up to a timeout.
    ///
    /// # Errors
    /// The OS error; `EINVAL` if the path is not a regular file, `EXDEV` if it leads out of
    /// `within`, `ETIMEDOUT` if the file system does not answer.
    pub(super) fn make(
        self: &Arc<Self>,
        file: &CaptureFile,
        within: Option<&Below>,
        creds: &Creds,
    ) -> Result<File, WalkError> {
        let (named, file, of) = (Arc::clone(self), file.clone(), creds.clone());
        let within = within.cloned();
        helpers::wait(creds, PATIENCE, move || {
            let (writer, open) = make(&file, within.as_ref())?;
            let inode = FileId::of(&open.reader.metadata()?).inode;
            let _ = named.made.set(Made { inode, creds: of });
            *named.opened() = Some(Arc::new(open));
            Ok(writer)
        })
    }

    /// The file, open for reading. A process other than the holder first checks that the file
    /// system answers, because its readers must not wait for it.
    ///
    /// # Errors
    /// No process holds the file; `ETIMEDOUT` if its file system does not answer.
    pub(super) fn reader(&self) -> io::Result<Arc<File>> {
        if let Some(open) = &*self.opened() {
            return Ok(Arc::clone(&open.reader));
        }
        let request = HOLDER.get().ok_or_else(gone)?;
        let file = Arc::new(File::from(request(self.key)?.ok_or_else(gone)?));
        let tried = Arc::clone(&file);
        self.requests.run(ANSWER, move || {
            let last = tried.metadata()?.len().saturating_sub(1);
            let mut byte = [0];
            tried.read_at(&mut byte, 0)?;
            tried.read_at(&mut byte, last)
        })?;
        Ok(file)
    }

    fn looked(&self) -> MutexGuard<'_, Look> {
        self.look.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The outcome of the last look.
    pub(super) fn seen(&self) -> Option<Seen> {
        self.looked().seen
    }

    /// Examines the file on another thread, which may wait for the file system and then calls
    /// `done`. Only one examination runs at a time.
    pub(super) fn examine(self: &Arc<Self>, done: impl FnOnce() + Send + 'static) {
        if std::mem::replace(&mut self.looked().going, true) {
            return;
        }
        let named = Arc::clone(self);
        let started = helpers::start(&Creds::default(), move |_| {
            let reader = named.reader().ok();
            let meta = reader.as_ref().and_then(|reader| reader.metadata().ok());
            let seen = Seen {
                writers: reader.map_or(Writers::None, |reader| sys::writers(&reader)),
                length: meta.filter(|meta| meta.nlink() > 0).map(|meta| meta.len()),
            };
            *named.looked() = Look { going: false, seen: Some(seen) };
            drop(named);
            done();
        });
        if let Err(error) = started {
            tracing::warn!(%error, "cannot look at a captured file");
            self.looked().going = false;
        }
    }

    /// Finds the file at the path of its creation.
    fn find(&self, path: &Path) -> io::Result<Open> {
        let made = self.made().ok_or_else(gone)?;
        let found = open(path).map_err(|error| io::Error::from_raw_os_error(error.errno()))?;
        if found.reader.metadata()?.ino() == made.inode { Ok(found) } else { Err(gone()) }
    }

    /// Finds files that an earlier program created, and holds them: each on its own thread, with
    /// the credentials of its creator. Waits until `deadline` at most; later finds are held too.
    pub(super) fn find_all<'a>(
        files: impl Iterator<Item = (&'a Arc<Named>, &'a Path)>,
        deadline: Instant,
    ) {
        let (finding, found) = mpsc::channel();
        let left = || deadline.saturating_duration_since(Instant::now());
        for (named, path) in files {
            let Some(made) = named.made().filter(|_| !named.is_held()) else { continue };
            loop {
                let (named, path, finding) = (Arc::clone(named), path.to_owned(), finding.clone());
                let started = helpers::start(&made.creds, move |ready| {
                    match ready.and_then(|()| named.find(&path)) {
                        Ok(open) => *named.opened() = Some(Arc::new(open)),
                        Err(error) => {
                            tracing::warn!(path = %path.display(), %error, "cannot find a captured file again");
                        }
                    }
                    // The receiver may have given up.
                    let _ = finding.send(());
                });
                // With too many threads, wait until one of them has ended.
                if started.is_ok() || found.recv_timeout(left()).is_err() {
                    break;
                }
            }
        }
        drop(finding);
        while found.recv_timeout(left()).is_ok() {}
    }

    /// Removes the file on another thread with the credentials of its creator, if it is still the
    /// file at its path; then drops `done`. Only the first of several calls counts.
    pub(super) fn remove<T: Send + 'static>(self: &Arc<Self>, path: &Path, done: T) {
        let Some(made) = self.made().filter(|_| !self.removed.swap(true, Ordering::AcqRel)) else {
            return;
        };
        let (named, path) = (Arc::clone(self), path.to_path_buf());
        let shown = path.clone();
        let started = helpers::start(&made.creds, move |ready| {
            if let Err(error) = ready.and_then(|()| named.remove_now(&path)) {
                tracing::warn!(path = %path.display(), %error, "cannot remove a capture");
            }
            drop((named, done));
        });
        if let Err(error) = started {
            tracing::warn!(path = %shown.display(), %error, "cannot remove a capture");
        }
    }

    fn remove_now(&self, path: &Path) -> io::Result<()> {
        let held = self.opened().clone();
        let open = match held {
            Some(open) => open,
            None => match self.find(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                found => Arc::new(found?),
            },
        };
        let id = FileId::of(&open.reader.metadata()?);
        // The file is open, so no other file can have its inode.
        let there = match fstatat(&open.dir, open.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(()),
            there => there?,
        };
        if (FileId { device: there.st_dev, inode: there.st_ino }) == id {
            unlinkat(&open.dir, open.name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
        }
        Ok(())
    }
}

/// The descriptors of a file, as an upgrade hands them over.
#[derive(Clone, Serialize, Deserialize)]
pub(in crate::engine) struct HandoverFile {
    key: u64,
    reader: RawFd,
    dir: RawFd,
    #[serde(with = "path_bytes")]
    name: PathBuf,
}

impl HandoverFile {
    /// The descriptors that must stay open.
    pub(in crate::engine) fn descriptors(&self) -> [RawFd; 2] {
        [self.reader, self.dir]
    }

    /// The descriptors of all files that this program holds.
    pub(in crate::engine) fn of_all() -> Vec<HandoverFile> {
        let held: Vec<Arc<Named>> = all().values().filter_map(Weak::upgrade).collect();
        let carried = held.iter().filter_map(|named| {
            let open = named.opened();
            let Open { reader, dir, name } = &**open.as_ref()?;
            Some(HandoverFile {
                key: named.key,
                reader: reader.as_raw_fd(),
                dir: dir.as_raw_fd(),
                name: name.into(),
            })
        });
        carried.collect()
    }

    /// Takes over the descriptors of an earlier program through `inherit`. Closes those of files
    /// without a capture. A file that this very program already holds stays as it is.
    ///
    /// # Errors
    /// The OS error of taking them.
    pub(in crate::engine) fn restore(
        self,
        mut inherit: impl FnMut(RawFd) -> io::Result<OwnedFd>,
    ) -> io::Result<()> {
        let named = all().get(&self.key).and_then(Weak::upgrade);
        if named.as_ref().is_some_and(|named| named.is_held()) {
            return Ok(());
        }
        let (reader, dir) = (inherit(self.reader), inherit(self.dir));
        let open = Open { reader: Arc::new(reader?.into()), dir: dir?, name: self.name.into() };
        if let Some(named) = named {
            *named.opened() = Some(Arc::new(open));
        }
        Ok(())
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let mut all = all();
        // Another file with this key may have replaced this one.
        if all.get(&self.key).is_some_and(|named| named.strong_count() == 0) {
            all.remove(&self.key);
        }
    }
}

/// Flags to open a path that may not be a regular file: without waiting for the other end of a
/// FIFO, and without following a link.
fn flags(access: OFlag) -> OFlag {
    access | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC
}

/// Opens a regular file for reading, and its directory.
fn open(path: &Path) -> Result<Open, WalkError> {
    let (dir, name) = below::parent(path)?;
    let reader = File::from(openat(&dir, name.as_os_str(), flags(OFlag::O_RDONLY), Mode::empty())?);
    check_regular(&reader.metadata()?)?;
    Ok(Open { reader: Arc::new(reader), dir, name })
}

/// Creates or empties a file.
fn make(file: &CaptureFile, within: Option<&Below>) -> Result<(File, Open), WalkError> {
    let (dir, name) = below::parent(Path::new(&file.path))?;
    if let Some(within) = within {
        restriction::open::check_parent(&dir, within)?;
    }
    let (made, mode) =
        (OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT, Mode::from_bits_retain(0o600));
    let writer = File::from(openat(&dir, name.as_os_str(), flags(made), mode)?);
    let meta = writer.metadata()?;
    check_regular(&meta)?;
    let reader = File::from(openat(&dir, name.as_os_str(), flags(OFlag::O_RDONLY), Mode::empty())?);
    if FileId::of(&reader.metadata()?) != FileId::of(&meta) {
        // The file was replaced at this very moment.
        return Err(Errno::ESTALE.into());
    }
    writer.set_len(0)?;
    writer.set_permissions(PermissionsExt::from_mode(file.mode))?;
    sys::set_blocking(&writer)?;
    Ok((writer, Open { reader: Arc::new(reader), dir, name }))
}

fn check_regular(meta: &Metadata) -> io::Result<()> {
    if meta.is_file() { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EINVAL)) }
}
