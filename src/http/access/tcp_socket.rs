//! One TCP socket as the kernel lists it, and the two ends that identify it.

use std::net::{IpAddr, SocketAddr};

/// TCP states in which a socket can have an owner that uses it, as the kernel numbers them.
///
/// Excluded are listening sockets, those that are being set up, and `TIME_WAIT`, whose user is
/// always shown as root.
const OWNED_STATES: [u8; 6] = [
    1,  // ESTABLISHED
    4,  // FIN_WAIT1
    5,  // FIN_WAIT2
    8,  // CLOSE_WAIT
    9,  // LAST_ACK
    11, // CLOSING
];

/// Both ends of a connection, seen from the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) peer: (IpAddr, u16),
    pub(super) local: (IpAddr, u16),
    /// Interface of the peer's address if it is link-local, else 0.
    pub(super) interface: u32,
}

impl Ends {
    pub(super) fn new(peer: SocketAddr, local: SocketAddr) -> Self {
        let interface = match peer {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(address) => address.scope_id(),
        };
        let canonical = |address: SocketAddr| (address.ip().to_canonical(), address.port());
        Self { peer: canonical(peer), local: canonical(local), interface }
    }
}

/// The kernel's entry for the socket at the peer's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) state: u8,
    pub(super) uid: u32,
    /// 0 if no file is open for it any more.
    pub(super) inode: u64,
}

impl Socket {
    /// The owner's ID: the kernel shows root for a socket without an owner.
    pub(super) fn owner(self) -> Option<u32> {
        self.owned().map(|socket| socket.uid)
    }

    /// The socket itself, if it has an owner.
    pub(super) fn owned(self) -> Option<Socket> {
        (self.inode != 0 && OWNED_STATES.contains(&self.state)).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_without_a_user_have_no_owner() {
        for state in 0..=13 {
            let owner = Socket { state, uid: 5, inode: 1 }.owner();
            assert_eq!(owner.is_some(), [1, 4, 5, 8, 9, 11].contains(&state), "{state}");
            assert_eq!(Socket { state, uid: 0, inode: 0 }.owner(), None, "{state}");
        }
    }
}
