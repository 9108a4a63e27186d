//! Frames: messages in a stream of bytes, for the socket and the journal.
//!
//! A frame is the length of its body as a big-endian `u32`, and the body: MessagePack, structs as
//! arrays of their fields, variants by their names.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest frame: 1 GiB, like the largest message of the scheduler.
pub const MAX_FRAME: usize = 1 << 30;

/// An invalid frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The frame is larger than [`MAX_FRAME`].
    #[error(
        "frame of {0} bytes on the keeper's socket is too large; start fewer or smaller processes at once"
    )]
    TooLarge(usize),
    /// The body does not decode to the expected message.
    #[error(
        "invalid message on the keeper's socket: {0}; start the instance again with one version of procstar"
    )]
    Body(#[from] rmp_serde::decode::Error),
}

/// Appends a message as a frame.
///
/// # Errors
/// The message cannot be encoded or is too large; `out` is unchanged then.
pub fn encode<T: Serialize>(message: &T, out: &mut Vec<u8>) -> std::io::Result<()> {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    let written = rmp_serde::encode::write(out, message).map_err(std::io::Error::other);
    let length = out.len() - at - 4;
    let header = u32::try_from(length).ok().filter(|_| length <= MAX_FRAME);
    match (written, header, out.get_mut(at..at + 4)) {
        (Ok(()), Some(header), Some(place)) => {
            place.copy_from_slice(&header.to_be_bytes());
            Ok(())
        }
        (written, _, _) => {
            out.truncate(at);
            Err(written
                .err()
                .unwrap_or_else(|| std::io::Error::other(FrameError::TooLarge(length))))
        }
    }
}

/// The capacity that an idle decoder keeps.
const KEPT: usize = 64 * 1024;

/// Decodes messages from a stream of bytes.
#[derive(Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// The number of decoded bytes at the start of `bytes`.
    taken: usize,
}

impl Decoder {
    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > KEPT || self.taken == self.bytes.len() {
            self.bytes.drain(..self.taken);
            self.taken = 0;
            // Free the memory of a large message.
            self.bytes.shrink_to(KEPT);
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, if it is complete.
    ///
    /// # Errors
    /// The frame or its message is invalid, and the rest of the stream is lost.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let Some((header, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*header) as usize;
        if length > MAX_FRAME {
            return Err(FrameError::TooLarge(length));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = rmp_serde::from_slice(body)?;
        self.taken += 4 + length;
        if self.is_empty() && self.bytes.capacity() > KEPT {
            // The message may have contained secrets: leave no copy.
            *self = Decoder::default();
        }
        Ok(Some(message))
    }

    /// Whether all received bytes are decoded.
    pub fn is_empty(&self) -> bool {
        self.taken == self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::format::ToKeeper;
    use proptest::prelude::*;

    fn messages() -> Vec<ToKeeper> {
        vec![
            ToKeeper::Signal { id: "a".into(), signum: 15, ticket: 7 },
            ToKeeper::Forget("b".into()),
            ToKeeper::Bye { code: 1, signal: Some(2) },
        ]
    }

    proptest! {
        /// The decoded messages do not depend on the sizes of the reads.
        #[test]
        fn messages_decode_from_any_reads(sizes in prop::collection::vec(1usize..20, 1..40)) {
            let mut bytes = Vec::new();
            for message in messages() {
                encode(&message, &mut bytes).unwrap();
            }
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            let mut rest = bytes.as_slice();
            for size in sizes.into_iter().chain(std::iter::once(usize::MAX)) {
                let (piece, after) = rest.split_at(size.min(rest.len()));
                decoder.push(piece);
                rest = after;
                while let Some(message) = decoder.next_message::<ToKeeper>().unwrap() {
                    got.push(format!("{message:?}"));
                }
            }
            let wanted: Vec<_> = messages().iter().map(|m| format!("{m:?}")).collect();
            prop_assert_eq!(got, wanted);
            prop_assert!(decoder.is_empty());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next_message::<ToKeeper>() {}
        }
    }
}
