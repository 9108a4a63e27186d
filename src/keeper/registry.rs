//! The registry: a runtime directory of the user with an entry for each instance, wherever its
//! files are.
//!
//! An instance has an entry in the first of the [`candidates`] that can be used: its own directory
//! with lock and socket, or a link to its lasting directory. Every search for instances covers all
//! of them, so that neither `TMPDIR` nor a separate session hides one. An entry is valid while its
//! lock is held; the next start sweeps the others.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::private_dir::{self, InstanceError, LOCK, is_ours, make, owner_and_mode};
use crate::config::{Env, Settings};
use crate::users::is_ambiguous;

/// The runtime directory of root, and of a unit that asks for one of our name.
const RUN: &str = "/run/procstar";
/// The state directory of a unit with `StateDirectory=procstar`, whose registry may be private.
const STATE: &str = "/var/lib/procstar/procstar";
/// The prefix of a registry's name in a shared directory; the user ID follows.
const SHARED_NAME: &str = "procstar-run-";
/// Directories that every user may use, if there is no runtime directory.
const SHARED: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// Time that an instance may need from its lock to the file [`STARTING`].
const FRESH: Duration = Duration::from_secs(1);

/// A file in an instance's directory until its socket exists.
pub const STARTING: &str = "starting";
/// The file in the instance's directory that requests an upgrade. A signal follows it.
pub(super) const REQUEST: &str = "upgrade";
/// The Unix socket's name in an instance's directory, or that of a link to it.
pub const SOCKET: &str = "http.sock";

/// A running instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its directory.
    pub dir: PathBuf,
    /// Its keeper's pid.
    pub pid: i32,
}

impl Running {
    /// Writes the request for an upgrade, by which the keeper recognizes the meaning of the signal
    /// that follows.
    ///
    /// # Errors
    /// The OS error.
    pub fn request_upgrade(&self) -> io::Result<()> {
        std::fs::write(self.dir.join(REQUEST), "")
    }

    /// Removes the request, unless the keeper has taken it.
    pub fn withdraw_request(&self) {
        // Usually the keeper has taken it.
        let _ = std::fs::remove_file(self.dir.join(REQUEST));
    }

    /// The path of its socket, which may not exist.
    pub fn socket(&self) -> PathBuf {
        self.dir.join(SOCKET)
    }

    /// Whether its socket exists.
    pub fn is_open(&self) -> bool {
        self.socket().exists()
    }

    /// Whether it is about to create its socket. An instance that has just locked its directory
    /// counts as starting.
    pub fn is_starting(&self) -> bool {
        let taken = self.dir.join(LOCK).metadata().and_then(|lock| lock.modified());
        let age = taken.ok().and_then(|at| at.elapsed().ok());
        self.dir.join(STARTING).exists() || age.is_some_and(|age| age < FRESH)
    }
}

/// The possible locations of the registry, the best one first; only `chosen`, if it is set. `base`
/// is the parent of the captures' directories.
pub fn candidates(chosen: Option<&Path>, env: &Env, uid: u32, base: &Path) -> Vec<PathBuf> {
    if let Some(chosen) = chosen {
        return vec![absolute(chosen)];
    }
    let session = env.get(OsStr::new("XDG_RUNTIME_DIR")).map(PathBuf::from);
    let session = session.filter(|dir| dir.is_absolute());
    let sessions = session.into_iter().chain([PathBuf::from(format!("/run/user/{uid}"))]);
    let shared = SHARED.iter().map(Path::new).chain([base]);
    let shared = shared.map(|dir| absolute(dir).join(format!("{SHARED_NAME}{uid}")));
    let mut found = Vec::new();
    for registry in std::iter::once(PathBuf::from(RUN))
        .chain(sessions.map(|dir| dir.join("procstar")))
        .chain(shared)
    {
        if !found.contains(&registry) {
            found.push(registry);
        }
    }
    found
}

/// The possible locations of this user's registry by the settings.
pub fn candidates_of(settings: &Settings, env: &Env) -> Vec<PathBuf> {
    let uid = nix::unistd::geteuid().as_raw();
    let base = settings.capture.directory(env);
    candidates(settings.run.runtime_dir.as_deref(), env, uid, &base)
}

/// A path that is the same from every working directory.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// Whether a directory may be a registry: only our user may create entries in it.
fn is_registry(registry: &Path) -> bool {
    let ours = nix::unistd::geteuid().as_raw();
    registry
        .symlink_metadata()
        .is_ok_and(|meta| meta.is_dir() && meta.uid() == ours && meta.mode() & 0o022 == 0)
}

/// Whether a directory belongs to another user, or lies in that user's directory: root's own, or
/// that of a session. Its owner could remove or replace our files in it.
fn belongs_to_another_user(registry: &Path, uid: u32) -> bool {
    let owner = |dir: &Path| dir.symlink_metadata().ok().map(|meta| meta.uid());
    let Some(parent) = registry.parent() else { return false };
    if parent.starts_with("/run/user") {
        // Root, who may write into it, must leave it alone.
        return owner(parent).is_some_and(|owner| owner != uid);
    }
    if registry == Path::new(RUN) && uid != 0 && owner(registry).is_some_and(|owner| owner != uid) {
        return true;
    }
    owner(parent).is_some_and(|owner| ![0, uid].contains(&owner) && !is_ambiguous(owner))
}

/// Whether a registry is in a directory that every user may use, so that another user can take its
/// name.
fn is_shared(registry: &Path) -> bool {
    registry.file_name().is_some_and(|name| name.as_bytes().starts_with(SHARED_NAME.as_bytes()))
}

/// Our replacements for a registry whose name another user has or had taken.
fn beside(registry: &Path) -> Vec<PathBuf> {
    let (true, Some(parent), Some(name)) =
        (is_shared(registry), registry.parent(), registry.file_name())
    else {
        return Vec::new();
    };
    let prefix = [name.as_bytes(), b"-"].concat();
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().as_bytes().starts_with(&prefix))
        .map(|entry| entry.path())
        .filter(|dir| is_registry(dir))
        .collect();
    found.sort_unstable();
    found
}

/// Creates the registry at a path, or takes the existing one. If another user has taken the name in
/// a shared directory, the registry gets another name, which is logged.
///
/// # Errors
/// It cannot be created, or another user has taken its name.
pub(super) fn open(registry: &Path) -> Result<PathBuf, InstanceError> {
    let failed = |source| InstanceError::io(registry, source);
    let uid = nix::unistd::geteuid().as_raw();
    if belongs_to_another_user(registry, uid) {
        return Err(failed(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it is another user's, or in a directory of another user",
        )));
    }
    make(registry).map_err(failed)?;
    if is_registry(registry) {
        return Ok(registry.to_path_buf());
    }
    let meta = registry.symlink_metadata().map_err(failed)?;
    if !is_shared(registry) {
        return Err(InstanceError::untrusted(registry, &meta));
    }
    if let Some(other) = beside(registry).into_iter().next() {
        return Ok(other);
    }
    let mut name = registry.as_os_str().to_owned();
    name.push(format!("-{:016x}", fastrand::u64(..)));
    let other = PathBuf::from(name);
    make(&other).map_err(failed)?;
    tracing::warn!(
        taken = %registry.display(),
        found = owner_and_mode(&meta),
        instead = %other.display(),
        "the usual runtime directory is not this user's alone; remove it, or set run.runtime_dir"
    );
    Ok(other)
}

/// The registries of ours among the candidates, and beside those whose names another user has
/// taken.
pub(super) fn present(registries: &[PathBuf]) -> impl Iterator<Item = PathBuf> {
    let uid = nix::unistd::geteuid().as_raw();
    registries
        .iter()
        .filter(move |registry| !belongs_to_another_user(registry, uid))
        .flat_map(|registry| std::iter::once(registry.clone()).chain(beside(registry)))
        .filter(|registry| is_registry(registry))
}

/// Removes an empty replacement of a registry whose name another user had taken.
pub(super) fn remove_if_spare(registry: &Path, registries: &[PathBuf]) {
    if !registries.iter().any(|usual| usual == registry) {
        // An instance that is about to register creates it again.
        let _ = std::fs::remove_dir(registry);
    }
}

/// Our names in shared directories that other users have taken, each with owner and mode.
pub fn taken(registries: &[PathBuf]) -> Vec<(PathBuf, String)> {
    let shared = registries.iter().filter(|registry| is_shared(registry) && !is_registry(registry));
    let found = shared.filter_map(|registry| {
        Some((registry.clone(), owner_and_mode(&registry.symlink_metadata().ok()?)))
    });
    found.collect()
}

/// The instance that runs in `dir`, if there is one.
pub fn running_in(dir: &Path) -> Option<Running> {
    let ours = dir.symlink_metadata().is_ok_and(|meta| is_ours(&meta));
    let pid = ours.then(|| private_dir::holder(dir)).flatten()?;
    let swept = named_after(dir).is_some_and(|name| own_pid(pid).is_some_and(|own| own != name));
    (!swept).then(|| Running { dir: dir.to_path_buf(), pid })
}

/// The pid in a directory's name, if its instance chose the name. A start that sweeps a crashed
/// instance's directory holds its lock for a moment, but the directory's name has another pid.
fn named_after(dir: &Path) -> Option<i32> {
    let name = dir.file_name().filter(|name| private_dir::is_random_name(name))?;
    name.to_str()?.split_once('-')?.0.parse().ok()
}

/// A process's pid as the process itself sees it, which may be in a pid namespace below ours.
fn own_pid(pid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    pids.split_ascii_whitespace().last()?.parse().ok()
}

/// Whether an instance runs in `dir`; `None` if `dir` is not an instance's directory. A removed
/// directory counts as one.
pub fn is_running_in(dir: &Path) -> Option<bool> {
    (!dir.exists() || dir.join(LOCK).exists()).then(|| running_in(dir).is_some())
}

/// This user's instances, each once, in the order of their pids.
pub fn running(registries: &[PathBuf]) -> Vec<Running> {
    let mut found: Vec<Running> = Vec::new();
    let entries = present(registries)
        .filter_map(|registry| std::fs::read_dir(registry).ok())
        .flat_map(Iterator::flatten)
        .map(|entry| std::fs::read_link(entry.path()).unwrap_or_else(|_| entry.path()));
    // Only if the search is not limited to one path.
    let usual = (registries.len() > 1).then(|| PathBuf::from(STATE));
    for running in entries.chain(usual).filter_map(|dir| running_in(&dir)) {
        if !found.iter().any(|known| known.pid == running.pid) {
            found.push(running);
        }
    }
    found.sort_by_key(|running| running.pid);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::private_dir::PrivateDir;
    use std::os::unix::fs::PermissionsExt;

    fn env(vars: &[(&str, &str)]) -> Env {
        vars.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    fn texts(registries: &[PathBuf]) -> Vec<&str> {
        registries.iter().map(|registry| registry.to_str().unwrap()).collect()
    }

    #[test]
    fn a_directory_that_another_start_sweeps_has_no_instance() {
        let dir = tempfile::tempdir().unwrap();
        let me = std::process::id();
        for (pid, runs) in [(me, true), (me + 1, false)] {
            let name = format!("{pid}-0123abcd");
            let held = PrivateDir::below(|| Ok(dir.path().to_path_buf()), Some(&name)).unwrap();
            assert_eq!(running_in(held.path()).is_some(), runs, "{name}");
        }
    }

    #[test]
    fn places_do_not_depend_on_tmpdir() {
        let base = Path::new("/elsewhere");
        let session = env(&[("XDG_RUNTIME_DIR", "/run/user/7")]);
        let wanted = [
            "/run/procstar",
            "/run/user/7/procstar",
            "/tmp/procstar-run-7",
            "/var/tmp/procstar-run-7",
            "/dev/shm/procstar-run-7",
            "/elsewhere/procstar-run-7",
        ];
        assert_eq!(texts(&candidates(None, &session, 7, base)), wanted);
        assert_eq!(
            texts(&candidates(None, &env(&[]), 7, base)),
            wanted,
            "from outside a session too"
        );
        let other = env(&[("XDG_RUNTIME_DIR", "/x")]);
        assert_eq!(
            texts(&candidates(None, &other, 7, base))[1..3],
            ["/x/procstar", "/run/user/7/procstar"]
        );
        let relative = env(&[("XDG_RUNTIME_DIR", "x")]);
        assert_eq!(
            texts(&candidates(None, &relative, 7, base)),
            wanted,
            "relative ones count as unset"
        );
        assert_eq!(texts(&candidates(Some(Path::new("/c")), &session, 7, base)), ["/c"]);
    }

    #[test]
    fn a_registry_is_writable_only_by_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let registry = dir.path().join("new");
        assert_eq!(open(&registry).unwrap(), registry);
        let mode =
            |mode| std::fs::set_permissions(&registry, PermissionsExt::from_mode(mode)).unwrap();
        mode(0o755);
        assert!(open(&registry).is_ok(), "as RuntimeDirectory= makes it");
        mode(0o770);
        assert!(matches!(open(&registry), Err(InstanceError::Untrusted { .. })));
        assert!(matches!(open(&dir.path().join("no/such")), Err(InstanceError::Io { .. })));
        std::fs::remove_dir(&registry).unwrap();
        std::os::unix::fs::symlink("/root", &registry).unwrap();
        assert!(
            matches!(open(&registry), Err(InstanceError::Untrusted { .. })),
            "no link is followed"
        );
    }

    #[test]
    fn instances_are_found_by_directory_and_by_link_while_they_live() {
        let dir = tempfile::tempdir().unwrap();
        let registry = |name: &str| open(&dir.path().join(name)).unwrap();
        let registries = [registry("a"), registry("b"), dir.path().join("missing")];
        assert_eq!(running(&registries), []);
        let own = PrivateDir::below(|| Ok(registries[0].clone()), Some("x")).unwrap();
        let me = std::process::id() as i32;
        assert_eq!(running(&registries), [Running { dir: registries[0].join("x"), pid: me }]);
        drop(own);
        assert_eq!(running(&registries), []);
        let state = PrivateDir::open(&dir.path().join("state")).unwrap();
        for (at, target) in [("link", state.path()), ("stale", Path::new("/no/such"))] {
            std::os::unix::fs::symlink(target, registries[1].join(at)).unwrap();
        }
        let found = running(&registries);
        assert_eq!(found, [Running { dir: dir.path().join("state"), pid: me }]);
        assert!(!found[0].is_open() && found[0].is_starting(), "it may be about to say so");
        let lock = std::fs::File::options().write(true).open(state.path().join(LOCK)).unwrap();
        let written = lock.metadata().unwrap().modified().unwrap();
        lock.set_modified(written - 2 * FRESH).unwrap();
        assert!(!found[0].is_starting());
    }
}
