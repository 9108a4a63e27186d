//! Identities: of processes within an instance, of fds within a process.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A process's ID: a string of 1 to [`MAX_LEN`](ProcId::MAX_LEN) bytes, chosen by the client,
/// unique within an instance until the process is deleted.
///
/// Cheap to clone, because every message about the process contains it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcId(Arc<str>);

impl ProcId {
    /// Maximum length of the ID of a new process, in bytes. Percent-encoded, an ID is up to three
    /// times as long, and must fit into the head of an HTTP request, also through proxies.
    pub const MAX_LEN: usize = 4096;

    /// The ID as the client wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ProcId {
    fn from(id: &str) -> Self {
        ProcId(id.into())
    }
}

impl From<String> for ProcId {
    fn from(id: String) -> Self {
        ProcId(id.into())
    }
}

impl std::borrow::Borrow<str> for ProcId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for ProcId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProcId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ProcId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for ProcId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ProcId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(ProcId::from)
    }
}

/// An fd of a process, as named in specs, results and requests: `stdin`, `stdout`, `stderr` or a
/// decimal number.
///
/// `"0"` and `"stdin"` are the same fd, which is always written as `stdin`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FdName(i32);

impl fmt::Debug for FdName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

impl FdName {
    /// Standard input.
    pub const STDIN: FdName = FdName(0);
    /// Standard output.
    pub const STDOUT: FdName = FdName(1);
    /// Standard error.
    pub const STDERR: FdName = FdName(2);

    /// The name of fd number `fd`; `None` for a negative number.
    pub fn from_number(fd: i32) -> Option<Self> {
        (fd >= 0).then_some(FdName(fd))
    }

    /// The fd's number.
    pub fn number(self) -> i32 {
        self.0
    }
}

/// The error for an invalid fd name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid fd name {0:?}: expected stdin, stdout, stderr or a decimal number")]
pub struct FdNameError(String);

impl FromStr for FdName {
    type Err = FdNameError;

    fn from_str(name: &str) -> Result<Self, FdNameError> {
        match name {
            "stdin" => Ok(FdName(0)),
            "stdout" => Ok(FdName(1)),
            "stderr" => Ok(FdName(2)),
            // `i32::from_str` also accepts a sign.
            _ if name.bytes().all(|b| b.is_ascii_digit()) => {
                name.parse().map(FdName).map_err(|_| FdNameError(name.to_owned()))
            }
            _ => Err(FdNameError(name.to_owned())),
        }
    }
}

impl fmt::Display for FdName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("stdin"),
            1 => f.write_str("stdout"),
            2 => f.write_str("stderr"),
            n => write!(f, "{n}"),
        }
    }
}

impl Serialize for FdName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FdName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fd_names() {
        for (name, number, written) in
            [("stdin", 0, "stdin"), ("1", 1, "stdout"), ("stderr", 2, "stderr"), ("37", 37, "37")]
        {
            let fd: FdName = name.parse().unwrap();
            assert_eq!(fd.number(), number);
            assert_eq!(fd.to_string(), written);
        }
        for bad in ["", "-1", "+1", "stdlog", "1 ", "99999999999", "0x3"] {
            assert!(bad.parse::<FdName>().is_err(), "{bad:?}");
        }
    }
}
