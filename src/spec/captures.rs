//! What is captured of a process, and how it is kept and shown, as serde reads and writes it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `{"capture": {"mode": ..., "encoding": ..., "attached": ..., ...}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct CaptureSpec {
    /// Where the output is kept.
    pub mode: CaptureMode,
    /// How the bytes are shown in a result; null: as base64.
    pub encoding: Option<Encoding>,
    /// Whether results carry the output, or only its length.
    pub attached: bool,
    /// How much is kept; without it, what the configuration sets, or all.
    pub limit: Option<LimitSpec>,
    /// How the output is compressed while it is captured.
    pub compress: Option<Compression>,
    /// The file it is kept in, instead of one of procstar's own.
    pub file: Option<CaptureFile>,
    /// The size that is asked for the pipe, in bytes; the system may give less. Output then comes through a pipe.
    pub pipe_size: Option<u32>,
    /// Whether order and time of each piece are kept, so that several fds can be shown interleaved.
    pub pieces: bool,
}

impl Default for CaptureSpec {
    fn default() -> Self {
        CaptureSpec {
            mode: CaptureMode::default(),
            encoding: None,
            attached: true,
            limit: None,
            compress: None,
            file: None,
            pipe_size: None,
            pieces: false,
        }
    }
}

/// Where captured output is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CaptureMode {
    /// In a temporary file, which the process itself writes.
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
    /// Data in base64, as with null.
    #[serde(rename = "base64")]
    Base64,
    /// Data in base2048, 11 bits a character, in the alphabet of the Rust crate of that name.
    #[serde(rename = "base2048")]
    Base2048,
}

/// How much of the output is kept, in bytes: its beginning, its end, or both. What is between them is counted and dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct LimitSpec {
    /// So many of the first bytes.
    pub head: Option<u64>,
    /// So many of the last bytes.
    pub tail: Option<u64>,
}

impl LimitSpec {
    /// Whether neither is given.
    pub fn is_none(&self) -> bool {
        *self == LimitSpec::default()
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
    /// Its name, as in specs and results.
    pub fn name(self) -> &'static str {
        match self {
            Compression::Zstd => "zstd",
            Compression::Gzip => "gzip",
            Compression::Brotli => "brotli",
        }
    }
}

/// The named file of a capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct CaptureFile {
    /// Its path; absolute. It is created, or truncated.
    pub path: String,
    /// Its permission bits, whatever the umask.
    #[serde(default = "default_capture_file_mode")]
    pub mode: u32,
    /// Whether it stays when the process is deleted.
    #[serde(default = "default_keep")]
    pub keep: bool,
}

fn default_capture_file_mode() -> u32 {
    0o600
}

fn default_keep() -> bool {
    true
}

super::object::only_objects!(CaptureSpec, LimitSpec, CaptureFile);
