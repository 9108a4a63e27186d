//! Searches `/proc/net/tcp` and `tcp6` for one socket, on machines that do not permit netlink.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::cpu_budget::CpuBudget;
use super::tcp_socket::{Ends, Socket};

/// Maximum CPU time of the search of one file: a caller waits for it.
const CPU_TIME: Duration = Duration::from_millis(100);

/// The kernel's number of the state in which a socket listens.
const LISTEN: u8 = 10;

/// The files in which the kernel lists the sockets. A socket of IPv6 may belong to a connection of
/// IPv4.
const FILES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];

/// Finds the user of the socket that listens at an address: on that very address, else on all of
/// them.
pub(super) fn find_listener(address: SocketAddr) -> io::Result<Option<u32>> {
    let (ip, port) = (address.ip().to_canonical(), address.port());
    let mut on_all = None;
    for path in FILES {
        let Some(mut file) = open(path)? else { continue };
        let budget = CpuBudget::new(CPU_TIME);
        let mut line = Vec::new();
        while file.read_until(b'\n', &mut line)? > 0 && !budget.is_spent() {
            if let Some(row) = TcpEntry::parse(&line)
                && (row.socket.state, row.own.1) == (LISTEN, port)
            {
                if row.own.0 == ip {
                    return Ok(Some(row.socket.uid));
                }
                if row.own.0.is_unspecified() {
                    on_all = Some(row.socket.uid);
                }
            }
            line.clear();
        }
    }
    Ok(on_all)
}

/// Opens one of [`FILES`]; `None` if the kernel has no IPv6, and so no such file.
fn open(path: &str) -> io::Result<Option<BufReader<File>>> {
    match File::open(path) {
        Ok(file) => Ok(Some(BufReader::with_capacity(1 << 16, file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.ends_with('6') => Ok(None),
        Err(error) => Err(error),
    }
}

/// Finds the peer's end of a connection; if there are several, one with an owner.
pub(super) fn find(ends: &Ends) -> io::Result<Option<Socket>> {
    let mut found = None;
    for path in FILES {
        let Some(file) = open(path)? else { continue };
        let budget = CpuBudget::new(CPU_TIME);
        let socket = search(file, ends, budget)?;
        if socket.is_some_and(|socket| socket.owner().is_some()) {
            return Ok(socket);
        }
        found = found.or(socket);
    }
    Ok(found)
}

/// Finds the peer's end in the text of one table.
fn search(mut table: impl BufRead, ends: &Ends, budget: CpuBudget) -> io::Result<Option<Socket>> {
    let mut found = None;
    let mut line = Vec::new();
    while table.read_until(b'\n', &mut line)? > 0 {
        if let Some(row) = TcpEntry::parse(&line)
            && (row.own, row.other) == (ends.peer, ends.local)
        {
            if row.socket.owner().is_some() {
                return Ok(Some(row.socket));
            }
            found = found.or(Some(row.socket));
        }
        if budget.is_spent() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        line.clear();
    }
    Ok(found)
}

/// A socket of a table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TcpEntry {
    pub(super) own: (IpAddr, u16),
    other: (IpAddr, u16),
    pub(super) socket: Socket,
}

impl TcpEntry {
    /// Parses a line; `None` for the heading and other lines.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
        let own = parse_end(fields.nth(1)?)?;
        let other = parse_end(fields.next()?)?;
        let state = u8::from_str_radix(fields.next()?, 16).ok()?;
        let uid = fields.nth(3)?.parse().ok()?;
        let inode = fields.nth(1)?.parse().ok()?;
        Some(Self { own, other, socket: Socket { state, uid, inode } })
    }
}

/// Parses `ADDRESS:PORT`: the address in words of 32 bits, each as this machine would read it from
/// memory.
fn parse_end(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(parse_word(address)?)),
        32 => {
            let mut octets = [0; 16];
            for (index, octets) in octets.as_chunks_mut().0.iter_mut().enumerate() {
                *octets = parse_word(address.get(index * 8..index * 8 + 8)?)?;
            }
            IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
        }
        _ => return None,
    };
    Some((address, port))
}

fn parse_word(text: &str) -> Option<[u8; 4]> {
    u32::from_str_radix(text, 16).ok().map(u32::to_ne_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADING: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   \
        uid  timeout inode\n";

    fn row(own: &str, other: &str, state: &str, uid: u32, inode: u32) -> String {
        format!(
            "   7: {own} {other} {state} 00000000:00000000 00:00000000 00000000 {uid:>5} 0 {inode} 1 \
             0000000000000000 20 4 30 10 -1\n"
        )
    }

    fn word(octets: [u8; 4]) -> String {
        format!("{:08X}", u32::from_ne_bytes(octets))
    }

    fn end(address: IpAddr, port: u16) -> String {
        let words: String = match address {
            IpAddr::V4(address) => word(address.octets()),
            IpAddr::V6(address) => {
                address.octets().as_chunks().0.iter().copied().map(word).collect()
            }
        };
        format!("{words}:{port:04X}")
    }

    fn find_in(table: &str, peer: &str, local: &str) -> Option<Socket> {
        let ends = Ends::new(peer.parse().unwrap(), local.parse().unwrap());
        search(table.as_bytes(), &ends, CpuBudget::new(Duration::from_secs(60))).unwrap()
    }

    #[test]
    fn the_peers_end_is_found_and_not_ours() {
        let (peer, local) = ("127.0.0.1:40000", "127.0.0.1:3000");
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (a, b) = (end(loopback, 40000), end(loopback, 3000));
        let table = [HEADING, &row(&b, &a, "01", 5, 50), &row(&a, &b, "01", 6, 60)].concat();
        assert_eq!(find_in(&table, peer, local), Some(Socket { state: 1, uid: 6, inode: 60 }));
        assert_eq!(find_in(&table, "127.0.0.1:40001", local), None);
        assert_eq!(find_in(HEADING, peer, local), None);

        let mapped = end(IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped()), 40000);
        let other = end(IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped()), 3000);
        let table = row(&mapped, &other, "08", 7, 70);
        assert_eq!(find_in(&table, peer, local), Some(Socket { state: 8, uid: 7, inode: 70 }));
    }

    #[test]
    fn a_socket_with_an_owner_goes_before_one_without() {
        let loopback = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let (a, b) = (end(loopback, 40000), end(loopback, 3000));
        let dead = row(&a, &b, "06", 0, 0);
        let found = find_in(&dead, "[::1]:40000", "[::1]:3000").unwrap();
        assert_eq!((found.state, found.owner()), (6, None));
        let table = [dead, row(&a, &b, "01", 9, 90)].concat();
        let found = find_in(&table, "[::1]:40000", "[::1]:3000").unwrap();
        assert_eq!(found.owner(), Some(9));
    }

    #[test]
    fn a_search_ends_when_its_cpu_time_is_spent() {
        let ends = Ends::new("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        let error = search(HEADING.as_bytes(), &ends, CpuBudget::new(Duration::ZERO)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    proptest! {
        #[test]
        fn ends_are_read_as_they_are_written(
            v4 in any::<[u8; 4]>(), v6 in any::<[u8; 16]>(), port in any::<u16>(),
        ) {
            for address in [IpAddr::from(v4), IpAddr::from(v6)] {
                prop_assert_eq!(parse_end(&end(address, port)), Some((address.to_canonical(), port)));
            }
        }

        #[test]
        fn no_line_makes_it_panic(line in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,80}") {
            prop_assert_eq!(TcpEntry::parse(&line), None);
            let _ = parse_end(&text);
        }
    }
}
