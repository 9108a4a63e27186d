//! The names of descriptors in the service manager's store.
//!
//! A name says which descriptor of which process it is. It has a digest of the process's ID,
//! because an ID may be longer than a name, and have characters that a name may not. Names are
//! short: the service manager returns all of them in one environment variable.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::spec::ProcId;

/// The start of each name.
const PREFIX: &str = "ps-";
/// The number of hexadecimal digits of a digest.
const DIGITS: usize = 12;

/// The first 48 bits of the digest of a process's ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessKey(u64);

impl ProcessKey {
    /// The key of a process.
    pub fn of(id: &ProcId) -> ProcessKey {
        let digest = Sha256::digest(id.as_str().as_bytes());
        ProcessKey(digest.iter().take(DIGITS / 2).fold(0, |key, byte| key << 8 | u64::from(*byte)))
    }
}

/// Which descriptor of its process one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The pidfd.
    Pidfd,
    /// The reading end of the pipe of the capture with this index.
    Reader(usize),
    /// The pidfd of the process with this pid, which writes the capture with this index.
    Writer(usize, i32),
    /// The open file of the capture with this index.
    File(usize),
}

/// The name of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredName {
    /// The process.
    pub process: ProcessKey,
    /// Its descriptor.
    pub role: Role,
}

impl StoredName {
    /// Reads a name; `None` for one that is not ours, such as that of a socket unit.
    pub fn parse(name: &str) -> Option<StoredName> {
        let (key, role) = name.strip_prefix(PREFIX)?.split_once('-')?;
        let is_key = key.len() == DIGITS && key.bytes().all(|digit| digit.is_ascii_hexdigit());
        let process = ProcessKey(u64::from_str_radix(key, 16).ok().filter(|_| is_key)?);
        let role = match role.split_once('w') {
            None if role == "p" => Role::Pidfd,
            None => match role.strip_suffix('f') {
                Some(index) => Role::File(index.parse().ok()?),
                None => Role::Reader(role.parse().ok()?),
            },
            Some((index, pid)) => Role::Writer(index.parse().ok()?, pid.parse().ok()?),
        };
        let parsed = StoredName { process, role };
        // Numbers have more than one form; only the form that we write is ours.
        (parsed.to_string() == name).then_some(parsed)
    }
}

impl fmt::Display for StoredName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{:0DIGITS$x}-", self.process.0)?;
        match self.role {
            Role::Pidfd => write!(f, "p"),
            Role::Reader(index) => write!(f, "{index}"),
            Role::Writer(index, pid) => write!(f, "{index}w{pid}"),
            Role::File(index) => write!(f, "{index}f"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ProcId {
        text.into()
    }

    #[test]
    fn a_name_is_stable_and_names_the_descriptor() {
        let process = ProcessKey::of(&id("job"));
        let name = |role| StoredName { process, role }.to_string();
        // Another build of this program may take the descriptors over.
        assert_eq!(name(Role::Pidfd), "ps-5e8c9902207a-p");
        let readers = [Role::Reader(0), Role::Reader(12)];
        let roles = [Role::Pidfd, Role::Writer(1, 4711), Role::File(2)].into_iter().chain(readers);
        for role in roles {
            assert_eq!(StoredName::parse(&name(role)), Some(StoredName { process, role }));
        }
        assert_ne!(process, ProcessKey::of(&id("job2")));
    }

    #[test]
    fn other_names_are_not_ours() {
        let names = ["", "ps", "ps-", "web", "ps-probe", "ps-0123456789ab", "ps-0123456789ab-"];
        let roles = ["ps-0123456789ab-x", "ps-0123456789ab-1w", "ps-0123456789ab-w1"];
        let forms = ["ps-0123456789AB-p", "ps-0123456789ab-01", "ps-+12345678901-p", "ps-12-p"];
        for name in names.into_iter().chain(roles).chain(forms) {
            assert_eq!(StoredName::parse(name), None, "{name}");
        }
    }
}
