//! Directories that are created, locked, removed by others, and created again.

use super::*;

#[test]
fn an_instance_waits_for_a_lock_that_outlasts_its_holder() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("state");
    let first = PrivateDir::open(&dir).unwrap();
    let mut ended = std::process::Command::new("/bin/true").spawn().unwrap();
    let dead = ended.id().to_string();
    ended.wait().unwrap();
    std::fs::write(dir.join(LOCK), &dead).unwrap();
    // The wait for the lock has a limit.
    let refused = PrivateDir::open(&dir).err().unwrap().to_string();
    assert!(refused.ends_with(&format!("pid {dead}")), "{refused}");
    let rest = std::thread::spawn(move || drop(first));
    PrivateDir::open(&dir).unwrap();
    rest.join().unwrap();
}

/// A command that examines a directory, even while it is created, does not prevent a start in it.
#[test]
fn examining_a_directory_does_not_keep_an_instance_out() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("state");
    make(&dir).unwrap();
    assert_eq!(holder(&dir), None);
    assert!(!dir.join(LOCK).exists(), "looking makes nothing");
    std::fs::write(dir.join(LOCK), "").unwrap();
    let looking = Flock::lock(open_lock(&dir, false).unwrap(), FlockArg::LockSharedNonblock);
    let looking = looking.map_err(|(_, errno)| errno).unwrap();
    let starts = std::thread::scope(|scope| {
        let starts = scope.spawn(|| PrivateDir::open(&dir));
        drop(looking);
        starts.join().unwrap()
    });
    let held = starts.unwrap();
    assert_eq!(holder(&dir), Some(std::process::id() as i32));
    drop(held);
    assert_eq!(holder(&dir), None);
}

#[test]
fn dead_processes_are_recognized() {
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

#[test]
fn a_removed_directory_is_created_again() {
    let base = tempfile::tempdir().unwrap();
    let parent = base.path().join("parent");
    let parents =
        || make(&parent).map(|()| parent.clone()).map_err(|e| InstanceError::io(&parent, e));
    let mut dir = PrivateDir::below(parents, Some("x")).unwrap();
    assert!(!dir.restore().unwrap());
    std::fs::remove_file(dir.path().join(LOCK)).unwrap();
    assert!(dir.restore().unwrap(), "the lock alone");
    std::fs::remove_dir_all(&parent).unwrap();
    assert!(!dir.exists() && dir.restore().unwrap() && dir.exists());
    assert_eq!(holder(dir.path()), Some(std::process::id() as i32));
    dir.remove();
    assert!(parent.exists(), "a parent of another kind stays");
}

#[test]
fn a_directory_is_locked_against_cleaners() {
    let base = tempfile::tempdir().unwrap();
    let dir = PrivateDir::open(&base.path().join("x")).unwrap();
    let cleaner = || {
        let file = File::open(base.path().join("x")).unwrap();
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)
    };
    assert_eq!(cleaner().err(), Some(nix::errno::Errno::EWOULDBLOCK));
    // The next program has the lock too.
    let handover = dir.handover();
    std::mem::forget(dir);
    let dir = PrivateDir::from_handover(handover).unwrap();
    assert!(cleaner().is_err());
    drop(dir);
    let cleaning = cleaner().unwrap();
    let mut dir = PrivateDir::open(&base.path().join("x")).unwrap();
    assert!(dir.guard.is_none());
    drop(cleaning);
    assert!(!dir.restore().unwrap() && dir.guard.is_some(), "once the cleaner is gone");
}

#[test]
fn touching_changes_only_the_access_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("1.0");
    let file = File::create(&path).unwrap();
    let old = file.metadata().unwrap().modified().unwrap() - Duration::from_secs(3600);
    file.set_times(std::fs::FileTimes::new().set_accessed(old).set_modified(old)).unwrap();
    touch(dir.path());
    let meta = path.metadata().unwrap();
    assert!(meta.accessed().unwrap() > old + Duration::from_secs(60));
    assert_eq!(meta.modified().unwrap(), old);
}
