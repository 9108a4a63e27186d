//! Frames: messages in a stream of bytes, for the socket and the journal alike.
//!
//! A frame is the length of its body, four bytes with the highest first, and the body: MessagePack,
//! structs as arrays of their fields, variants by their names.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest frame: 1 GiB, as of a message from the server.
pub const MAX_FRAME: usize = 1 << 30;

/// A frame that is none.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// It is larger than [`MAX_FRAME`].
    #[error("frame of {0} bytes is too large")]
    TooLarge(usize),
    /// Its body is no such message.
    #[error("frame is no message: {0}")]
    Body(#[from] rmp_serde::decode::Error),
}

/// Appends a message as a frame.
///
/// # Errors
/// Where it cannot be encoded or is too large; nothing is appended then.
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

/// How much room a decoder keeps.
const KEPT: usize = 64 * 1024;

/// Takes messages from bytes as they come.
#[derive(Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// How much of `bytes` has been taken.
    taken: usize,
}

impl Decoder {
    /// Adds what has come.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > KEPT || self.taken == self.bytes.len() {
            self.bytes.drain(..self.taken);
            self.taken = 0;
            // The room of a large message is not kept.
            self.bytes.shrink_to(KEPT);
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, if the whole of it has come.
    ///
    /// # Errors
    /// What has come is no frame, or no message; nothing after it can be understood.
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
            // Given data may have been in it: that is to stay nowhere.
            *self = Decoder::default();
        }
        Ok(Some(message))
    }

    /// How many bytes have been taken as whole messages since the last [`push`](Self::push) that made room.
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
        /// However the bytes are cut, the same messages come.
        #[test]
        fn any_cut(sizes in prop::collection::vec(1usize..20, 1..40)) {
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
        fn any_bytes(bytes: Vec<u8>) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next_message::<ToKeeper>() {}
        }
    }
}
