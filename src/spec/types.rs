//! The spec format as serde reads and writes it.

use indexmap::IndexMap;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;

use super::{FdName, ProcId};

/// A request to start processes: `{"specs": {PROC_ID: PROC, ...}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The processes in the order given; the key is the process's ID, and may not be given twice.
    #[serde(deserialize_with = "unique_keys")]
    pub specs: IndexMap<ProcId, ProcSpec>,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcSpec {
    /// The arguments, the program's own name first. Executed as a path unless `exe` is given; no PATH is searched.
    pub argv: Vec<String>,
    /// The path to execute instead of `argv[0]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// Accepted for compatibility; the key in the map of specs is the process's ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The environment.
    #[serde(default)]
    pub env: EnvSpec,
    /// The fds, set up in this order.
    #[serde(default)]
    pub fds: Vec<FdEntry>,
    /// Resource control by systemd, where the host has it.
    #[serde(default)]
    pub systemd_properties: SystemdProperties,
}

/// An fd and what it shall be: `[FD_NAME, FD]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FdEntry(pub FdName, pub FdSpec);

/// The environment of a process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnvSpec {
    /// What it gets of the agent's own environment; the agent's secrets are never among it.
    pub inherit: Inherit,
    /// Variables to set, or, with null, to remove; they win over inherited ones.
    #[serde(deserialize_with = "unique_keys")]
    pub vars: IndexMap<String, Option<String>>,
}

/// Which of the agent's variables a process inherits: `true`, `false` or names.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Inherit {
    /// Every one (but the agent's secrets).
    #[default]
    All,
    /// None.
    None,
    /// Those named, where they exist.
    Names(Vec<String>),
}

impl Serialize for Inherit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Inherit::All => serializer.serialize_bool(true),
            Inherit::None => serializer.serialize_bool(false),
            Inherit::Names(names) => names.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Inherit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InheritVisitor;
        impl<'de> Visitor<'de> for InheritVisitor {
            type Value = Inherit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or an array of variable names")
            }

            fn visit_bool<E: de::Error>(self, all: bool) -> Result<Inherit, E> {
                Ok(if all { Inherit::All } else { Inherit::None })
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Inherit, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = seq.next_element()? {
                    names.push(name);
                }
                Ok(Inherit::Names(names))
            }
        }
        deserializer.deserialize_any(InheritVisitor)
    }
}

/// What an fd of a process shall be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FdSpec {
    /// As the agent has it.
    Inherit,
    /// Closed.
    Close,
    /// `/dev/null`.
    Null(NullSpec),
    /// A file, opened in the process.
    File(FileSpec),
    /// A duplicate of another fd, as that stands after the earlier entries.
    Dup(DupSpec),
    /// Captured by the agent.
    Capture(CaptureSpec),
    /// The writing end of a pipe, whose reading end is in another process of the request.
    PipeWrite,
    /// The reading end of another process's `pipe-write`.
    PipeRead(PipeReadSpec),
}

/// `{"null": {"flags": FLAGS}}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NullSpec {
    /// How it is opened.
    pub flags: OpenFlags,
}

/// `{"file": {"path": PATH, "flags": FLAGS, "mode": INT}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// The file's path, relative to the process's working directory.
    pub path: String,
    /// How it is opened.
    #[serde(default)]
    pub flags: OpenFlags,
    /// The permission bits of a file that is created, less the umask.
    #[serde(default = "default_file_mode")]
    pub mode: u32,
}

fn default_file_mode() -> u32 {
    0o666
}

/// `{"dup": {"fd": N}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DupSpec {
    /// The number of the fd to duplicate.
    pub fd: i64,
}

/// `{"capture": {"mode": ..., "encoding": ..., "attached": ...}}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaptureSpec {
    /// Where the output is kept.
    pub mode: CaptureMode,
    /// How the bytes are shown in a result; null: as base64.
    pub encoding: Option<TextEncoding>,
    /// Whether results carry the output, or only its length.
    pub attached: bool,
}

impl Default for CaptureSpec {
    fn default() -> Self {
        CaptureSpec { mode: CaptureMode::default(), encoding: None, attached: true }
    }
}

/// Where captured output is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaptureMode {
    /// In a temporary file, which the process itself writes.
    #[default]
    Tempfile,
    /// In memory, through a pipe.
    Memory,
}

/// The encoding of captured text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TextEncoding {
    /// UTF-8; invalid bytes are replaced in results, never in the data itself.
    #[serde(rename = "utf-8")]
    Utf8,
}

/// `{"pipe-read": {"proc_id": ID, "fd": FD_NAME}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipeReadSpec {
    /// The process that writes, of the same request.
    pub proc_id: ProcId,
    /// Its fd.
    pub fd: FdName,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpenFlags {
    /// `Read` for fd 0, `Write` for 1 and 2, `ReadWrite` for others.
    #[default]
    Default,
    /// Read; it must exist.
    Read,
    /// Write; created, or truncated.
    Write,
    /// Write; it must not exist.
    Create,
    /// Write; it must exist, and is truncated.
    Replace,
    /// Append; it must exist.
    Append,
    /// Append; created where it is not there.
    CreateAppend,
    /// Read and write; created, or truncated.
    ReadWrite,
}

/// `systemd_properties`: unit properties that are applied where systemd's user manager runs on cgroup v2.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SystemdProperties {
    /// Of the scope that holds the process.
    pub scope: Option<ScopeProperties>,
    /// Of the slice that holds the scope.
    pub slice: Option<SliceProperties>,
}

impl SystemdProperties {
    /// Whether nothing at all is asked for.
    pub fn is_empty(&self) -> bool {
        self.scope.as_ref().is_none_or(|s| *s == ScopeProperties::default())
            && self.slice.as_ref().is_none_or(|s| *s == SliceProperties::default())
    }
}

/// What systemd does about a scope in which the kernel killed a process for want of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OomPolicy {
    /// Nothing more.
    Continue,
    /// End the others in order.
    Stop,
    /// Kill the others.
    Kill,
}

/// Properties of a scope; times in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "systemd documents each by this very name")]
pub struct ScopeProperties {
    pub oom_policy: Option<OomPolicy>,
    pub runtime_max_usec: Option<u64>,
    pub runtime_randomized_extra_usec: Option<u64>,
}

/// Properties of a slice; memory in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "systemd documents each by this very name")]
pub struct SliceProperties {
    pub memory_accounting: Option<bool>,
    pub memory_min: Option<u64>,
    pub memory_low: Option<u64>,
    pub memory_high: Option<u64>,
    pub memory_max: Option<u64>,
    pub memory_swap_max: Option<u64>,
    pub tasks_accounting: Option<bool>,
    pub tasks_max: Option<u64>,
}

/// Reads a map in its order, refusing a key given twice: serde itself would let the last one win in silence.
pub(super) fn unique_keys<'de, D, K, V>(deserializer: D) -> Result<IndexMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + std::hash::Hash + Eq + fmt::Debug,
    V: Deserialize<'de>,
{
    struct UniqueKeys<K, V>(PhantomData<(K, V)>);
    impl<'de, K, V> Visitor<'de> for UniqueKeys<K, V>
    where
        K: Deserialize<'de> + std::hash::Hash + Eq + fmt::Debug,
        V: Deserialize<'de>,
    {
        type Value = IndexMap<K, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<IndexMap<K, V>, A::Error> {
            let mut entries = IndexMap::new();
            while let Some(key) = map.next_key()? {
                if entries.contains_key(&key) {
                    return Err(de::Error::custom(format!("key {key:?} given twice")));
                }
                entries.insert(key, map.next_value()?);
            }
            Ok(entries)
        }
    }
    deserializer.deserialize_map(UniqueKeys(PhantomData))
}
