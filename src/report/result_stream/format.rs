//! The formats of results, and their limits.

/// Number of captured bytes in one piece of a stream.
pub(super) const PIECE: usize = 32 * 1024;
/// Maximum length of a string of MessagePack. Longer captures are not sent inline.
pub(super) const LONGEST: u64 = u32::MAX as u64;

/// The formats of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultFormat {
    /// JSON, on one line.
    Json,
    /// MessagePack, with maps whose keys are strings.
    MessagePack,
}
