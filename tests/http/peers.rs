//! The user at the other end of a real connection, and access control by this user.

use super::harness::own_uid;
use crate::support::wait::eventually;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use procstar::http::access::{AccessRequest, Header, PeerUser, Policy, decide, peer_user};

/// A user ID that needs no account.
const OTHER_UID: u32 = 45_678;

/// A process of another user, killed at the end of the test.
struct OtherUser(Child);

impl Drop for OtherUser {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Connects to `address` as another user and stays connected, or returns the reason to skip the
/// test.
fn connect_as_other(address: SocketAddr) -> Result<OtherUser, &'static str> {
    if own_uid() != 0 {
        return Err("only root can become another user");
    }
    if !Path::new("/bin/bash").exists() {
        return Err("there is no bash, which connects by a redirection");
    }
    let script = format!("exec 3<>/dev/tcp/{}/{} && read -r -u 3", address.ip(), address.port());
    let child = Command::new("/bin/bash")
        .args(["-c", &script])
        .current_dir("/")
        .uid(OTHER_UID)
        .gid(OTHER_UID)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    Ok(OtherUser(child))
}

/// Accepts one connection.
fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    listener.set_nonblocking(true).unwrap();
    eventually("a connection", || match listener.accept() {
        Ok(accepted) => Some(accepted),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    })
}

fn facts(peer: Option<PeerUser>) -> AccessRequest<'static> {
    AccessRequest { peer, host: Header::One(b"localhost:3000"), ..AccessRequest::default() }
}

fn here(uid: u32) -> Option<PeerUser> {
    Some(PeerUser { uid, is_here: true })
}

#[test]
fn our_own_connection_is_ours() {
    for address in ["127.0.0.1:0", "127.0.0.2:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(address) else {
            assert!(address.starts_with('['), "{address}");
            eprintln!("{address} is left out: no IPv6 here");
            continue;
        };
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, peer) = listener.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        let user = peer_user(peer, server.local_addr().unwrap(), own_uid()).unwrap();
        assert_eq!(user, here(own_uid()), "{address}");
        assert_eq!(decide(&Policy::new(own_uid(), None), &facts(user), 3000, false), Ok(()));
    }
}

#[test]
fn another_users_connection_is_theirs() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(address) else {
            eprintln!("{address} is left out: no IPv6 here");
            continue;
        };
        let _other = match connect_as_other(listener.local_addr().unwrap()) {
            Ok(other) => other,
            Err(reason) => {
                eprintln!("left out: {reason}");
                return;
            }
        };
        let (server, peer) = accept(&listener);
        let user = peer_user(peer, server.local_addr().unwrap(), own_uid()).unwrap();
        assert_eq!(user.map(|user| user.uid), Some(OTHER_UID), "{address}");
        let refusal = decide(&Policy::new(own_uid(), None), &facts(user), 3000, false).unwrap_err();
        assert!(refusal.to_string().starts_with("the connection belongs to user ID 45678; "));
        // For a service of the other user, the connection belongs to the service's user.
        let user = peer_user(peer, server.local_addr().unwrap(), OTHER_UID).unwrap();
        assert_eq!(user, here(OTHER_UID), "{address}");
        assert_eq!(decide(&Policy::new(OTHER_UID, None), &facts(user), 3000, false), Ok(()));
    }
}

#[test]
fn a_closed_connection_of_another_user_has_no_owner() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = match connect_as_other(listener.local_addr().unwrap()) {
        Ok(other) => other,
        Err(reason) => {
            eprintln!("left out: {reason}");
            return;
        }
    };
    let (mut server, peer) = accept(&listener);
    drop(other);
    // When the end of the stream arrives, the kernel has closed the socket.
    server.set_nonblocking(false).unwrap();
    server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
    // The kernel may list such a socket as one of root, which would be authorized.
    let user = peer_user(peer, server.local_addr().unwrap(), own_uid()).unwrap();
    assert_eq!(user, None);
    assert!(decide(&Policy::new(own_uid(), None), &facts(user), 3000, false).is_err());
}

#[test]
fn a_peer_that_is_not_of_this_machine_has_no_user() {
    let local = "127.0.0.1:3000".parse().unwrap();
    // Addresses reserved for documentation, which no machine has.
    for peer in ["192.0.2.1:40000", "[2001:db8::1]:40000"] {
        assert_eq!(peer_user(peer.parse().unwrap(), local, own_uid()).unwrap(), None);
    }
}
