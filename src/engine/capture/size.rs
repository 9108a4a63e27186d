//! The size of a capture, as results report it.

use serde::{Deserialize, Serialize};

/// Why captured bytes are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Loss {
    /// A process has truncated or overwritten the file: earlier output may be missing.
    Truncated,
    /// The file was removed or replaced, or cannot be reached.
    Gone,
    /// The file was changed after the end.
    Changed,
}

/// How much a capture holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureSize {
    /// Kept bytes, uncompressed.
    pub length: u64,
    /// Bytes dropped because of the limit.
    pub dropped: u64,
    /// Stored bytes: fewer than kept bytes if compressed.
    pub stored: u64,
    /// Whether the stored bytes are a complete compressed stream.
    pub whole: bool,
    /// Why captured bytes are missing, as far as the file shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
}

impl CaptureSize {
    /// The size of a capture whose file holds its plain bytes.
    pub(super) fn plain(length: u64) -> CaptureSize {
        CaptureSize { length, stored: length, ..CaptureSize::default() }
    }

    /// The size of a capture whose file cannot be read any more.
    pub(super) fn gone() -> CaptureSize {
        CaptureSize { loss: Some(Loss::Gone), ..CaptureSize::default() }
    }
}
