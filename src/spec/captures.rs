//! Captures in specs: the storage and the presentation of output, as serde reads and writes them.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::quantity::ByteSize;

/// `{"capture": {"mode": ..., "encoding": ..., "attached": ..., ...}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct CaptureSpec {
    /// Where the output is kept.
    pub mode: CaptureMode,
    /// The encoding of the output in results; null means base64.
    pub encoding: Option<Encoding>,
    /// Whether results contain the output, or only its length.
    pub attached: bool,
    /// How much output is kept; by default, the limits of the configuration, or all output.
    pub keep: Option<KeepSpec>,
    /// The compression of the output while it is captured.
    pub compress: Option<Compression>,
    /// The file in which the output is kept, instead of a temporary one.
    pub file: Option<CaptureFile>,
    /// The requested size of the pipe, through which output is then captured; the kernel may grant
    /// less.
    #[serde(deserialize_with = "pipe_size")]
    #[schemars(with = "Option<ByteSize>")]
    pub pipe_size: Option<u32>,
    /// Whether the order and time of each chunk of output are recorded, so that several fds can be
    /// shown interleaved.
    pub chunk_times: bool,
}

impl Default for CaptureSpec {
    fn default() -> Self {
        CaptureSpec {
            mode: CaptureMode::default(),
            encoding: None,
            attached: true,
            keep: None,
            compress: None,
            file: None,
            pipe_size: None,
            chunk_times: false,
        }
    }
}

/// Where captured output is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CaptureMode {
    /// In a temporary file to which the process writes directly.
    #[default]
    Tempfile,
    /// In memory, through a pipe.
    Memory,
}

/// The encoding of captured output in results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Encoding {
    /// Text, with invalid bytes replaced.
    #[serde(rename = "utf-8")]
    Utf8,
    /// Base64, as with null.
    #[serde(rename = "base64")]
    Base64,
    /// Base2048, with 11 bits per character, in the alphabet of the Rust crate `base2048`.
    #[serde(rename = "base2048")]
    Base2048,
}

/// How much output is kept: its beginning, its end, or both. Output in between is counted and
/// dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct KeepSpec {
    /// The number of bytes kept from the beginning.
    #[serde(deserialize_with = "size")]
    #[schemars(with = "Option<ByteSize>")]
    pub head: Option<u64>,
    /// The number of bytes kept from the end.
    #[serde(deserialize_with = "size")]
    #[schemars(with = "Option<ByteSize>")]
    pub tail: Option<u64>,
}

impl KeepSpec {
    /// Whether neither limit is given.
    pub fn is_none(&self) -> bool {
        *self == KeepSpec::default()
    }
}

/// A compression of captured output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Zstandard (RFC 8878).
    Zstd,
    /// gzip (RFC 1952).
    Gzip,
    /// Brotli (RFC 7932).
    Brotli,
}

impl Compression {
    /// The name in specs and results.
    pub fn name(self) -> &'static str {
        match self {
            Compression::Zstd => "zstd",
            Compression::Gzip => "gzip",
            Compression::Brotli => "brotli",
        }
    }
}

/// The named file of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureFile {
    /// Its absolute path. The file is created or truncated.
    pub path: String,
    /// Its permission bits, regardless of the umask.
    pub mode: u32,
    /// Whether the file remains when the process is deleted.
    pub keep: bool,
}

/// The form of a [`CaptureFile`] in specs.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
#[schemars(rename = "CaptureFile", description = "The named file of a capture.")]
struct CaptureFileKeys {
    /// Its absolute path. The file is created or truncated.
    path: String,
    /// Its permission bits, regardless of the umask.
    #[serde(default = "default_capture_file_mode")]
    mode: u32,
    /// Whether the file is deleted together with the process.
    #[serde(default)]
    delete_with_process: bool,
}

fn default_capture_file_mode() -> u32 {
    0o600
}

impl From<CaptureFileKeys> for CaptureFile {
    fn from(keys: CaptureFileKeys) -> Self {
        CaptureFile { path: keys.path, mode: keys.mode, keep: !keys.delete_with_process }
    }
}

/// Journals and messages between our processes use arrays, whose last element is `keep`. Only specs
/// have `delete_with_process`.
impl Serialize for CaptureFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let CaptureFile { path, mode, keep } = self;
        if serializer.is_human_readable() {
            let (path, mode) = (path.clone(), *mode);
            let keys = CaptureFileKeys { path, mode, delete_with_process: !keep };
            Serialize::serialize(&keys, serializer)
        } else {
            (path, mode, keep).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for CaptureFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FileVisitor;
        impl<'de> Visitor<'de> for FileVisitor {
            type Value = CaptureFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CaptureFile, A::Error> {
                let map = de::value::MapAccessDeserializer::new(map);
                CaptureFileKeys::deserialize(map).map(CaptureFile::from)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<CaptureFile, A::Error> {
                let seq = de::value::SeqAccessDeserializer::new(seq);
                let (path, mode, keep) = Deserialize::deserialize(seq)?;
                Ok(CaptureFile { path, mode, keep })
            }
        }
        if deserializer.is_human_readable() {
            <CaptureFileKeys as Deserialize>::deserialize(deserializer).map(CaptureFile::from)
        } else {
            deserializer.deserialize_any(FileVisitor)
        }
    }
}

impl JsonSchema for CaptureFile {
    fn schema_name() -> Cow<'static, str> {
        CaptureFileKeys::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        CaptureFileKeys::json_schema(generator)
    }
}

/// Reads a size, with or without a unit.
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Option::<ByteSize>::deserialize(deserializer).map(|size| size.map(|size| size.0))
}

fn pipe_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let too_large = |_| {
        de::Error::custom(format!("invalid size: above {} bytes; write a smaller one", u32::MAX))
    };
    size(deserializer)?.map(|size| u32::try_from(size).map_err(too_large)).transpose()
}

super::object::only_objects!(CaptureSpec, KeepSpec, CaptureFileKeys);
