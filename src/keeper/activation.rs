//! Socket activation: listeners that a service manager has opened, by the protocol of
//! sd_listen_fds(3).
//!
//! They belong to the launched program, the keeper. Like all descriptors that it was started with,
//! it leaves them open to each worker, also over upgrades. Its pid does not change, so each worker
//! finds them by the same variables.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use super::listeners::{Address, is_listener};
use super::stored_name::StoredName;
use crate::config::Env;

/// The pid that the listeners are for, their number, and their names, joined by colons.
pub const VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];
/// The number of the first one.
const FIRST: RawFd = 3;

/// A listener that a service manager has opened.
#[derive(Debug)]
pub struct Activated {
    /// Its name in the service manager's configuration.
    pub name: String,
    /// The address that it listens on.
    pub address: Address,
    /// A descriptor of our own.
    pub fd: OwnedFd,
}

/// Whether these variables are for the process with this pid.
pub fn is_for(listen_pid: Option<&OsStr>, pid: u32) -> bool {
    listen_pid.and_then(OsStr::to_str).is_some_and(|text| text.parse() == Ok(pid))
}

/// The listeners for the process with this pid among the descriptors `inherited`, which it was
/// started with. Descriptors that an earlier start has [stored](super::descriptor_store) are left
/// out; others, and listeners without an address for clients, are ignored with a warning.
pub fn listeners_for(env: &Env, pid: u32, inherited: &[RawFd]) -> Vec<Activated> {
    let take = |(fd, name): (RawFd, String)| {
        let taken = if inherited.contains(&fd) { take(fd) } else { None };
        if taken.is_none() {
            tracing::warn!(
                fd,
                name,
                "not listening on a descriptor of LISTEN_FDS: it is not a listening stream socket of TCP or with a path"
            );
        }
        taken.map(|(address, fd)| Activated { name, address, fd })
    };
    let is_stored = |(_, name): &(RawFd, String)| StoredName::parse(name).is_some();
    passed(env, pid).into_iter().filter(|one| !is_stored(one)).filter_map(take).collect()
}

/// The descriptors and names in the variables.
pub(super) fn passed(env: &Env, pid: u32) -> Vec<(RawFd, String)> {
    let [listen_pid, count, names] = VARIABLES.map(|name| env.get(OsStr::new(name)));
    if !is_for(listen_pid.map(AsRef::as_ref), pid) {
        return Vec::new();
    }
    let count: RawFd = count.and_then(|text| text.to_str()?.parse().ok()).unwrap_or_default();
    let names = names.map(|names| names.to_string_lossy().into_owned()).unwrap_or_default();
    let names = names.split(':').filter(|name| !name.is_empty()).map(str::to_owned);
    let names = names.chain(std::iter::repeat("unknown".to_owned()));
    (FIRST..FIRST.saturating_add(count)).zip(names).collect()
}

fn take(fd: RawFd) -> Option<(Address, OwnedFd)> {
    // SAFETY: this process was started with it, and nothing closes such descriptors.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    if !is_listener(fd) {
        return None;
    }
    let copy = || fd.try_clone_to_owned().ok();
    let tcp = TcpListener::from(copy()?).local_addr().ok().map(Address::Tcp);
    let unix = || {
        let address = UnixListener::from(copy()?).local_addr().ok()?;
        std::path::absolute(address.as_pathname()?).ok().map(Address::Unix)
    };
    Some((tcp.or_else(unix)?, copy()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    fn env(vars: &[(&str, &str)]) -> Env {
        vars.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn the_variables_count_for_the_process_that_they_name() {
        let all = [("LISTEN_PID", "7"), ("LISTEN_FDS", "3"), ("LISTEN_FDNAMES", "web::c")];
        let named = |all: &[_]| passed(&env(all), 7);
        let of = |fd, name: &str| (fd, name.to_owned());
        assert_eq!(named(&all), [of(3, "web"), of(4, "c"), of(5, "unknown")]);
        assert_eq!(named(&all[..2]), [3, 4, 5].map(|fd| of(fd, "unknown")));
        assert_eq!(passed(&env(&all), 8), []);
        for nothing in ["", "-1", "x", "0"] {
            assert_eq!(named(&[("LISTEN_PID", "7"), ("LISTEN_FDS", nothing)]), [], "{nothing}");
        }
        assert_eq!(named(&[("LISTEN_FDS", "1")]), []);
    }

    #[test]
    fn listeners_with_an_address_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let unix = UnixListener::bind(&path).unwrap();
        let (pair, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        let address = |fd: RawFd| take(fd).map(|(address, _)| address);
        assert_eq!(address(tcp.as_raw_fd()), tcp.local_addr().ok().map(Address::Tcp));
        assert_eq!(address(unix.as_raw_fd()), Some(Address::Unix(path)));
        for other in [pair.as_raw_fd(), file.as_raw_fd()] {
            assert_eq!(address(other), None);
        }
    }
}
