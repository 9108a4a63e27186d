//! Commands that connect to a listener of another user.

use std::fs::Permissions;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, fchown, geteuid};

use super::harness::{Instance, Ran, procstar};
use crate::support::wait::eventually;

/// A user that this machine need not know.
const OTHER_UID: u32 = 45_678;
const TOKEN: &str = "N7uQ2x9fLr4vBz81KcTyWm";

fn is_root() -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        eprintln!("left out: only root can stand in for another user");
    }
    is_root
}

/// Any user can listen on a loopback port: send no token and no spec before the user is verified.
#[test]
fn no_token_and_no_spec_goes_to_another_user_by_tcp() {
    if !is_root() {
        return;
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let uid = Uid::from_raw(OTHER_UID);
    fchown(&listener, Some(uid), Some(Gid::from_raw(OTHER_UID))).unwrap();
    let url = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let dir = tempfile::tempdir().unwrap();
    let with_token = ["--token", TOKEN];
    for args in [
        &["start", "--url", &url, "--", "/bin/true", "secret argument"][..],
        &["ps", "--url", &url, with_token[0], with_token[1]],
        &["logs", "--url", &url, with_token[0], with_token[1], "x"],
    ] {
        let ran = Ran::of(procstar(&dir).args(args).output().unwrap());
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{args:?} {ran:?}");
        let wanted = format!(
            "user ID {OTHER_UID} listens there, who is neither you nor root; neither a token nor a spec was sent"
        );
        assert!(ran.err.contains(&wanted), "{args:?} {ran:?}");
        let (mut received, mut connection) = (Vec::new(), listener.accept().unwrap().0);
        connection.read_to_end(&mut received).unwrap();
        assert_eq!(received, b"", "{args:?} {}", connection.as_raw_fd());
    }
}

/// The same for a Unix socket of another user.
#[test]
fn no_spec_goes_to_another_user_by_a_unix_socket() {
    if !is_root() {
        return;
    }
    // The instance is root's, or this user's: both may have it.
    let instance = Instance::new();
    instance.run(&["start", "--id", "own", "--", "/bin/true"]).good();

    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    let socket = dir.path().join("http.sock");
    let mut command = procstar(&dir);
    command.args(["--serve", "--serve-port", "0"]).uid(OTHER_UID).gid(OTHER_UID);
    let mut theirs = command.env("PROCSTAR_HTTP_SOCKET", &socket).current_dir("/").spawn().unwrap();
    eventually("socket", || socket.exists());
    let ran = instance.run(&["start", "--socket", socket.to_str().unwrap(), "--", "/bin/true"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains(&format!("user ID {OTHER_UID} listens there")), "{ran:?}");
    // Root may still query the instance of another user.
    assert_eq!(instance.run(&["ps", "-q", "--socket", socket.to_str().unwrap()]).good(), "");
    kill(Pid::from_raw(theirs.id().cast_signed()), Signal::SIGTERM).unwrap();
    theirs.wait().unwrap();
}
