//! WebSocket frames (RFC 6455): the parts shared by both directions, and the encoders. Pure.
//!
//! awc's own codec rejects frames above 64 KiB, and buffers a whole frame before it checks the
//! size. So this module has its own; see [`decoder`](super::decoder) for the other direction.

use thiserror::Error;

/// Bytes of the longest frame header that a client writes: two, a 64-bit length, a mask key.
pub(super) const MAX_HEADER: usize = 14;

/// Capacity that [`FrameBuf::trim`] leaves of a buffer that a large message has grown, in bytes.
const KEEP_CAPACITY: usize = 256 << 10;

/// The largest payload of a ping, pong or Close frame, in bytes.
pub const MAX_CONTROL: usize = 125;

/// The kind of a frame, by its opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// A further fragment of the message that is under way.
    Continuation,
    /// The first fragment, or the whole, of a text message.
    Text,
    /// The first fragment, or the whole, of a binary message.
    Binary,
    /// The peer ends the conversation.
    Close,
    /// Asks for a pong with the same payload.
    Ping,
    /// Answers a ping.
    Pong,
}

impl Opcode {
    /// The four bits on the wire.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    /// The opcode of a header's low four bits; `None` for the reserved ones.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits & 0x0f {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    /// Whether frames of this kind may stand between the fragments of a message.
    #[must_use]
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// A violation of RFC 6455, or of our limit, by a peer. The connection cannot continue after it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// A reserved bit is set, though no extension was agreed on.
    #[error("frame has reserved bits set ({0:#04x})")]
    ReservedBits(u8),
    /// An unknown opcode.
    #[error("frame has the unknown opcode {0}")]
    UnknownOpcode(u8),
    /// Servers must not mask.
    #[error("frame from the server is masked")]
    Masked,
    /// Clients must mask.
    #[error("frame from the client is not masked")]
    Unmasked,
    /// A ping, pong or Close of more than 125 bytes.
    #[error("control frame is {0} bytes long, more than 125")]
    ControlTooLong(u64),
    /// A ping, pong or Close without its FIN bit.
    #[error("control frame is fragmented")]
    ControlFragmented,
    /// A continuation while no message is under way.
    #[error("continuation frame continues nothing")]
    NothingToContinue,
    /// A new message while the fragments of another are still to come.
    #[error("new message starts inside a fragmented one")]
    NotContinued,
    /// A 64-bit length with its top bit set.
    #[error("frame length {0:#x} has its top bit set")]
    LengthTopBit(u64),
    /// The message would be larger than the limit.
    #[error("message of at least {size} bytes is larger than the limit of {max}")]
    TooLarge {
        /// The buffered bytes plus those that the frame declares.
        size: u64,
        /// The limit, in bytes.
        max: u64,
    },
    /// A Close frame with one byte, a forbidden code, or a reason that is no UTF-8.
    #[error("close frame is invalid: {0}")]
    BadClose(&'static str),
}

impl FrameError {
    /// The status code of the Close frame that reports this error to the peer.
    #[must_use]
    pub const fn close_code(&self) -> u16 {
        match self {
            Self::TooLarge { .. } => 1009,
            _ => 1002,
        }
    }
}

/// Whether `code` is allowed in a Close frame (RFC 6455, 7.4, and the codes registered since).
#[must_use]
pub const fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The payload of a Close frame: empty without a code, the reason cut to what fits.
///
/// A code that may not be sent (1005 and 1006 stand for "none" and "lost") is left out.
#[must_use]
pub fn close_payload(code: Option<u16>, reason: &str) -> Vec<u8> {
    let Some(code) = code.filter(|&code| is_close_code(code)) else { return Vec::new() };
    let room = MAX_CONTROL - 2;
    let reason = (0..=room.min(reason.len())).rev().find_map(|end| reason.get(..end));
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.unwrap_or_default().as_bytes());
    payload
}

/// A whole frame in a server's format: one fragment, without a mask.
#[must_use]
pub fn server_frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(MAX_HEADER + payload.len());
    frame.push(0x80 | opcode.bits());
    match payload.len() {
        len @ 0..=125 => frame.push(len as u8),
        len @ 126..=0xffff => {
            frame.push(126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// Masks or unmasks `data`, whose first byte is the first of its frame's payload, by `key`.
pub fn mask(data: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = data.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= key;
    }
}

/// One outgoing frame, in a buffer that is used again for the next: so a frame is one write.
#[derive(Debug, Default)]
pub struct FrameBuf {
    /// Room for the longest header, then the payload. The header is put right before the payload
    /// once the payload's length is known.
    buf: Vec<u8>,
}

impl FrameBuf {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a new frame: the caller appends the payload to the returned buffer (and only
    /// appends).
    pub fn begin(&mut self) -> &mut Vec<u8> {
        self.buf.clear();
        self.append()
    }

    /// The buffer of the same frame, to append more of the payload.
    pub fn append(&mut self) -> &mut Vec<u8> {
        if self.buf.len() < MAX_HEADER {
            self.buf.resize(MAX_HEADER, 0);
        }
        &mut self.buf
    }

    /// Between messages: frees the memory that the frames of a large one needed.
    pub fn trim(&mut self) {
        self.buf.clear();
        self.buf.shrink_to(KEEP_CAPACITY);
    }

    /// Bytes of payload appended so far.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.buf.len().saturating_sub(MAX_HEADER)
    }

    /// Masks the payload with `key`, inserts the header before it, and returns the bytes to write.
    /// Each [`begin`](Self::begin) allows one `seal`.
    pub fn seal(&mut self, opcode: Opcode, fin: bool, key: [u8; 4]) -> &[u8] {
        let len = self.payload_len();
        self.buf.resize(MAX_HEADER + len, 0);
        let mut header = [0u8; MAX_HEADER];
        let size = header_bytes(&mut header, opcode, fin, len as u64, key);
        let start = MAX_HEADER - size;
        if let Some(room) = self.buf.get_mut(start..MAX_HEADER) {
            for (to, from) in room.iter_mut().zip(header) {
                *to = from;
            }
        }
        if let Some(payload) = self.buf.get_mut(MAX_HEADER..) {
            mask(payload, key);
        }
        self.buf.get(start..).unwrap_or_default()
    }
}

/// Writes a masked frame's header to the front of `out`; returns its size in bytes.
fn header_bytes(
    out: &mut [u8; MAX_HEADER],
    opcode: Opcode,
    fin: bool,
    len: u64,
    key: [u8; 4],
) -> usize {
    let first = opcode.bits() | if fin { 0x80 } else { 0 };
    let (short, extended) = match len {
        0..=125 => (len as u8, 0),
        126..=0xffff => (126, 2),
        _ => (127, 8),
    };
    let length = len.to_be_bytes();
    let bytes =
        [first, 0x80 | short].into_iter().chain(length.into_iter().skip(8 - extended)).chain(key);
    let mut size = 0;
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = from;
        size += 1;
    }
    size
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reverses [`FrameBuf::seal`] as a server does: opcode, FIN, unmasked payload.
    fn open(frame: &[u8]) -> (Opcode, bool, Vec<u8>) {
        let opcode = Opcode::from_bits(frame[0]).unwrap();
        assert_eq!(frame[0] & 0x70, 0);
        assert_eq!(frame[1] & 0x80, 0x80, "a client's frame is masked");
        let (len, at) = match frame[1] & 0x7f {
            126 => (u64::from(u16::from_be_bytes(frame[2..4].try_into().unwrap())), 4),
            127 => (u64::from_be_bytes(frame[2..10].try_into().unwrap()), 10),
            short => (u64::from(short), 2),
        };
        let key: [u8; 4] = frame[at..at + 4].try_into().unwrap();
        let mut payload = frame[at + 4..].to_vec();
        assert_eq!(payload.len() as u64, len);
        for (i, byte) in payload.iter_mut().enumerate() {
            *byte ^= key[i % 4];
        }
        (opcode, frame[0] & 0x80 != 0, payload)
    }

    #[test]
    fn example_of_the_rfc() {
        let mut buf = FrameBuf::new();
        buf.begin().extend_from_slice(b"Hello");
        assert_eq!(
            buf.seal(Opcode::Text, true, [0x37, 0xfa, 0x21, 0x3d]),
            [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]
        );
    }

    #[test]
    fn length_is_written_in_its_shortest_form() {
        let mut buf = FrameBuf::new();
        for (len, header) in [(0, 6), (125, 6), (126, 8), (65_535, 8), (65_536, 14)] {
            buf.begin().resize(MAX_HEADER + len, 7);
            assert_eq!(buf.seal(Opcode::Binary, true, [1, 2, 3, 4]).len(), header + len);
        }
    }

    #[test]
    fn a_close_payload_fits_and_omits_forbidden_codes() {
        assert_eq!(close_payload(Some(1000), "bye"), b"\x03\xe8bye");
        assert_eq!(close_payload(None, "bye"), b"");
        assert_eq!(close_payload(Some(1006), ""), b"");
        let long = close_payload(Some(1000), &"\u{e9}".repeat(100));
        assert_eq!(long.len(), 124, "cut before the character that does not fit");
        assert!(std::str::from_utf8(&long[2..]).is_ok());
    }

    #[test]
    fn a_buffer_gives_back_the_memory_of_a_large_message() {
        let mut buf = FrameBuf::new();
        buf.begin().resize(8 << 20, 0);
        buf.trim();
        assert!(buf.begin().capacity() <= KEEP_CAPACITY);
    }

    proptest! {
        #[test]
        fn sealed_then_opened_is_the_same(
            payload in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..300),
                prop::collection::vec(any::<u8>(), 65_500..65_600),
            ],
            key: [u8; 4],
            fin: bool,
        ) {
            let mut buf = FrameBuf::new();
            buf.begin().extend_from_slice(b"what stood there before");
            let (one, two) = payload.split_at(payload.len() / 3);
            buf.begin().extend_from_slice(one);
            buf.append().extend_from_slice(two);
            let (opcode, got_fin, got) = open(buf.seal(Opcode::Binary, fin, key));
            prop_assert_eq!(opcode, Opcode::Binary);
            prop_assert_eq!(got_fin, fin);
            prop_assert_eq!(got, payload);
        }

        #[test]
        fn masking_is_bytewise_and_its_own_inverse(data: Vec<u8>, key: [u8; 4]) {
            let mut masked = data.clone();
            mask(&mut masked, key);
            for (i, byte) in masked.iter().enumerate() {
                prop_assert_eq!(*byte, data[i] ^ key[i % 4]);
            }
            mask(&mut masked, key);
            prop_assert_eq!(masked, data);
        }
    }
}
