//! The formats of results, and their limits.

/// How many captured bytes go into one piece.
pub(super) const PIECE: usize = 32 * 1024;
/// The longest string of MessagePack; a longer capture is not shown inline.
pub(super) const LONGEST: u64 = u32::MAX as u64;

/// The formats of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultFormat {
    /// JSON, on one line.
    Json,
    /// MessagePack, maps with strings for keys.
    MessagePack,
}
