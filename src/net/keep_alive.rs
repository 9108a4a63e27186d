//! TCP keep-alive: detects a peer that has vanished silently, with its machine or its network.
//!
//! It concerns connections without data in flight. With data in flight, TCP gives up by itself.

use std::os::fd::AsFd;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{KeepAlive, TcpKeepCount, TcpKeepIdle, TcpKeepInterval};

/// Seconds of silence before the first probe.
const IDLE: u32 = 60;
/// Seconds from one probe to the next.
const INTERVAL: u32 = 15;
/// A connection ends when this number of consecutive probes is not answered.
const PROBES: u32 = 4;

/// Turns keep-alive on for a TCP connection. Connections that a listener accepts inherit it from
/// the listener.
///
/// A failure is logged at `debug` and otherwise ignored: the connection works without it.
pub fn keep_alive(socket: &impl AsFd) {
    let socket = socket.as_fd();
    let set = setsockopt(&socket, KeepAlive, &true)
        .and_then(|()| setsockopt(&socket, TcpKeepIdle, &IDLE))
        .and_then(|()| setsockopt(&socket, TcpKeepInterval, &INTERVAL))
        .and_then(|()| setsockopt(&socket, TcpKeepCount, &PROBES));
    if let Err(error) = set {
        tracing::debug!(%error, "cannot turn on TCP keep-alive");
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use nix::sys::socket::getsockopt;

    use super::*;

    #[test]
    fn accepted_connections_inherit_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        keep_alive(&listener);
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(getsockopt(&accepted, KeepAlive).unwrap());
        let times = (
            getsockopt(&accepted, TcpKeepIdle).unwrap(),
            getsockopt(&accepted, TcpKeepInterval).unwrap(),
            getsockopt(&accepted, TcpKeepCount).unwrap(),
        );
        assert_eq!(times, (IDLE, INTERVAL, PROBES));
        assert!(!getsockopt(&client, KeepAlive).unwrap());
    }
}
