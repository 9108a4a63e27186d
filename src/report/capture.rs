//! The completeness of captured output.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::word::Word;
use crate::spec::Compression;

/// One captured fd, in the key `captures` of a result. It is separate from `fds`, whose entries
/// clients compare as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CaptureReport {
    /// Bytes captured so far, before any encoding and uncompressed.
    pub length: u64,
    /// Bytes dropped to stay within `keep`; `length` and `dropped` add up to all bytes read.
    pub dropped: u64,
    /// Whether these are all bytes that were written to the fd; false while the process runs.
    pub complete: bool,
    /// The reason for missing bytes, in a final result; null if none are missing, and while the
    /// process runs.
    pub reason: Option<Word<CaptureReason>>,
    /// The SHA-256 of the stored bytes, as they were at the end; null while the process runs, and
    /// if it is unknown.
    #[serde(default)]
    pub sha256: Option<String>,
    /// The file named in the spec; only present if the spec names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The compression. This key and the next are only present if the spec asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Word<Compression>>,
    /// Bytes after compression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compressed_bytes: Option<u64>,
}

/// Why a capture ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CaptureReason {
    /// A descendant of the ended process still holds the fd open, and may still write.
    HeldOpen,
    /// The process was not started as specified, so it wrote nothing.
    NotStarted,
    /// Reading or storing failed; `errors` of the result says how.
    Error,
    /// There was more output than `keep` allows; `dropped` counts the rest.
    Truncated,
    /// The process reopened its own output and truncated or overwrote it, as `> /dev/stderr` does:
    /// earlier output may be missing.
    Overwritten,
    /// The file was removed, replaced, or made unreachable.
    Gone,
    /// The file was changed after the end: what it holds is not shown.
    Changed,
}
