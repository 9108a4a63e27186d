//! Checks of the user who serves the address that a command connects to.
//!
//! Any user can listen on a port of the loopback interface, or on a socket in a directory that
//! others may write. A token, or a spec with secrets in its environment, must not reach another
//! user.

use std::cell::Cell;
use std::fmt;
use std::io;

use actix_rt::net::{TcpStream, UnixStream};

use crate::http::access::server_user;

/// The users who have served this command so far, and whether it is about to send something that
/// only its own user and root may read.
#[derive(Default)]
pub(super) struct PeerCheck {
    confidential: Cell<bool>,
    stranger: Cell<Option<Stranger>>,
}

/// Another user, or one that the kernel does not report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stranger(Option<u32>);

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(uid) => write!(f, "user ID {uid} listens there, who is neither you nor root")?,
            None => f.write_str("the user who listens there cannot be determined")?,
        }
        f.write_str(
            "; neither a token nor a spec was sent. Use the instance's Unix socket (--socket), an https:// URL, or run \
             the command as that user",
        )
    }
}

impl PeerCheck {
    /// Must be called before each request: the connections of the request are then checked for its
    /// content.
    pub(super) fn announce(&self, confidential: bool) -> Result<(), Stranger> {
        self.confidential.set(confidential);
        match self.stranger.get() {
            Some(stranger) if confidential => Err(stranger),
            _ => Ok(()),
        }
    }

    /// Checks a new connection to a Unix socket.
    pub(super) fn unix(&self, stream: &UnixStream) -> io::Result<()> {
        self.check(Some(stream.peer_cred()?.uid()))
    }

    /// Checks a new connection by TCP without TLS. Users of another machine are unknown here.
    pub(super) fn tcp(&self, stream: &TcpStream) -> io::Result<()> {
        let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
        if !peer.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        self.check(server_user(peer, local)?)
    }

    fn check(&self, uid: Option<u32>) -> io::Result<()> {
        let own = nix::unistd::geteuid().as_raw();
        if uid.is_some_and(|uid| uid == own || uid == 0) {
            return Ok(());
        }
        let stranger = Stranger(uid);
        self.stranger.set(Some(stranger));
        if self.confidential.get() { Err(io::Error::other(stranger.to_string())) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_gets_nothing_confidential_on_a_new_or_an_old_connection() {
        let own = nix::unistd::geteuid().as_raw();
        for uid in [Some(own), Some(0)] {
            let peer = PeerCheck::default();
            peer.announce(true).unwrap();
            peer.check(uid).unwrap();
            peer.announce(true).unwrap();
        }
        for uid in [Some(own + 1), None] {
            let peer = PeerCheck::default();
            peer.announce(true).unwrap();
            assert!(peer.check(uid).is_err());
            let peer = PeerCheck::default();
            peer.announce(false).unwrap();
            peer.check(uid).unwrap();
            peer.announce(false).unwrap();
            assert_eq!(peer.announce(true), Err(Stranger(uid)));
        }
    }
}
