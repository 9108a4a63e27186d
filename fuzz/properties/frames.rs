//! The decoder of WebSocket frames from a scheduler.

use procstar::net::decoder::{Decoder, Event};
use procstar::net::frames::{FrameBuf, FrameError, Opcode, close_payload, mask};

use super::Input;

/// The events do not depend on how the bytes are split, and encoded again they decode to the same
/// events. The first byte is the logarithm of the message limit, the second the size of pieces.
pub fn check(data: &[u8]) {
    let mut input = Input(data);
    let limit = 1u64 << (input.byte() % 64);
    let size = usize::from(input.byte()) + 1;
    let bytes = input.0;

    let (events, error) = decode(limit, std::iter::once(bytes));
    for size in [1, size] {
        let (cut, cut_error) = decode(limit, bytes.chunks(size));
        assert_eq!((&cut, &cut_error), (&events, &error), "in pieces of {size}");
    }

    let kept: usize = events.iter().map(payload).sum();
    assert!(kept <= bytes.len(), "{kept} bytes out of {}", bytes.len());
    let whole = |event: &Event| match event {
        Event::Binary(message) | Event::Text(message) => message.len() as u64 <= limit,
        _ => true,
    };
    assert!(events.iter().all(whole), "a message above the limit");
    if let Some(error) = error {
        assert!(matches!(error.close_code(), 1002 | 1009));
        assert!(!error.to_string().is_empty());
    }
    round_trip(&events);
}

/// Decoded events, and the error that ended the stream.
type Decoded = (Vec<Event>, Option<FrameError>);

fn decode<'a>(limit: u64, pieces: impl Iterator<Item = &'a [u8]>) -> Decoded {
    let mut decoder = Decoder::new(limit);
    let (mut events, mut error) = (Vec::new(), None);
    for mut piece in pieces {
        loop {
            let before = piece.len();
            match decoder.next_event(&mut piece) {
                Ok(Some(event)) => {
                    assert!(error.is_none(), "{event:?} after {error:?}");
                    events.push(event);
                }
                Ok(None) => break assert!(piece.is_empty(), "the decoder takes all bytes"),
                Err(found) => {
                    assert!(error.is_none(), "{found:?} after {error:?}");
                    error = Some(found);
                }
            }
            assert!(piece.len() <= before);
        }
    }
    (events, error)
}

fn payload(event: &Event) -> usize {
    match event {
        Event::Binary(data) | Event::Text(data) | Event::Ping(data) | Event::Pong(data) => {
            data.len()
        }
        Event::Close { reason, .. } => reason.len(),
    }
}

/// Frames that procstar encodes, unmasked, decode to their payloads.
fn round_trip(events: &[Event]) {
    let mut bytes = Vec::new();
    let mut buf = FrameBuf::new();
    for (i, event) in events.iter().enumerate() {
        let (opcode, payload) = match event {
            Event::Binary(data) => (Opcode::Binary, data.to_vec()),
            Event::Text(data) => (Opcode::Text, data.to_vec()),
            Event::Ping(data) => (Opcode::Ping, data.to_vec()),
            Event::Pong(data) => (Opcode::Pong, data.to_vec()),
            Event::Close { code, reason } => (Opcode::Close, close_payload(*code, reason)),
        };
        let key = (i as u32).wrapping_mul(0x9e37_79b9).to_ne_bytes();
        buf.begin().extend_from_slice(&payload);
        bytes.extend(unmasked(buf.seal(opcode, true, key), payload.len(), key));
        buf.trim();
    }
    let (again, error) = decode(u64::MAX, std::iter::once(bytes.as_slice()));
    assert_eq!((again.as_slice(), error), (events, None), "encoded again");
}

fn unmasked(frame: &[u8], payload: usize, key: [u8; 4]) -> Vec<u8> {
    let (head, body) = frame.split_at(frame.len() - payload);
    let (head, sent_key) = head.split_at(head.len() - key.len());
    assert_eq!(sent_key, key);
    let (mut head, mut body) = (head.to_vec(), body.to_vec());
    assert_eq!(head[1] & 0x80, 0x80, "clients mask");
    head[1] &= 0x7f;
    mask(&mut body, key);
    [head, body].concat()
}
