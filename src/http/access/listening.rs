//! The listener at an address of this machine.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::{getsockopt, sockopt};

use super::proc_net_tcp::TcpEntry;
use crate::http::listeners::SocketPath;

/// The state of a listening socket, as the kernel numbers it.
const LISTEN: u8 = 10;

/// Whether process `pid` listens on a TCP port; true if the kernel hides the process's descriptors.
pub fn listens(pid: u32, port: u16) -> bool {
    let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return true };
    let inode = |link: std::io::Result<std::path::PathBuf>| {
        link.ok()?.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
    };
    let sockets: HashSet<u64> =
        open.flatten().filter_map(|entry| inode(std::fs::read_link(entry.path()))).collect();
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"].into_iter().map(File::open);
    tables.flatten().any(|table| has_listener(BufReader::new(table), port, &sockets))
}

/// Whether a table lists one of these sockets, by inode, as listening on `port`.
fn has_listener(table: impl BufRead, port: u16, sockets: &HashSet<u64>) -> bool {
    table.split(b'\n').map_while(Result::ok).filter_map(|line| TcpEntry::parse(&line)).any(|row| {
        row.own.1 == port && row.socket.state == LISTEN && sockets.contains(&row.socket.inode)
    })
}

/// The pid of the process that listens on a socket in the file system, if any.
pub fn listener_of(path: &Path) -> Option<u32> {
    let short = SocketPath::new(path).ok()?;
    let socket = UnixStream::connect(short.path()).ok()?;
    u32::try_from(getsockopt(&socket, sockopt::PeerCredentials).ok()?.pid()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_listener_is_found_by_its_process() {
        let own = std::process::id();
        let mut other = std::process::Command::new("/bin/cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        for address in ["127.0.0.1:0", "0.0.0.0:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            assert!(listens(own, port));
            assert!(!listens(other.id(), port));
            drop(listener);
            assert!(!listens(own, port));
        }
        drop(other.stdin.take());
        other.wait().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        assert_eq!(listener_of(&path), None);
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(listener_of(&path), Some(own));
        drop(listener);
        assert_eq!(listener_of(&path), None);
    }
}
