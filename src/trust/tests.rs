use std::fs::{Permissions, set_permissions, write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn own() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn mode(path: &Path, mode: u32) {
    set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// What is wrong with a file, its directory's path replaced by `DIR`; empty where nothing is.
fn verdict(dir: &Path, name: &str, need: Need) -> String {
    match check(&dir.join(name), need) {
        Ok(()) => String::new(),
        Err(error) => error.to_string().replace(&*dir.to_string_lossy(), "DIR"),
    }
}

fn dir() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    (dir, path)
}

#[test]
fn files_writable_and_secrets_readable_by_others_are_not_trusted() {
    let (_guard, dir) = dir();
    write(dir.join("f"), "").unwrap();
    let owner = user_name(own());
    for (bits, integrity, secrecy) in [
        (0o600, "", ""),
        (0o644, "", "every user can read it (mode 0644, owner OWNER); run `chmod go-r DIR/f`"),
        (0o604, "", "every user can read it (mode 0604, owner OWNER); run `chmod go-r DIR/f`"),
        (
            0o666,
            "every user can write it (mode 0666, owner OWNER); run `chmod go-w DIR/f`",
            "every user can write it (mode 0666, owner OWNER); run `chmod go-w DIR/f`",
        ),
        (
            0o602,
            "every user can write it (mode 0602, owner OWNER); run `chmod go-w DIR/f`",
            "every user can write it (mode 0602, owner OWNER); run `chmod go-w DIR/f`",
        ),
    ] {
        mode(&dir.join("f"), bits);
        for (need, wanted) in [(Need::Integrity, integrity), (Need::Secrecy, secrecy)] {
            let wanted = wanted.replace("OWNER", &owner);
            assert_eq!(verdict(&dir, "f", need), wanted, "{bits:o} {need:?}");
        }
    }
}

#[test]
fn every_directory_of_the_path_is_checked_unless_it_is_sticky() {
    let (_guard, dir) = dir();
    std::fs::create_dir_all(dir.join("a/b")).unwrap();
    write(dir.join("a/b/f"), "").unwrap();
    assert_eq!(verdict(&dir, "a/b/f", Need::Integrity), "");
    mode(&dir.join("a"), 0o777);
    let wanted = format!(
        "every user can write its directory DIR/a (mode 0777, owner {}); run `chmod go-w DIR/a`",
        user_name(own())
    );
    for name in ["a/b/f", "a/../a/b/f", "a/b"] {
        assert_eq!(verdict(&dir, name, Need::Integrity), wanted, "{name}");
    }
    mode(&dir.join("a"), 0o1777);
    assert_eq!(verdict(&dir, "a/b/f", Need::Integrity), "");
    // A file that is not there is that, wherever it is not.
    mode(&dir.join("a"), 0o777);
    let error = check(&dir.join("a/no"), Need::Integrity).unwrap_err();
    assert!(matches!(error, Untrusted::Unknown(e) if e.kind() == io::ErrorKind::NotFound));
}

#[test]
fn links_are_followed_one_by_one() {
    let (_guard, dir) = dir();
    std::fs::create_dir_all(dir.join("open")).unwrap();
    write(dir.join("open/f"), "").unwrap();
    mode(&dir.join("open"), 0o777);
    symlink("open/f", dir.join("relative")).unwrap();
    symlink(dir.join("relative"), dir.join("absolute")).unwrap();
    symlink("open", dir.join("directory")).unwrap();
    for name in ["relative", "absolute", "directory/f"] {
        assert!(verdict(&dir, name, Need::Integrity).contains("its directory DIR/open"), "{name}");
    }
    mode(&dir.join("open"), 0o700);
    mode(&dir.join("open/f"), 0o666);
    let target = verdict(&dir, "absolute", Need::Integrity);
    assert!(target.contains("the file that it leads to, DIR/open/f, (mode 0666"), "{target}");
    symlink("round", dir.join("round")).unwrap();
    assert!(verdict(&dir, "round", Need::Integrity).contains("symbolic links"));
}

#[test]
fn files_of_other_users_are_not_trusted() {
    let (_guard, dir) = dir();
    write(dir.join("f"), "").unwrap();
    let reader = own() + 1;
    let error = Judge::of(reader).check(&dir.join("f"), Need::Integrity);
    // Root's files are everybody's to trust.
    if own() == 0 {
        return assert!(error.is_ok());
    }
    let error = error.unwrap_err().to_string();
    assert!(error.contains(" belongs to ") && error.contains("neither root nor"), "{error}");
}

#[test]
fn descriptors_and_devices_are_trusted() {
    let file = tempfile::tempfile().unwrap();
    let fd = file.as_raw_fd();
    let (pid, parent) = (std::process::id(), std::os::unix::process::parent_id());
    for path in [
        "/dev/null".to_owned(),
        "/dev/stdin".to_owned(),
        "/dev/fd/63".to_owned(),
        format!("/proc/self/fd/{fd}"),
        format!("/proc/{pid}/fd/{fd}"),
        format!("/proc/{pid}/task/{pid}/fd/{fd}"),
        format!("/proc/{parent}/fd/0"),
    ] {
        check(Path::new(&path), Need::Secrecy).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    let (_guard, dir) = dir();
    symlink(format!("/dev/fd/{fd}"), dir.join("link")).unwrap();
    assert_eq!(verdict(&dir, "link", Need::Secrecy), "");
    // A named pipe can be anybody's.
    nix::unistd::mkfifo(&dir.join("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o666))
        .unwrap();
    mode(&dir.join("fifo"), 0o666);
    assert!(verdict(&dir, "fifo", Need::Integrity).starts_with("every user can write it"));
}

/// Needs root: it gives files to other users and groups.
#[test]
fn only_roots_group_or_a_reading_group_set_by_root_is_trusted() {
    if own() != 0 {
        return;
    }
    let (_guard, dir) = dir();
    let file = dir.join("f");
    write(&file, "").unwrap();
    let give = |uid, gid, bits| {
        std::os::unix::fs::chown(&file, Some(uid), Some(gid)).unwrap();
        mode(&file, bits);
    };
    let judged = |user, need| Judge::of(user).check(&file, need).map_err(|e| e.to_string());
    for (owner, group, bits, need, trusted) in [
        (0, 65_009, 0o640, Need::Secrecy, true),
        (0, 65_009, 0o660, Need::Integrity, false),
        (0, 0, 0o660, Need::Secrecy, true),
        (65_001, 65_009, 0o640, Need::Secrecy, false),
        (65_001, 65_009, 0o640, Need::Integrity, true),
        (65_001, 0, 0o640, Need::Secrecy, true),
        (65_001, 65_009, 0o620, Need::Integrity, false),
        (65_002, 65_009, 0o600, Need::Integrity, false),
    ] {
        give(owner, group, bits);
        let found = judged(65_001, need);
        assert_eq!(found.is_ok(), trusted, "{owner}:{group} {bits:o} {need:?}: {found:?}");
    }
    give(65_001, 65_009, 0o620);
    let error = judged(65_001, Need::Integrity).unwrap_err();
    assert!(error.starts_with("group 65009 can write it (mode 0620, owner user 65001)"), "{error}");
}

/// Needs root: it gives links and directories to another user.
#[test]
fn a_link_of_another_user_in_a_sticky_directory_is_not_followed() {
    if own() != 0 {
        return;
    }
    let (_guard, dir) = dir();
    mode(&dir, 0o1777);
    write(dir.join("f"), "").unwrap();
    symlink("f", dir.join("link")).unwrap();
    assert_eq!(verdict(&dir, "link", Need::Integrity), "");
    std::os::unix::fs::lchown(dir.join("link"), Some(65_001), None).unwrap();
    let error = verdict(&dir, "link", Need::Integrity);
    assert!(error.starts_with("the link DIR/link belongs to user 65001"), "{error}");
    assert!(error.ends_with("name the file itself, or remove DIR/link"), "{error}");
    mode(&dir, 0o755);
    assert_eq!(verdict(&dir, "link", Need::Integrity), "", "only we could have made it here");
    std::os::unix::fs::chown(&dir, Some(65_001), None).unwrap();
    let error = verdict(&dir, "f", Need::Integrity);
    assert!(error.starts_with("its directory DIR belongs to user 65001"), "{error}");
}
