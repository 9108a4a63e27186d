//! The directories of one running instance, for its lock, its socket, its journal and its captures.
//!
//! | directory | contents | without `state_dir` | with it |
//! | --- | --- | --- | --- |
//! | home | lock, socket, outcome of an upgrade | in the registry (`super::registry`) | the state directory |
//! | files | journal, captures, which may be large | `procstar-UID/NAME` below `capture.dir`, `$TMPDIR` or `/tmp` | the same |
//! | memory | captures in memory | below `/dev/shm` | the same |
//!
//! Each is private and locked (`private_dir`), and is created again if somebody removes it. At the
//! ordered end all are removed, except a state directory. The next start of any instance sweeps
//! those of a killed one (`sweep`).

use std::io;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::format::{KeeperSettings, Opening};
use super::listeners::MissingListener;
pub use super::private_dir::InstanceError;
use super::private_dir::{DirHandover, PrivateDir, random_name, touch};
use super::registry::{self, REQUEST, SOCKET, STARTING, absolute};
use super::sweep::{
    FILES, JOURNAL, SHARED_MEMORY, base, memory_name, sweep_location, sweep_registry,
};
use crate::engine::CaptureDirs;
use crate::path_bytes;

/// The directories for captures if the default one cannot be used, and the user has not configured
/// one.
const LAST_RESORTS: [&str; 2] = ["/tmp", SHARED_MEMORY];

/// The file in the home directory with the outcome of the last requested upgrade.
pub const UPGRADED: &str = "upgraded";
/// The file in the home directory that lists the addresses on which the worker could not listen:
/// one error a line.
pub const NOT_LISTENING: &str = "not-listening";

/// The directories in the handover to another program in this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceHandover {
    /// The home, which contained everything until version 3.
    #[serde(with = "path_bytes")]
    dir: PathBuf,
    #[serde(with = "path_bytes::optional")]
    memory: Option<PathBuf>,
    lasting: bool,
    lock: RawFd,
    /// Since version 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    more: Option<Box<HandoverDetails>>,
}

/// The parts of the handover since version 3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct HandoverDetails {
    guard: Option<RawFd>,
    files: Option<DirHandover>,
    memory: Option<DirHandover>,
    #[serde(with = "path_bytes::optional")]
    link: Option<PathBuf>,
    #[serde(with = "path_bytes::list", rename = "places")]
    registries: Vec<PathBuf>,
}

impl InstanceHandover {
    /// The descriptors of the locks, which must stay open.
    pub fn descriptors(&self) -> Vec<RawFd> {
        let more = self.more.iter();
        let others = more.flat_map(|more| more.files.iter().chain(&more.memory));
        let guard = self.more.as_ref().and_then(|more| more.guard);
        let others = others.flat_map(DirHandover::descriptors);
        std::iter::once(self.lock).chain(guard).chain(others).collect()
    }

    /// The same directories with other descriptors, in the order of
    /// [`descriptors`](Self::descriptors); `None` if there are too few.
    pub(super) fn with_descriptors(mut self, fds: impl IntoIterator<Item = RawFd>) -> Option<Self> {
        let mut fds = fds.into_iter();
        self.lock = fds.next()?;
        if let Some(more) = &mut self.more {
            if let Some(guard) = &mut more.guard {
                *guard = fds.next()?;
            }
            for dir in more.files.iter_mut().chain(&mut more.memory) {
                dir.lock = fds.next()?;
                if let Some(guard) = &mut dir.guard {
                    *guard = fds.next()?;
                }
            }
        }
        Some(self)
    }
}

/// The directories of captures, which the engine creates again too if they are removed.
struct Stores {
    files: PrivateDir,
    memory: Option<PrivateDir>,
    /// After the ordered end, no directory is created again.
    closed: bool,
}

impl Stores {
    fn new(files: PrivateDir, memory: Option<PrivateDir>) -> Arc<Mutex<Stores>> {
        Arc::new(Mutex::new(Stores { files, memory, closed: false }))
    }

    fn restore(&mut self) -> Result<bool, InstanceError> {
        if self.closed {
            return Ok(false);
        }
        let mut restored = self.files.restore()?;
        if let Some(memory) = &mut self.memory
            && memory.restore()?
        {
            link_to(self.files.path(), memory.path());
            restored = true;
        }
        Ok(restored)
    }
}

/// The directories of a running instance.
pub struct Instance {
    /// `None` if it is the directory of the captures.
    home: Option<PrivateDir>,
    stores: Arc<Mutex<Stores>>,
    /// The registry entry of an instance whose home is elsewhere.
    link: Option<PathBuf>,
    /// The possible locations of the registry.
    registries: Vec<PathBuf>,
    lasting: bool,
    /// Whether a directory could not be created again, which is logged once.
    failing: bool,
}

impl Instance {
    /// Creates or takes the configured directories, and sweeps those of earlier instances.
    ///
    /// # Errors
    /// No directory is usable; the error names the path and the remedy.
    pub fn open(settings: &KeeperSettings, opening: &Opening) -> Result<Instance, InstanceError> {
        let registries = opening.registries.clone();
        for registry in registry::present(&registries) {
            sweep_registry(&registry);
            registry::remove_if_spare(&registry, &registries);
        }
        match &settings.state_dir {
            Some(dir) => Instance::lasting(dir, opening.serves, registries),
            None => Instance::temporary(settings, opening, registries),
        }
    }

    /// An instance that keeps everything in its state directory, with a link in the registry.
    fn lasting(
        dir: &Path,
        serves: bool,
        registries: Vec<PathBuf>,
    ) -> Result<Instance, InstanceError> {
        let files = PrivateDir::open(&absolute(dir)).map_err(|error| match error {
            InstanceError::Io { path, source } => {
                let uid = nix::unistd::geteuid().as_raw();
                InstanceError::State { path, uid, source }
            }
            error => error,
        })?;
        announce_socket(files.path(), serves);
        let stores = Stores::new(files, None);
        let mut instance = Instance { registries, ..Instance::without_home(stores, true) };
        match (instance.enter_link(), instance.registries.as_slice()) {
            (Err(source), [registry]) => Err(configured("run.runtime_dir", registry, source)),
            (Err(error), _) => {
                tracing::warn!(%error, "commands find this instance only by --state-dir");
                Ok(instance)
            }
            (Ok(()), _) => Ok(instance),
        }
    }

    fn without_home(stores: Arc<Mutex<Stores>>, lasting: bool) -> Instance {
        Instance { home: None, stores, link: None, registries: Vec::new(), lasting, failing: false }
    }

    fn temporary(
        settings: &KeeperSettings,
        opening: &Opening,
        registries: Vec<PathBuf>,
    ) -> Result<Instance, InstanceError> {
        let name = settings.conn_id.as_deref().and_then(plain_name);
        let files = files(settings, opening, name)?;
        let home = home(&registries, name).map_err(|source| {
            // A failed start leaves nothing behind.
            files.remove();
            match opening.registries.as_slice() {
                [registry] => configured("run.runtime_dir", registry, source),
                _ => source,
            }
        })?;
        announce_socket(home.path(), opening.serves);
        link_to(files.path(), home.path());
        let memory = memory(files.path());
        let stores = Stores::new(files, memory);
        Ok(Instance { home: Some(home), registries, ..Instance::without_home(stores, false) })
    }

    fn stores(&self) -> MutexGuard<'_, Stores> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a link to the home in the registry.
    fn enter_link(&mut self) -> Result<(), InstanceError> {
        let home = self.dir();
        let enter = |registry: &PathBuf| -> Result<PathBuf, InstanceError> {
            let registry = registry::open(registry)?;
            let link = registry.join(random_name());
            std::os::unix::fs::symlink(&home, &link)
                .map_err(|source| InstanceError::io(&link, source))?;
            Ok(link)
        };
        self.link = Some(first(&self.registries, enter)?);
        Ok(())
    }

    /// Creates removed directories again. Returns whether the home was one of them, because its
    /// socket is gone then.
    pub fn restore(&mut self) -> bool {
        let mut outcome = self.stores().restore();
        if let Ok(true) = &outcome {
            tracing::warn!("a directory of captures was removed; made it again");
        }
        let linked = self.link.as_ref().is_some_and(|link| link.symlink_metadata().is_ok());
        if self.home.is_none() && !linked {
            outcome = self.enter_link().and(outcome);
        }
        let before = self.dir();
        // An instance without a home of its own has its socket in the directory of the captures.
        let lost_socket = self.home.is_none() && matches!(outcome, Ok(true));
        let outcome = match self.restore_home() {
            Ok(restored) => outcome.map(|_| restored || lost_socket),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(restored) => {
                self.failing = false;
                restored
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "cannot make a directory again that was removed");
                }
                self.dir() != before
            }
        }
    }

    fn restore_home(&mut self) -> Result<bool, InstanceError> {
        let files = self.stores().files.path().to_path_buf();
        let Some(home) = &mut self.home else { return Ok(false) };
        let restored = match home.restore() {
            Ok(restored) => restored,
            // The login session has ended, and its runtime directory was removed.
            Err(_) => {
                *home = self::home(&self.registries, None)?;
                true
            }
        };
        if restored {
            let dir = home.path();
            tracing::warn!(dir = %dir.display(), "the runtime directory was removed; made another");
            link_to(&files, dir);
        }
        Ok(restored)
    }

    /// Updates the access times of all files, for cleaners that go by age.
    pub fn touch(&self) {
        let stores = self.stores();
        let memory = stores.memory.as_ref();
        let dirs = self.home.iter().chain(memory).chain([&stores.files]);
        let dirs: Vec<PathBuf> = dirs.map(|dir| dir.path().to_path_buf()).collect();
        // On a thread, because there may be many captures.
        let touching = std::thread::Builder::new()
            .name("procstar-touch".to_owned())
            .spawn(move || dirs.iter().for_each(|dir| touch(dir)));
        if let Err(error) = touching {
            tracing::warn!(%error, "cannot touch the files of this instance");
        }
    }

    /// Removes the request for an upgrade; returns whether there was one.
    pub fn take_request(&self) -> bool {
        std::fs::remove_file(self.dir().join(REQUEST)).is_ok()
    }

    /// Writes the outcome of a requested upgrade.
    pub fn answer_upgrade(&self, outcome: &Result<String, String>) {
        let text = match outcome {
            Ok(text) => text.clone(),
            Err(error) => format!("error: {error}"),
        };
        let dir = self.dir();
        let beside = dir.join("upgraded.new");
        let written = std::fs::write(&beside, format!("{:016x}\n{text}", fastrand::u64(..)))
            .and_then(|()| std::fs::rename(&beside, dir.join(UPGRADED)));
        if let Err(error) = written {
            tracing::error!(%error, "cannot write the outcome of the upgrade");
        }
    }

    /// Records the addresses on which the worker could not listen, for `procstar doctor`.
    pub(super) fn note_missing(&self, missing: &[MissingListener]) {
        let path = self.dir().join(NOT_LISTENING);
        let lines: Vec<String> =
            missing.iter().map(|missing| missing.error.replace('\n', " ") + "\n").collect();
        let noted = match lines.is_empty() {
            true => std::fs::remove_file(&path),
            false => std::fs::write(&path, lines.concat()),
        };
        match noted {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "cannot note which listeners are missing");
            }
            _ => {}
        }
    }

    /// The handover of the directories to the next program in this process.
    pub fn handover(&self) -> InstanceHandover {
        let stores = self.stores();
        let home = self.home.as_ref().unwrap_or(&stores.files).handover();
        let more = HandoverDetails {
            guard: home.guard,
            files: self.home.is_some().then(|| stores.files.handover()),
            memory: stores.memory.as_ref().map(PrivateDir::handover),
            link: self.link.clone(),
            registries: self.registries.clone(),
        };
        InstanceHandover {
            dir: home.path,
            memory: more.memory.as_ref().map(|memory| memory.path.clone()),
            lasting: self.lasting,
            lock: home.lock,
            more: Some(Box::new(more)),
        }
    }

    /// Takes directories that the previous program left in this process.
    ///
    /// # Errors
    /// The OS error, if the lock was not left open.
    pub fn from_handover(handover: InstanceHandover) -> io::Result<Instance> {
        let InstanceHandover { dir, memory, lasting, lock, more } = handover;
        let guard = more.as_ref().and_then(|more| more.guard);
        let home = PrivateDir::from_handover(DirHandover { path: dir, lock, guard })?;
        let Some(more) = more else {
            return Ok(Instance::of_version_2(home, memory.as_deref(), lasting));
        };
        let memory = more.memory.map(PrivateDir::from_handover).transpose()?;
        let (home, files) = match more.files {
            Some(files) => (Some(home), PrivateDir::from_handover(files)?),
            None => (None, home),
        };
        let (link, registries) = (more.link, more.registries);
        let stores = Stores::new(files, memory);
        Ok(Instance { home, link, registries, ..Instance::without_home(stores, lasting) })
    }

    /// In version 2, everything was in one directory, and nothing in a registry.
    fn of_version_2(dir: PrivateDir, memory: Option<&Path>, lasting: bool) -> Instance {
        let base = dir.path().parent().and_then(Path::parent).unwrap_or(Path::new("/tmp"));
        let uid = nix::unistd::geteuid().as_raw();
        let registries = registry::candidates(None, &crate::config::process_env(), uid, base);
        let memory = memory.and_then(|memory| PrivateDir::open(memory).ok());
        if let Some(memory) = &memory {
            link_to(dir.path(), memory.path());
        }
        let stores = Stores::new(dir, memory);
        let mut instance = Instance { registries, ..Instance::without_home(stores, lasting) };
        if let Err(error) = instance.enter_link() {
            tracing::warn!(%error, "no entry in the registry of instances");
        }
        instance
    }

    /// Whether the next start uses the same directory.
    pub fn is_lasting(&self) -> bool {
        self.lasting
    }

    /// The home directory.
    pub fn dir(&self) -> PathBuf {
        match &self.home {
            Some(home) => home.path().to_path_buf(),
            None => self.stores().files.path().to_path_buf(),
        }
    }

    /// The path of the journal.
    pub fn journal(&self) -> PathBuf {
        self.stores().files.path().join(JOURNAL)
    }

    /// The directories of captures.
    pub fn capture_dirs(&self) -> CaptureDirs {
        let stores = self.stores();
        let files = stores.files.path().to_path_buf();
        let memory = stores.memory.as_ref().map_or(&stores.files, |memory| memory);
        CaptureDirs { files, memory: memory.path().to_path_buf() }
    }

    /// A function that creates the directories of captures again, for an engine that finds them
    /// removed.
    pub fn restorer(&self) -> impl Fn() -> io::Result<()> + Send + Sync + use<> {
        let stores = Arc::clone(&self.stores);
        move || {
            let mut stores = stores.lock().unwrap_or_else(PoisonError::into_inner);
            stores.restore().map(drop).map_err(io::Error::other)
        }
    }

    /// At the ordered end: removes the directories, except a state directory.
    pub fn close(self) {
        if let Some(link) = &self.link {
            let _ = std::fs::remove_file(link);
        }
        let mut stores = self.stores();
        stores.closed = true;
        let files = (!self.lasting).then_some(&stores.files);
        // The home last, because the other directories are found through it.
        stores.memory.iter().chain(files).chain(&self.home).for_each(PrivateDir::remove);
    }
}

/// Makes commands wait for the socket, if there will be one, and removes that of an earlier
/// instance.
fn announce_socket(home: &Path, serves: bool) {
    if !serves {
        return;
    }
    let announced =
        std::fs::write(home.join(STARTING), "").and_then(|()| {
            match std::fs::remove_file(home.join(SOCKET)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        });
    if let Err(error) = announced {
        tracing::warn!(%error, dir = %home.display(), "cannot note that the socket is to come");
    }
}

fn configured(key: &'static str, path: &Path, source: InstanceError) -> InstanceError {
    let uid = nix::unistd::geteuid().as_raw();
    let path = path.display().to_string();
    InstanceError::Configured { key, path, uid, source: Box::new(source) }
}

/// The first success among the registries; the error of the first one if all fail.
fn first<T>(
    registries: &[PathBuf],
    mut at: impl FnMut(&PathBuf) -> Result<T, InstanceError>,
) -> Result<T, InstanceError> {
    let mut failed = None;
    for registry in registries {
        match at(registry) {
            Ok(made) => return Ok(made),
            Err(error) => {
                // Another user has taken our name.
                if matches!(error, InstanceError::Untrusted { .. }) {
                    tracing::warn!(%error, "keeping this instance's lock and socket elsewhere");
                }
                failed.get_or_insert(error);
            }
        }
    }
    let none = || InstanceError::io(Path::new("/run"), io::ErrorKind::NotFound.into());
    Err(failed.unwrap_or_else(none))
}

/// Creates the home directory in the registry.
fn home(registries: &[PathBuf], name: Option<&str>) -> Result<PrivateDir, InstanceError> {
    first(registries, |registry| PrivateDir::below(|| registry::open(registry), name))
}

/// Creates the directory of the captures.
fn files(
    settings: &KeeperSettings,
    opening: &Opening,
    name: Option<&str>,
) -> Result<PrivateDir, InstanceError> {
    let uid = nix::unistd::geteuid().as_raw();
    let below = |parent: &Path| {
        sweep_location(parent, uid);
        PrivateDir::below(|| base(parent, uid), name)
    };
    let parent = absolute(&settings.base_dir);
    below(&parent).or_else(|first| {
        if opening.captures_chosen {
            return Err(configured("capture.dir", &settings.base_dir, first));
        }
        // If TMPDIR names no directory, or is full, processes still run as long as there is any
        // directory for their files.
        tracing::warn!(error = %first, "keeping this instance's files elsewhere");
        LAST_RESORTS.into_iter().find_map(|parent| below(Path::new(parent)).ok()).ok_or(first)
    })
}

/// Creates a directory for memory captures, if there is a file system in memory.
fn memory(files: &Path) -> Option<PrivateDir> {
    let shared = Path::new(SHARED_MEMORY);
    let in_memory = nix::sys::statfs::statfs(shared)
        .is_ok_and(|stat| stat.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC);
    if !in_memory {
        return None;
    }
    let uid = nix::unistd::geteuid().as_raw();
    sweep_location(shared, uid);
    let name = memory_name(files)?;
    let dir = PrivateDir::below(|| base(shared, uid), name.to_str()).ok()?;
    link_to(files, dir.path());
    Some(dir)
}

/// Makes a directory of ours link to that of the captures.
fn link_to(files: &Path, from: &Path) {
    let link = from.join(FILES);
    let _ = std::fs::remove_file(&link);
    if let Err(error) = std::os::unix::fs::symlink(files, &link) {
        tracing::warn!(%error, link = %link.display(), "cannot link to the directory of captures");
    }
}

/// The connection ID, if it can be a file name without changes.
fn plain_name(conn_id: &str) -> Option<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let fits = !conn_id.is_empty() && conn_id.len() <= 100 && !conn_id.starts_with('.');
    (fits && conn_id.bytes().all(plain)).then_some(conn_id)
}

#[cfg(test)]
#[path = "instance/tests.rs"]
mod tests;
