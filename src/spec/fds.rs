//! The fds of a process, as serde reads and writes them.

use std::fmt;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::captures::CaptureSpec;
use super::unique_keys::unique_keys;
use super::{FdName, ProcId};

/// The fds of a process.
#[derive(Clone, Debug, PartialEq)]
pub enum Fds {
    /// Set up in this order.
    InOrder(Vec<FdEntry>),
    /// By name. A duplicate is set up after the fd that it duplicates.
    ByName(IndexMap<FdName, FdSpec>),
}

impl Default for Fds {
    fn default() -> Self {
        Fds::InOrder(Vec::new())
    }
}

impl Fds {
    /// All fds, as written.
    pub fn iter(&self) -> impl Iterator<Item = (FdName, &FdSpec)> {
        let (in_order, by_name) = match self {
            Fds::InOrder(entries) => (Some(entries), None),
            Fds::ByName(entries) => (None, Some(entries)),
        };
        let in_order = in_order.into_iter().flatten().map(|FdEntry(fd, spec)| (*fd, spec));
        in_order.chain(by_name.into_iter().flatten().map(|(fd, spec)| (*fd, spec)))
    }
}

impl Serialize for Fds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Fds::InOrder(entries) => entries.serialize(serializer),
            Fds::ByName(entries) => entries.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Fds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FdsVisitor;
        impl<'de> Visitor<'de> for FdsVisitor {
            type Value = Fds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of [FD_NAME, FD], or an object of FDs by their names")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Fds, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = seq.next_element()? {
                    entries.push(entry);
                }
                Ok(Fds::InOrder(entries))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Fds, A::Error> {
                unique_keys(de::value::MapAccessDeserializer::new(map)).map(Fds::ByName)
            }
        }
        deserializer.deserialize_any(FdsVisitor)
    }
}

/// An fd of an array: `[FD_NAME, FD]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FdEntry(pub FdName, pub FdSpec);

/// The file or pipe of an fd.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FdSpec {
    /// Inherited from procstar.
    Inherit,
    /// Closed.
    Close,
    /// `/dev/null`.
    Null(NullSpec),
    /// A file, opened in the process.
    File(FileSpec),
    /// A duplicate of another fd, in its state after the earlier entries.
    Dup(DupSpec),
    /// Captured by procstar.
    Capture(CaptureSpec),
    /// Data in the spec itself, open for reading.
    Data(DataSpec),
    /// The writing end of a pipe to another process of the request.
    PipeWrite,
    /// The reading end of the `pipe-write` of another process.
    PipeRead(PipeReadSpec),
}

/// `{"null": {"flags": FLAGS}}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct NullSpec {
    /// How the file is opened.
    pub flags: OpenFlags,
}

/// `{"file": {"path": PATH, "flags": FLAGS, "mode": INT}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct FileSpec {
    /// The file's path, relative to the process's working directory.
    pub path: String,
    /// How the file is opened.
    #[serde(default)]
    pub flags: OpenFlags,
    /// The permission bits of a created file, from which the umask is subtracted.
    #[serde(default = "default_file_mode")]
    pub mode: u32,
}

fn default_file_mode() -> u32 {
    0o666
}

/// `{"dup": {"fd": N}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct DupSpec {
    /// The number of the fd to duplicate.
    pub fd: i64,
}

/// `{"data": {"text": TEXT}}` or `{"data": {"base64": TEXT}}`; exactly one of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct DataSpec {
    /// The data as text.
    pub text: Option<String>,
    /// The data in base64.
    pub base64: Option<String>,
}

/// `{"pipe-read": {"proc_id": ID, "fd": FD_NAME}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct PipeReadSpec {
    /// The process that writes, in the same request.
    pub proc_id: ProcId,
    /// The fd of its `pipe-write`.
    pub fd: FdName,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OpenFlags {
    /// `Read` for fd 0, `Write` for 1 and 2, `ReadWrite` for others.
    #[default]
    Default,
    /// Read; the file must exist.
    Read,
    /// Write; the file is created or truncated.
    Write,
    /// Write; the file must not exist.
    Create,
    /// Write; the file must exist, and is truncated.
    Replace,
    /// Append; the file must exist.
    Append,
    /// Append; the file is created if it does not exist.
    CreateAppend,
    /// Read and write; the file is created or truncated.
    ReadWrite,
}

super::object::only_objects!(NullSpec, FileSpec, DupSpec, DataSpec, PipeReadSpec);
