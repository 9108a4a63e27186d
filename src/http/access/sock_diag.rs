//! Asks the kernel for one TCP socket by netlink: sock_diag(7), an exact lookup.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvfrom, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::tcp_socket::{Ends, Socket};

/// The kernel normally answers while we send; this is a safeguard.
const TIMEOUT_MS: i64 = 100;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
/// `struct nlmsghdr`
const HEADER_LEN: usize = 16;
/// `struct nlmsghdr` and `struct inet_diag_req_v2`
const REQUEST_LEN: u32 = 72;
/// Our only request on its socket, so the number is arbitrary.
const SEQUENCE: u32 = 1;

/// Whether a socket was ever found this way: if so, a socket that is not found does not exist.
static HAS_WORKED: AtomicBool = AtomicBool::new(false);

/// The kernel's reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DiagReply {
    /// The peer's end of the connection, in any state.
    Found(Socket),
    /// No such socket.
    None,
    /// No such socket, or the kernel's module for TCP is missing: the error is the same.
    NoneOrNoModule,
}

/// Looks the peer's end up; an error means that this way is not available.
pub(super) fn find(ends: &Ends) -> io::Result<DiagReply> {
    let Some(request) = request(ends) else { return Ok(DiagReply::None) };
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    setsockopt(&netlink, sockopt::ReceiveTimeout, &TimeVal::milliseconds(TIMEOUT_MS))?;
    send(netlink.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut reply = [0; 512];
    let (length, sender) = recvfrom::<NetlinkAddr>(netlink.as_raw_fd(), &mut reply)?;
    if sender.is_none_or(|sender| sender.pid() != 0) {
        return Err(io::Error::other("netlink message from another process"));
    }
    match parse_reply(reply.get(..length).unwrap_or_default(), ends)? {
        Some(socket) => {
            HAS_WORKED.store(true, Ordering::Relaxed);
            Ok(DiagReply::Found(socket))
        }
        None if HAS_WORKED.load(Ordering::Relaxed) => Ok(DiagReply::None),
        None => Ok(DiagReply::NoneOrNoModule),
    }
}

/// The request; `None` if the two ends are of two families, which no socket is.
fn request(ends: &Ends) -> Option<Vec<u8>> {
    let (peer, local) = (ends.peer, ends.local);
    let (family, source, target) = match (peer.0, local.0) {
        (IpAddr::V4(source), IpAddr::V4(target)) => (libc::AF_INET, wide(source), wide(target)),
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            (libc::AF_INET6, source.octets(), target.octets())
        }
        _ => return None,
    };
    let mut message = Vec::new();
    message.extend(REQUEST_LEN.to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend(SEQUENCE.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    // struct inet_diag_req_v2: no extensions, a byte of padding, sockets in any state.
    message.extend([u8::try_from(family).ok()?, u8::try_from(libc::IPPROTO_TCP).ok()?, 0, 0]);
    message.extend(u32::MAX.to_ne_bytes());
    // struct inet_diag_sockid: the peer's end is the source; the cookie is unknown.
    message.extend(peer.1.to_be_bytes());
    message.extend(local.1.to_be_bytes());
    message.extend(source);
    message.extend(target);
    message.extend(ends.interface.to_ne_bytes());
    message.extend([u8::MAX; 8]);
    Some(message)
}

/// IPv4 addresses take the first four of sixteen bytes.
fn wide(address: Ipv4Addr) -> [u8; 16] {
    let [a, b, c, d] = address.octets();
    [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// The socket of a reply; `None` if the kernel returns none, or only another one, such as a
/// listening one.
fn parse_reply(reply: &[u8], ends: &Ends) -> io::Result<Option<Socket>> {
    let cut_off = || io::Error::new(io::ErrorKind::InvalidData, "netlink reply is cut off");
    let kind = bytes(reply, 4).map(u16::from_ne_bytes).ok_or_else(cut_off)?;
    let sequence = bytes(reply, 8).map(u32::from_ne_bytes).ok_or_else(cut_off)?;
    match kind {
        _ if sequence != SEQUENCE => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "netlink reply to another request"))
        }
        NLMSG_ERROR => {
            match bytes(reply, HEADER_LEN).map(i32::from_ne_bytes).ok_or_else(cut_off)? {
                error if error == -libc::ENOENT => Ok(None),
                error => Err(io::Error::from_raw_os_error(error.saturating_neg())),
            }
        }
        SOCK_DIAG_BY_FAMILY => {
            let (socket, peer, local) = parse_socket(reply).ok_or_else(cut_off)?;
            Ok((peer == ends.peer && local == ends.local).then_some(socket))
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "netlink reply of unknown type")),
    }
}

type End = (IpAddr, u16);

/// Parses `struct inet_diag_msg`: the socket, its own end and the other end.
fn parse_socket(reply: &[u8]) -> Option<(Socket, End, End)> {
    let [family, state] = bytes(reply, 16)?;
    let address = |offset| {
        if i32::from(family) == libc::AF_INET {
            Some(IpAddr::V4(Ipv4Addr::from(bytes::<4>(reply, offset)?)))
        } else {
            Some(IpAddr::V6(Ipv6Addr::from(bytes::<16>(reply, offset)?)).to_canonical())
        }
    };
    let own = (address(24)?, u16::from_be_bytes(bytes(reply, 20)?));
    let other = (address(40)?, u16::from_be_bytes(bytes(reply, 22)?));
    let uid = u32::from_ne_bytes(bytes(reply, 80)?);
    let inode = u32::from_ne_bytes(bytes(reply, 84)?).into();
    Some((Socket { state, uid, inode }, own, other))
}

fn bytes<const N: usize>(message: &[u8], offset: usize) -> Option<[u8; N]> {
    message.get(offset..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ends() -> Ends {
        Ends::new("127.0.0.1:40000".parse().unwrap(), "127.0.0.1:3000".parse().unwrap())
    }

    /// A reply in the kernel's format, with attributes after the message.
    fn reply(family: i32, state: u8, source: [u8; 16], port: u16) -> Vec<u8> {
        let mut reply = Vec::new();
        reply.extend(96_u32.to_ne_bytes());
        reply.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        reply.extend([0, 0]);
        reply.extend(SEQUENCE.to_ne_bytes());
        reply.extend([0; 4]);
        reply.extend([u8::try_from(family).unwrap(), state, 0, 0]);
        reply.extend(port.to_be_bytes());
        reply.extend(3000_u16.to_be_bytes());
        reply.extend(source);
        reply.extend(if family == libc::AF_INET {
            wide(Ipv4Addr::LOCALHOST)
        } else {
            Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets()
        });
        reply.extend([0; 24]);
        reply.extend(1234_u32.to_ne_bytes());
        reply.extend(77_u32.to_ne_bytes());
        reply.extend([5, 0, 8, 0, 0, 0, 0, 0]);
        reply
    }

    fn error(code: i32) -> Vec<u8> {
        let mut reply = Vec::new();
        reply.extend(36_u32.to_ne_bytes());
        reply.extend(NLMSG_ERROR.to_ne_bytes());
        reply.extend([0, 0]);
        reply.extend(SEQUENCE.to_ne_bytes());
        reply.extend([0; 4]);
        reply.extend(code.to_ne_bytes());
        reply
    }

    #[test]
    fn requests_have_their_length() {
        assert_eq!(request(&ends()).unwrap().len(), 72);
        let mixed = Ends::new("[::1]:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        assert_eq!(request(&mixed), None);
        assert_eq!(find(&mixed).unwrap(), DiagReply::None);
    }

    #[test]
    fn only_the_requested_socket_counts() {
        let socket = Socket { state: 1, uid: 1234, inode: 77 };
        let local = wide(Ipv4Addr::LOCALHOST);
        let found = parse_reply(&reply(libc::AF_INET, 1, local, 40000), &ends()).unwrap();
        assert_eq!(found, Some(socket));
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets();
        let found = parse_reply(&reply(libc::AF_INET6, 1, mapped, 40000), &ends()).unwrap();
        assert_eq!(found, Some(socket));
        let other = parse_reply(&reply(libc::AF_INET, 1, local, 40001), &ends()).unwrap();
        assert_eq!(other, None);
        // The kernel falls back to a socket that listens on the address.
        let listening = parse_reply(&reply(libc::AF_INET, 10, [0; 16], 40000), &ends()).unwrap();
        assert_eq!(listening, None);
    }

    #[test]
    fn errors_of_the_kernel_differ_from_absence() {
        assert_eq!(parse_reply(&error(-libc::ENOENT), &ends()).unwrap(), None);
        let refused = parse_reply(&error(-libc::EPERM), &ends()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
    }

    proptest! {
        #[test]
        fn no_reply_makes_it_panic_and_no_short_one_is_taken(
            noise in prop::collection::vec(any::<u8>(), 0..120), cut in 0_usize..88,
        ) {
            let _ = parse_reply(&noise, &ends());
            let whole = reply(libc::AF_INET, 1, wide(Ipv4Addr::LOCALHOST), 40000);
            prop_assert!(parse_reply(&whole[..cut], &ends()).is_err());
        }
    }
}
