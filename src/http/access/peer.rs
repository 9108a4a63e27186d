//! The user who owns the other end of a connection within this machine.

use std::io;
use std::net::SocketAddr;

use super::tcp_socket::{Ends, Socket};
use super::{holder, proc_net_tcp, sock_diag};
use crate::users;

/// The user at the other end of a connection within this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerUser {
    /// The user's ID.
    pub uid: u32,
    /// Whether the ID is known to be that of a process in our own user, mount and pid namespaces.
    pub is_here: bool,
}

/// The user of a connection to our Unix socket, as reported by the kernel. Every process that can
/// connect has been granted access to the socket.
pub fn unix_user(uid: u32) -> PeerUser {
    PeerUser { uid, is_here: !users::is_ambiguous(uid) }
}

/// Finds the user at the peer's end of a connection that we accepted; `peer` is the result of
/// `getpeername`, `local` of `getsockname`. If the user is `own_uid` or root, also checks that a
/// process in our namespaces holds that end: other users are not trusted anyway. The search takes
/// some microseconds for each process of this machine, and much less if the same client connects
/// again.
///
/// # Errors
/// The user cannot be determined.
pub fn peer_user(
    peer: SocketAddr,
    local: SocketAddr,
    own_uid: u32,
) -> io::Result<Option<PeerUser>> {
    let Some(socket) = peer_socket(peer, local)? else { return Ok(None) };
    let uid = socket.uid;
    let is_here = [own_uid, 0].contains(&uid)
        && !users::is_ambiguous(uid)
        && holder::is_held_here(socket.inode);
    Ok(Some(PeerUser { uid, is_here }))
}

/// Finds the user of the server at the other end of a connection that we made; `peer` and `local`
/// as in [`peer_user`]. As long as the server has not accepted the connection, it is the user who
/// listens at its address.
///
/// # Errors
/// The user cannot be determined.
pub fn server_user(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<u32>> {
    match peer_socket(peer, local)? {
        Some(socket) => Ok(Some(socket.uid)),
        None => Ok(listening_user(peer)),
    }
}

/// The user who listens at an address of this machine; `None` if no socket listens there, or its
/// user cannot be determined.
pub fn listening_user(address: SocketAddr) -> Option<u32> {
    proc_net_tcp::find_listener(address).ok().flatten()
}

/// Finds the peer's end of a connection, if it has an owner. Addresses of IPv4 mapped into IPv6 are
/// the same as those of IPv4.
///
/// Returns `None` if no live socket of this network namespace is the peer's end: the peer is on
/// another machine or in another namespace, or has closed its socket already. A socket without an
/// owner, which the kernel shows as root's, counts as closed. A user without an ID in our user
/// namespace appears as the overflow user (65534).
///
/// Asks the kernel for that one socket by netlink (some 10 microseconds, independent of the number
/// of sockets; 0.1 s at most). If netlink is not permitted, or has no module for TCP, searches
/// `/proc/net/tcp`, which costs about a microsecond for each socket of the machine, and fails after
/// 0.1 s of CPU time for each of the two files.
///
/// # Errors
/// Neither way works.
fn peer_socket(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<Socket>> {
    let ends = Ends::new(peer, local);
    let diag_error = match sock_diag::find(&ends) {
        Ok(sock_diag::DiagReply::Found(socket)) => return Ok(socket.owned()),
        Ok(sock_diag::DiagReply::None) => return Ok(None),
        Ok(sock_diag::DiagReply::NoneOrNoModule) => None,
        Err(error) => Some(error),
    };
    match proc_net_tcp::find(&ends) {
        Ok(socket) => Ok(socket.and_then(Socket::owned)),
        Err(table_error) => {
            let by_netlink = match diag_error {
                Some(error) => error.to_string(),
                None => "no such socket".to_owned(),
            };
            let text = format!(
                "failed to find the owner of {peer}: by netlink: {by_netlink}; in /proc/net: {table_error}"
            );
            Err(io::Error::new(table_error.kind(), text))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener, TcpStream};

    use super::*;

    type Lookup = fn(&Ends) -> io::Result<Option<Socket>>;

    fn by_netlink(ends: &Ends) -> io::Result<Option<Socket>> {
        match sock_diag::find(ends)? {
            sock_diag::DiagReply::Found(socket) => Ok(Some(socket)),
            sock_diag::DiagReply::None | sock_diag::DiagReply::NoneOrNoModule => Ok(None),
        }
    }

    /// Both ways; only the second if this machine does not permit the first.
    fn lookups() -> Vec<(&'static str, Lookup)> {
        let mut lookups: Vec<(&'static str, Lookup)> = vec![("table", proc_net_tcp::find)];
        let nobody = Ends::new("127.0.0.1:1".parse().unwrap(), "127.0.0.1:1".parse().unwrap());
        match sock_diag::find(&nobody) {
            Ok(_) => lookups.push(("netlink", by_netlink)),
            Err(error) => eprintln!("netlink is left out: {error}"),
        }
        lookups
    }

    /// The client's end, our end, and the addresses of both as seen from our end.
    fn connect(listen: &str, to: IpAddr) -> io::Result<(TcpStream, TcpStream, Ends)> {
        let listener = TcpListener::bind(listen)?;
        let client = TcpStream::connect((to, listener.local_addr()?.port()))?;
        let (server, peer) = listener.accept()?;
        let ends = Ends::new(peer, server.local_addr()?);
        Ok((client, server, ends))
    }

    #[test]
    fn a_live_socket_has_its_owner_whatever_its_family() {
        let own = nix::unistd::geteuid().as_raw();
        let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        for (listen, to) in [
            ("127.0.0.1:0", v4),
            ("127.0.0.1:0", mapped),
            ("[::]:0", v4),
            ("[::]:0", mapped),
            ("[::1]:0", "::1".parse().unwrap()),
        ] {
            let (client, _server, ends) = match connect(listen, to) {
                Ok(connection) => connection,
                Err(error) if listen.starts_with('[') => {
                    eprintln!("{listen} is left out: {error}");
                    continue;
                }
                Err(error) => panic!("{listen}: {error}"),
            };
            for (name, lookup) in lookups() {
                let socket = lookup(&ends).unwrap().unwrap();
                assert_eq!((socket.state, socket.owner()), (1, Some(own)), "{name} {listen} {to}");
                let other = Ends { peer: (ends.peer.0, ends.local.1), ..ends };
                assert_eq!(lookup(&other).unwrap(), None, "{name} {listen} {to}");
            }
            // The client has closed one direction only, and still waits for our answer.
            client.shutdown(Shutdown::Write).unwrap();
            for (name, lookup) in lookups() {
                let socket = lookup(&ends).unwrap().unwrap();
                assert_eq!(socket.owner(), Some(own), "{name} {listen} {to}: {socket:?}");
                assert_ne!(socket.state, 1);
            }
        }
    }

    #[test]
    fn a_closed_socket_has_no_owner_though_the_kernel_shows_root() {
        let (client, server, ends) =
            connect("127.0.0.1:0", IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        drop(client);
        for (name, lookup) in lookups() {
            let socket = lookup(&ends).unwrap();
            assert!(socket.is_some_and(|socket| socket.owner().is_none()), "{name}: {socket:?}");
        }
        // With both ends closed, the peer's socket waits for stray packets.
        drop(server);
        for (name, lookup) in lookups() {
            let socket = lookup(&ends).unwrap();
            assert_eq!(socket.and_then(Socket::owner), None, "{name}: {socket:?}");
        }
    }
}
