//! The last lines, read from the end on backwards: as much as they need, not all there is.

use super::Logs;
use super::plan::Piece;
use crate::cli::client::error::ClientError;

/// How much is read at first, in bytes; then four times as much, until it is enough.
const FIRST: u64 = 64 * 1024;

/// The last of `pieces` that have `count` lines, and how many lines more they have, at their beginning.
pub(super) async fn last_lines(
    logs: &Logs<'_>,
    pieces: Vec<Piece>,
    count: u64,
) -> Result<(Vec<Piece>, u64), ClientError> {
    if count == 0 {
        return Ok((Vec::new(), 0));
    }
    let mut room = FIRST;
    loop {
        let (last, whole) = suffix(&pieces, room);
        let mut lines = 0;
        let mut ended = true;
        logs.each(&last, |_, bytes| {
            lines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
            ended = bytes.ends_with(b"\n");
            Ok(())
        })
        .await?;
        lines += u64::from(!ended);
        // One more than wanted: the first may lack its beginning.
        if whole || lines > count {
            return Ok((last, lines.saturating_sub(count)));
        }
        room = room.saturating_mul(4);
    }
}

/// The last `room` bytes of pieces, and whether that is all of them.
fn suffix(pieces: &[Piece], room: u64) -> (Vec<Piece>, bool) {
    let mut left = room;
    let mut last = Vec::new();
    for piece in pieces.iter().rev() {
        let length = piece.length.min(left);
        last.push(Piece { offset: piece.offset + (piece.length - length), length, ..*piece });
        left -= length;
        if left == 0 {
            break;
        }
    }
    let whole = last.iter().map(|piece| piece.length).sum::<u64>()
        == pieces.iter().map(|piece| piece.length).sum::<u64>();
    last.reverse();
    (last, whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes() {
        let piece = |fd, offset, length| Piece { time: None, fd, offset, length };
        let pieces = [piece(0, 0, 10), piece(1, 0, 5), piece(0, 10, 3)];
        assert_eq!(suffix(&pieces, 100), (pieces.to_vec(), true));
        assert_eq!(suffix(&pieces, 18), (pieces.to_vec(), true));
        assert_eq!(suffix(&pieces, 4), (vec![piece(1, 4, 1), piece(0, 10, 3)], false));
        assert_eq!(suffix(&[], 4), (vec![], true));
    }
}
