//! The opposite direction of [`frames`](super::frames): a peer's bytes, as they come, to whole
//! messages. Pure.
//!
//! The agent reads its scheduler's frames with it, and the HTTP service its clients': these differ
//! in the mask.
//!
//! The decoder buffers only the first bytes of a header: payload goes straight into the message
//! that is being assembled, which grows as bytes arrive and never by a declared length.

use bytes::Bytes;

use super::frames::{FrameError, MAX_CONTROL, MAX_HEADER, Opcode, is_close_code, mask};

/// An event of the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole binary message.
    Binary(Bytes),
    /// A whole text message; its bytes are not checked to be UTF-8.
    Text(Bytes),
    /// A ping, which wants a pong with the same payload.
    Ping(Bytes),
    /// A pong.
    Pong(Bytes),
    /// The end of the conversation: everything after it is ignored.
    Close {
        /// The status code, if there was one.
        code: Option<u16>,
        /// The reason, often empty.
        reason: String,
    },
}

/// A frame whose header is complete and whose payload is not.
#[derive(Clone, Copy, Debug)]
struct Open {
    opcode: Opcode,
    fin: bool,
    /// Payload bytes still to come.
    left: u64,
    /// The mask from the next of these bytes on; `None` for a server's frame.
    key: Option<[u8; 4]>,
}

/// An incremental decoder of one connection's incoming frames.
#[derive(Debug)]
pub struct Decoder {
    max_message: u64,
    /// Whether the peer is a client, which must mask its frames; a server must not.
    of_client: bool,
    header: [u8; MAX_HEADER],
    /// Number of bytes in `header`.
    have: usize,
    open: Option<Open>,
    /// The kind of the message under way, from its first frame until its last.
    kind: Option<Opcode>,
    message: Vec<u8>,
    /// Payload of the present control frame; separate, because it may interrupt a message.
    control: Vec<u8>,
    /// A Close or an error was seen: nothing more is read.
    ended: bool,
}

impl Decoder {
    /// A decoder of a server's frames that refuses messages of more than `max_message` bytes.
    #[must_use]
    pub fn new(max_message: u64) -> Self {
        Self {
            max_message,
            of_client: false,
            header: [0; MAX_HEADER],
            have: 0,
            open: None,
            kind: None,
            message: Vec::new(),
            control: Vec::new(),
            ended: false,
        }
    }

    /// A decoder of a client's frames with the same limit.
    #[must_use]
    pub fn of_client(max_message: u64) -> Self {
        Self { of_client: true, ..Self::new(max_message) }
    }

    /// Takes bytes off the front of `input` until an event is complete, and returns it; `None` when
    /// `input` is used up. Must be called until it returns `None`.
    ///
    /// # Errors
    /// The peer has violated the protocol or the limit. The decoder ignores all input after an
    /// error, as it does after a Close.
    pub fn next_event(&mut self, input: &mut &[u8]) -> Result<Option<Event>, FrameError> {
        if self.ended {
            *input = &[];
            return Ok(None);
        }
        let result = self.step(input);
        if matches!(result, Err(_) | Ok(Some(Event::Close { .. }))) {
            self.ended = true;
            self.message = Vec::new();
        }
        result
    }

    fn step(&mut self, input: &mut &[u8]) -> Result<Option<Event>, FrameError> {
        loop {
            let mut open = match self.open {
                Some(open) => open,
                None => match self.read_header(input)? {
                    Some(open) => open,
                    None => return Ok(None),
                },
            };
            let take = usize::try_from(open.left).unwrap_or(usize::MAX).min(input.len());
            let (payload, rest) = input.split_at(take);
            *input = rest;
            let room = if open.opcode.is_control() { &mut self.control } else { &mut self.message };
            let from = room.len();
            room.extend_from_slice(payload);
            if let Some(key) = &mut open.key {
                mask(room.get_mut(from..).unwrap_or_default(), *key);
                key.rotate_left(take % 4);
            }
            open.left -= take as u64;
            if open.left > 0 {
                self.open = Some(open);
                return Ok(None);
            }
            self.open = None;
            if let Some(event) = self.finish(open)? {
                return Ok(Some(event));
            }
        }
    }

    /// Collects a header's bytes; returns the frame once they are complete and valid.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<Option<Open>, FrameError> {
        loop {
            if let Some(open) = self.parse_header()? {
                self.have = 0;
                return Ok(Some(open));
            }
            let Some((&byte, rest)) = input.split_first() else { return Ok(None) };
            *input = rest;
            if let Some(place) = self.header.get_mut(self.have) {
                *place = byte;
                self.have += 1;
            }
        }
    }

    /// Checks the header as soon as its two first bytes have come, before any length.
    fn parse_header(&self) -> Result<Option<Open>, FrameError> {
        let [first, second, rest @ ..] = self.header;
        if self.have < 2 {
            return Ok(None);
        }
        if first & 0x70 != 0 {
            return Err(FrameError::ReservedBits(first & 0x70));
        }
        let opcode = Opcode::from_bits(first).ok_or(FrameError::UnknownOpcode(first & 0x0f))?;
        match (second & 0x80 != 0, self.of_client) {
            (true, false) => return Err(FrameError::Masked),
            (false, true) => return Err(FrameError::Unmasked),
            _ => {}
        }
        let (fin, short) = (first & 0x80 != 0, second & 0x7f);
        let extended = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.have < 2 + extended + if self.of_client { 4 } else { 0 } {
            return Ok(None);
        }
        let [a, b, c, d, e, f, g, h, ..] = rest;
        let left = match short {
            126 => u64::from(u16::from_be_bytes([a, b])),
            127 => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            short => u64::from(short),
        };
        let key = rest.get(extended..).and_then(|rest| rest.first_chunk().copied());
        let open = Open { opcode, fin, left, key: key.filter(|_| self.of_client) };
        self.check(open, short)?;
        Ok(Some(open))
    }

    /// Checks that a frame with that length is valid here. `short` is its 7-bit length field.
    fn check(&self, open: Open, short: u8) -> Result<(), FrameError> {
        if open.left >> 63 != 0 {
            return Err(FrameError::LengthTopBit(open.left));
        }
        if open.opcode.is_control() {
            return match (open.fin, usize::from(short) > MAX_CONTROL) {
                (false, _) => Err(FrameError::ControlFragmented),
                (true, true) => Err(FrameError::ControlTooLong(open.left)),
                (true, false) => Ok(()),
            };
        }
        match (open.opcode, self.kind) {
            (Opcode::Continuation, None) => return Err(FrameError::NothingToContinue),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(FrameError::NotContinued),
            _ => {}
        }
        let size = open.left.saturating_add(self.message.len() as u64);
        if size > self.max_message {
            return Err(FrameError::TooLarge { size, max: self.max_message });
        }
        Ok(())
    }

    /// Completes a frame; returns the event, if the frame ends one.
    fn finish(&mut self, open: Open) -> Result<Option<Event>, FrameError> {
        match open.opcode {
            Opcode::Ping => Ok(Some(Event::Ping(self.take_control()))),
            Opcode::Pong => Ok(Some(Event::Pong(self.take_control()))),
            Opcode::Close => parse_close(&self.take_control()).map(Some),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                let kind = self.kind.unwrap_or(open.opcode);
                if !open.fin {
                    self.kind = Some(kind);
                    return Ok(None);
                }
                self.kind = None;
                let message = Bytes::from(std::mem::take(&mut self.message));
                Ok(Some(match kind {
                    Opcode::Text => Event::Text(message),
                    _ => Event::Binary(message),
                }))
            }
        }
    }

    fn take_control(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.control))
    }
}

fn parse_close(payload: &[u8]) -> Result<Event, FrameError> {
    let (code, reason) = match payload {
        [] => return Ok(Event::Close { code: None, reason: String::new() }),
        [_] => return Err(FrameError::BadClose("half a status code")),
        [a, b, reason @ ..] => (u16::from_be_bytes([*a, *b]), reason),
    };
    if !is_close_code(code) {
        return Err(FrameError::BadClose("status code that may not be sent"));
    }
    let reason =
        std::str::from_utf8(reason).map_err(|_| FrameError::BadClose("reason is no utf-8"))?;
    Ok(Event::Close { code: Some(code), reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame in a server's format.
    fn frame(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![opcode.bits() | if fin { 0x80 } else { 0 }];
        match payload.len() {
            len @ 0..=125 => out.push(len as u8),
            len @ 126..=0xffff => {
                out.push(126);
                out.extend((len as u16).to_be_bytes());
            }
            len => {
                out.push(127);
                out.extend((len as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(payload);
        out
    }

    fn decode(decoder: &mut Decoder, mut input: &[u8]) -> Result<Vec<Event>, FrameError> {
        let mut events = Vec::new();
        while let Some(event) = decoder.next_event(&mut input)? {
            events.push(event);
        }
        assert!(input.is_empty(), "all input is used up");
        Ok(events)
    }

    fn decode_all(input: &[u8]) -> Result<Vec<Event>, FrameError> {
        decode(&mut Decoder::new(1 << 30), input)
    }

    fn refused(input: &[u8]) -> FrameError {
        decode_all(input).unwrap_err()
    }

    #[test]
    fn fragments_with_control_frames_between() {
        let bytes = [
            frame(Opcode::Binary, false, b"one "),
            frame(Opcode::Ping, true, b"p"),
            frame(Opcode::Continuation, false, b""),
            frame(Opcode::Pong, true, b"q"),
            frame(Opcode::Continuation, true, b"two"),
            frame(Opcode::Text, true, b"text"),
            frame(Opcode::Binary, true, b""),
            frame(Opcode::Close, true, b"\x03\xe8bye"),
            b"garbage after the end".to_vec(),
        ]
        .concat();
        assert_eq!(
            decode_all(&bytes).unwrap(),
            [
                Event::Ping("p".into()),
                Event::Pong("q".into()),
                Event::Binary("one two".into()),
                Event::Text("text".into()),
                Event::Binary("".into()),
                Event::Close { code: Some(1000), reason: "bye".into() },
            ]
        );
    }

    #[test]
    fn forbidden_frames_are_refused_by_their_first_two_bytes() {
        assert_eq!(refused(&[0xc2, 0]), FrameError::ReservedBits(0x40));
        assert_eq!(refused(&[0x92, 0]), FrameError::ReservedBits(0x10));
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            assert_eq!(refused(&[0x80 | opcode, 0]), FrameError::UnknownOpcode(opcode));
        }
        assert_eq!(refused(&[0x82, 0x80]), FrameError::Masked);
        assert_eq!(refused(&[0x09, 0]), FrameError::ControlFragmented);
        assert_eq!(refused(&[0x80, 0]), FrameError::NothingToContinue);
        let twice = [frame(Opcode::Binary, false, b"a"), frame(Opcode::Binary, true, b"b")];
        assert_eq!(refused(&twice.concat()), FrameError::NotContinued);
        assert_eq!(refused(&[0x89, 126, 0, 126]), FrameError::ControlTooLong(126));
        assert_eq!(refused(&[0x89, 126, 0, 1]), FrameError::ControlTooLong(1));
        let top = [0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(refused(&top), FrameError::LengthTopBit(1 << 63));
    }

    #[test]
    fn a_client_masks_its_frames_and_a_server_does_not() {
        use crate::net::frames::FrameBuf;

        let mut all = Vec::new();
        let mut buf = FrameBuf::new();
        for (opcode, fin, payload) in [
            (Opcode::Text, false, &b"Hel"[..]),
            (Opcode::Ping, true, b"are you there?"),
            (Opcode::Continuation, true, b"lo"),
            (Opcode::Binary, true, &[7; 70_000]),
            (Opcode::Close, true, b"\x03\xe8"),
        ] {
            buf.begin().extend_from_slice(payload);
            all.extend_from_slice(buf.seal(opcode, fin, [0x37, 0xfa, 0x21, 0x3d]));
        }
        // Whole, and in pieces that do not align with the mask.
        for size in [all.len(), 1, 3, 5, 4096] {
            let mut decoder = Decoder::of_client(1 << 20);
            let mut events = Vec::new();
            for piece in all.chunks(size) {
                events.extend(decode(&mut decoder, piece).unwrap());
            }
            let wanted = [
                Event::Ping("are you there?".into()),
                Event::Text("Hello".into()),
                Event::Binary(vec![7; 70_000].into()),
                Event::Close { code: Some(1000), reason: String::new() },
            ];
            assert!(events == wanted, "{size}");
        }
        let mut decoder = Decoder::of_client(1 << 20);
        assert_eq!(decode(&mut decoder, &[0x81, 0]), Err(FrameError::Unmasked));
    }

    #[test]
    fn close_frames_are_checked() {
        let close = |payload: &[u8]| decode_all(&frame(Opcode::Close, true, payload));
        assert_eq!(close(b"").unwrap(), [Event::Close { code: None, reason: String::new() }]);
        for bad in
            [&b"\x03"[..], b"\x03\xe7", b"\x03\xec", b"\x03\xee", b"\x13\x88", b"\x03\xe8\xff"]
        {
            assert!(matches!(close(bad), Err(FrameError::BadClose(_))), "{bad:?}");
        }
        assert!(close(b"\x0b\xb8").is_ok());
    }

    #[test]
    fn a_declared_length_costs_nothing() {
        let mut decoder = Decoder::new(u64::MAX);
        let mut bytes = vec![0x82, 127];
        bytes.extend((1u64 << 62).to_be_bytes());
        bytes.extend_from_slice(b"abc");
        assert_eq!(decode(&mut decoder, &bytes).unwrap(), []);
        assert!(decoder.message.capacity() < 1024);
    }

    #[test]
    fn the_limit_holds_before_anything_is_buffered_and_over_fragments() {
        let mut decoder = Decoder::new(1000);
        let too_large = FrameError::TooLarge { size: 1 << 32, max: 1000 };
        let header = [0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(decode(&mut decoder, &header), Err(too_large));
        assert_eq!(decode(&mut decoder, b"ignored").unwrap(), []);

        let mut decoder = Decoder::new(1000);
        let half = frame(Opcode::Binary, false, &[0; 600]);
        assert_eq!(decode(&mut decoder, &half).unwrap(), []);
        let ping = frame(Opcode::Ping, true, &[0; 125]);
        assert_eq!(decode(&mut decoder, &ping).unwrap().len(), 1);
        let more = frame(Opcode::Continuation, true, &[0; 401]);
        let size = 1001;
        assert_eq!(decode(&mut decoder, &more), Err(FrameError::TooLarge { size, max: 1000 }));

        let huge = [0x80, 127, 0x7f, 255, 255, 255, 255, 255, 255, 255];
        let mut decoder = Decoder::new(u64::MAX);
        assert_eq!(decode(&mut decoder, &half).unwrap(), []);
        assert_eq!(decode(&mut decoder, &huge).unwrap(), [], "no overflow");
    }

    /// Valid frames of a server, and their events.
    fn says() -> impl Strategy<Value = (Vec<u8>, Vec<Event>)> {
        let payload = || prop::collection::vec(any::<u8>(), 0..300);
        let control = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..=125)
                .prop_map(|p| (frame(Opcode::Ping, true, &p), Event::Ping(p.into()))),
            prop::collection::vec(any::<u8>(), 0..=125)
                .prop_map(|p| (frame(Opcode::Pong, true, &p), Event::Pong(p.into()))),
        ];
        let piece = (payload(), prop::option::of(control));
        (any::<bool>(), prop::collection::vec(piece, 1..5)).prop_map(|(text, pieces)| {
            let (mut bytes, mut events, mut whole) = (Vec::new(), Vec::new(), Vec::new());
            let last = pieces.len() - 1;
            for (i, (payload, control)) in pieces.into_iter().enumerate() {
                if let Some((frame, event)) = control {
                    bytes.extend(frame);
                    events.push(event);
                }
                let opcode = match (i, text) {
                    (0, true) => Opcode::Text,
                    (0, false) => Opcode::Binary,
                    _ => Opcode::Continuation,
                };
                bytes.extend(frame(opcode, i == last, &payload));
                whole.extend(payload);
            }
            events.push(if text { Event::Text(whole.into()) } else { Event::Binary(whole.into()) });
            (bytes, events)
        })
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_events(
            says in prop::collection::vec(says(), 1..4),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let (bytes, expected): (Vec<_>, Vec<_>) = says.into_iter().unzip();
            let (bytes, expected) = (bytes.concat(), expected.concat());
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut decoder = Decoder::new(1 << 20);
            let mut events = Vec::new();
            for cut in cuts.windows(2) {
                events.extend(decode(&mut decoder, &bytes[cut[0]..cut[1]]).unwrap());
            }
            prop_assert_eq!(&events, &expected);
            let mut decoder = Decoder::new(1 << 20);
            let bytewise: Vec<_> =
                bytes.iter().flat_map(|byte| decode(&mut decoder, &[*byte]).unwrap()).collect();
            prop_assert_eq!(bytewise, expected);
        }

        #[test]
        fn any_bytes_are_an_answer_not_a_panic(bytes: Vec<u8>) {
            let mut decoder = Decoder::new(1 << 20);
            let mut input = &bytes[..];
            while let Ok(Some(_)) = decoder.next_event(&mut input) {}
            prop_assert!(decoder.message.len() <= bytes.len());
        }
    }
}
