use super::*;
use crate::keeper::private_dir::{LOCK, is_ours};
use crate::keeper::registry::{Running, running};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tempfile::TempDir;

fn settings(base: &Path, state_dir: Option<&Path>, conn_id: Option<&str>) -> KeeperSettings {
    KeeperSettings {
        state_dir: state_dir.map(Path::to_path_buf),
        base_dir: base.to_path_buf(),
        conn_id: conn_id.map(str::to_owned),
        drain_timeout: Duration::ZERO,
        setup_timeout: Duration::ZERO,
        allowed: Default::default(),
        log: crate::config::LogSettings::default(),
        limits: Default::default(),
    }
}

/// A user's directories: a registry and a directory for captures.
struct User {
    dir: TempDir,
}

impl User {
    fn new() -> User {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tmp")).unwrap();
        User { dir }
    }

    fn tmp(&self) -> PathBuf {
        self.dir.path().join("tmp")
    }

    fn run(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    fn opening(&self) -> Opening {
        // Two, because a single one counts as configured by the administrator.
        Opening { registries: vec![self.run(), self.dir.path().join("run2")], ..Opening::default() }
    }

    fn open(&self, conn_id: Option<&str>) -> Instance {
        self.open_at(&self.tmp(), conn_id)
    }

    fn open_at(&self, tmp: &Path, conn_id: Option<&str>) -> Instance {
        Instance::open(&settings(tmp, None, conn_id), &self.opening()).unwrap()
    }

    fn lasting(&self, state: &Path) -> Result<Instance, InstanceError> {
        Instance::open(&settings(&self.tmp(), Some(state), None), &self.opening())
    }

    /// Starts and ends another instance, which sweeps the directories of crashed ones.
    fn sweep(&self) {
        self.open(None).close();
    }
}

/// All directories of an instance.
fn dirs(instance: &Instance) -> Vec<PathBuf> {
    let CaptureDirs { files, memory } = instance.capture_dirs();
    vec![instance.dir(), files, memory]
}

/// Leaves the directories as a killed keeper does: they exist, and their locks are free. Other
/// tests sweep `/dev/shm` too.
fn killed(instance: Instance) -> Vec<PathBuf> {
    let dirs = dirs(&instance);
    assert!(dirs.iter().all(|dir| dir.exists()));
    drop(instance);
    dirs
}

#[test]
fn directories_of_two_instances_are_separate_and_removed_at_the_end() {
    let user = User::new();
    let instances = [None, None, Some("x"), Some("x")].map(|id| user.open(id));
    let all: Vec<PathBuf> = instances.iter().flat_map(dirs).collect();
    assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), 12);
    assert!(instances[2].dir().ends_with("x"));
    assert_eq!(running(&user.opening().registries).len(), 1, "all have this process's pid");
    for instance in instances {
        for dir in dirs(&instance) {
            assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        }
        instance.close();
    }
    assert!(all.iter().all(|dir| !dir.exists()));
    assert_eq!(std::fs::read_dir(user.tmp()).unwrap().count(), 0);
}

#[test]
fn lock_and_socket_are_not_in_the_directory_of_captures() {
    let user = User::new();
    let instance = user.open(None);
    assert!(
        instance.dir().starts_with(user.run())
            && instance.capture_dirs().files.starts_with(user.tmp())
    );
    assert!(instance.journal().starts_with(user.tmp()));
    instance.close();
}

#[test]
fn files_of_crashed_instances_are_swept_everywhere() {
    let user = User::new();
    let other = tempfile::tempdir().unwrap();
    let dead = user.open_at(other.path(), Some("dead"));
    std::fs::write(dead.capture_dirs().files.join("1.0"), "output").unwrap();
    let dirs = killed(dead);
    // With another TMPDIR too: the registry has the path of the captures.
    user.sweep();
    assert!(dirs.iter().all(|dir| !dir.exists()), "{dirs:?}");
}

#[test]
fn directories_of_other_users_are_not_swept() {
    let user = User::new();
    let other = user.run().join("other");
    std::fs::create_dir_all(other.join("empty")).unwrap();
    std::fs::set_permissions(&other, PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::write(other.join(LOCK), "1").unwrap();
    std::os::unix::fs::symlink("/no/such", user.run().join("link")).unwrap();
    std::fs::create_dir(user.run().join("empty")).unwrap();
    user.sweep();
    assert_eq!(std::fs::read_dir(user.run()).unwrap().count(), 3);
}

#[test]
fn memory_captures_without_their_directories_are_swept() {
    let user = User::new();
    let instance = user.open(None);
    std::fs::write(instance.capture_dirs().memory.join("1.0"), "output").unwrap();
    let dirs = killed(instance);
    let _ = std::fs::remove_dir_all(&dirs[0]);
    let _ = std::fs::remove_dir_all(&dirs[1]);
    assert!(dirs[2].starts_with("/dev/shm"));
    user.sweep();
    assert!(!dirs[2].exists());
}

/// While another user has the usual name, an instance uses another one. Its directory is swept even
/// when the usual name is free again.
#[test]
fn directories_below_an_unusual_name_are_swept() {
    let user = User::new();
    let usual = user.tmp().join(format!("procstar-{}", nix::unistd::geteuid()));
    std::fs::create_dir(&usual).unwrap();
    std::fs::set_permissions(&usual, PermissionsExt::from_mode(0o755)).unwrap();
    let dead = user.open(None);
    let unusual = dead.capture_dirs().files.parent().unwrap().to_path_buf();
    assert_ne!(unusual, usual);
    let second = user.open(None);
    assert_eq!(second.capture_dirs().files.parent().unwrap(), unusual, "one is enough");
    second.close();
    let dirs = killed(dead);
    let _ = std::fs::remove_dir_all(&dirs[0]);
    std::fs::remove_dir(&usual).unwrap();
    user.sweep();
    assert!(dirs.iter().all(|dir| !dir.exists()) && !unusual.exists(), "{dirs:?}");
}

#[test]
fn directories_of_live_processes_are_not_swept() {
    let user = User::new();
    // With TMPDIR=/dev/shm, all directories of all instances have the same parent.
    let instances: Vec<Instance> =
        (0..3).map(|_| user.open_at(Path::new("/dev/shm"), None)).collect();
    for instance in &instances {
        for dir in dirs(instance) {
            assert!(is_ours(&dir.symlink_metadata().unwrap()), "{}", dir.display());
        }
    }
    instances.into_iter().for_each(Instance::close);
}

#[test]
fn an_unusable_default_directory_is_replaced() {
    let user = User::new();
    let instance = user.open_at(Path::new("/no/such"), None);
    let dirs = dirs(&instance);
    assert!(dirs[1].is_dir());
    instance.close();
    assert!(!dirs[1].exists());
}

#[test]
fn an_unusable_configured_directory_is_an_error() {
    let user = User::new();
    let file = user.dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for (location, cause) in [(Path::new("/no/such"), "No such file"), (&file, "Not a directory")] {
        let chosen = Opening { captures_chosen: true, ..user.opening() };
        let error =
            Instance::open(&settings(location, None, None), &chosen).err().unwrap().to_string();
        assert!(
            error.starts_with(&format!("capture.dir {} cannot be used: ", location.display())),
            "{error}"
        );
        assert!(
            error.contains(cause) && error.contains("; set capture.dir to a directory"),
            "{error}"
        );
        let registries = vec![location.join("run")];
        let opening = Opening { registries, ..user.opening() };
        let state = user.dir.path().join("state");
        for state in [None, Some(state.as_path())] {
            let error =
                Instance::open(&settings(&user.tmp(), state, None), &opening).err().unwrap();
            let error = error.to_string();
            assert!(error.starts_with("run.runtime_dir ") && error.contains(cause), "{error}");
        }
    }
}

#[test]
fn instances_of_one_name_start_and_end_side_by_side() {
    let user = User::new();
    let run = || {
        for _ in 0..100 {
            let instance = user.open(Some("x"));
            let files = dirs(&instance).into_iter().map(|dir| dir.join("capture"));
            let files: Vec<PathBuf> = files.collect();
            files.iter().for_each(|file| std::fs::write(file, "x").unwrap());
            // No other instance sweeps these files.
            assert!(files.iter().all(|file| file.exists()));
            instance.close();
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(run))));
}

#[test]
fn unreadable_directories_are_kept() {
    let user = User::new();
    let dead = user.open(Some("dead"));
    std::fs::write(dead.journal(), b"\0\0\0\x02{}").unwrap();
    let dirs = killed(dead);
    user.sweep();
    assert!(dirs.iter().all(|dir| dir.exists()));
    std::fs::remove_file(dirs[1].join(JOURNAL)).unwrap();
    user.sweep();
    assert!(dirs.iter().all(|dir| !dir.exists()));
}

#[test]
fn equal_names_in_different_places_share_no_memory() {
    let users = [User::new(), User::new()];
    let [a, b] = users.each_ref().map(|user| user.open(Some("x")));
    let memory = b.capture_dirs().memory;
    assert_ne!(a.capture_dirs().memory, memory);
    a.close();
    assert!(memory.exists());
    b.close();
}

#[test]
fn a_state_directory_admits_one_instance_of_its_user() {
    let user = User::new();
    let dir = user.dir.path().join("state");
    let first = user.lasting(&dir).unwrap();
    let refused = user.lasting(&dir).err().unwrap().to_string();
    assert!(refused.ends_with(&format!("pid {}", std::process::id())), "{refused}");
    let pid = std::process::id() as i32;
    assert_eq!(running(&user.opening().registries), [Running { dir: dir.clone(), pid }]);
    first.close();
    assert!(dir.exists());
    assert_eq!(std::fs::read_dir(user.run()).unwrap().count(), 0);
    // The registry entry of a killed instance is a dangling link, and is removed.
    drop(user.lasting(&dir).unwrap());
    user.sweep();
    assert_eq!(std::fs::read_dir(user.run()).unwrap().count(), 0);
    std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).unwrap();
    let refused = user.lasting(&dir).err().unwrap().to_string();
    assert!(refused.contains("mode 0700"), "{refused}");
}

#[test]
fn removed_directories_are_created_again() {
    let user = User::new();
    let mut instance = user.open(Some("x"));
    assert!(!instance.restore());
    let before = dirs(&instance);
    for dir in &before {
        std::fs::remove_dir_all(dir.parent().unwrap()).unwrap();
    }
    assert!(instance.restore(), "the socket was in it");
    assert_eq!(dirs(&instance), before);
    assert!(before.iter().all(|dir| dir.join(LOCK).exists()));
    assert_eq!(running(&user.opening().registries).len(), 1);
    // The directories of captures are created again when a capture needs one.
    for dir in &before[1..] {
        std::fs::remove_dir_all(dir).unwrap();
        (instance.restorer())().unwrap();
        assert!(dir.join(LOCK).exists());
    }
    // After the user's session, its runtime directory cannot be created again.
    std::fs::remove_dir_all(user.run()).unwrap();
    std::fs::write(user.run(), "").unwrap();
    assert!(instance.restore() && instance.dir().starts_with(user.dir.path().join("run2")));
    assert_eq!(running(&user.opening().registries).len(), 1);
    let restore = instance.restorer();
    let now = dirs(&instance);
    instance.close();
    restore().unwrap();
    assert!(now.iter().all(|dir| !dir.exists()), "after the end nothing is made");
}

#[test]
fn a_removed_state_directory_is_created_again_with_its_registry_entry() {
    let user = User::new();
    let dir = user.dir.path().join("state");
    let mut instance = user.lasting(&dir).unwrap();
    assert!(!instance.restore());
    std::fs::remove_dir_all(user.run()).unwrap();
    assert!(!instance.restore(), "the socket is elsewhere");
    assert_eq!(running(&user.opening().registries).len(), 1);
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(instance.restore());
    assert_eq!(running(&user.opening().registries).len(), 1);
    instance.close();
}

#[test]
fn a_handover_passes_all_directories_to_the_next_program() {
    let user = User::new();
    let state = user.dir.path().join("state");
    let opens = [
        |user: &User, _: &Path| user.open(None),
        |user: &User, state: &Path| user.lasting(state).unwrap(),
    ];
    for open in opens {
        let instance = open(&user, &state);
        let (before, lasting) = (dirs(&instance), instance.is_lasting());
        let handover = instance.handover();
        let bytes = rmp_serde::to_vec_named(&handover).unwrap();
        std::mem::forget(instance);
        let instance = Instance::from_handover(rmp_serde::from_slice(&bytes).unwrap()).unwrap();
        assert_eq!((dirs(&instance), instance.is_lasting()), (before.clone(), lasting));
        user.sweep();
        assert!(before.iter().all(|dir| dir.exists()));
        instance.close();
        assert_eq!(before[0].exists(), lasting);
        assert_eq!(std::fs::read_dir(user.run()).unwrap().count(), 0);
    }
}

#[test]
fn only_an_instance_with_a_socket_announces_one() {
    let user = User::new();
    let state = user.dir.path().join("state");
    for serves in [false, true] {
        let opening = Opening { serves, ..user.opening() };
        let lasting = settings(&user.tmp(), Some(&state), None);
        let instance = Instance::open(&lasting, &opening).unwrap();
        let lock = std::fs::File::options().write(true).open(state.join(LOCK)).unwrap();
        let written = lock.metadata().unwrap().modified().unwrap();
        lock.set_modified(written - Duration::from_secs(9)).unwrap();
        let found = running(&opening.registries);
        assert_eq!(
            (found[0].is_starting(), found[0].is_open()),
            (serves, false),
            "a dead one is gone"
        );
        std::fs::write(instance.dir().join(SOCKET), "").unwrap();
        assert!(found[0].is_open());
        instance.close();
        let _ = std::fs::remove_file(state.join(STARTING));
    }
}
