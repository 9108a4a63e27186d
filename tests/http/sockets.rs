//! Messages of a client on a WebSocket: valid ones, and those that end it.

use serde_json::json;

use super::events::{Events, Socket};
use super::harness::TestServer;

/// A frame of a client, with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0xfe);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0xff);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend_from_slice(payload);
    frame
}

fn open(server: &TestServer) -> Socket {
    let mut socket = Socket::over(server.client(), "/events/ws");
    assert_eq!(socket.event()["event"], "snapshot");
    socket
}

/// Reads a Close frame; returns its code and reason.
fn read_close(socket: &mut Socket) -> (u16, String) {
    let (opcode, payload) = socket.frame();
    assert_eq!(opcode, 8);
    let (code, reason) = payload.split_at(2);
    (u16::from_be_bytes(code.try_into().unwrap()), String::from_utf8(reason.to_vec()).unwrap())
}

#[test]
fn protocol_violations_get_a_close_frame_with_a_reason() {
    let server = TestServer::new();
    let mut other = open(&server);
    let large = vec![b'x'; 65_537];
    let fragments = [frame(0x01, &large[..40_000]), frame(0x80, &large[..40_000])].concat();
    let mut declared = vec![0x82, 0xff];
    declared.extend((1u64 << 40).to_be_bytes());
    declared.extend([0; 4]);
    for (i, (bytes, code, reason)) in [
        (frame(0x81, &large), 1009, "larger than the limit of 65536"),
        (frame(0x82, &large), 1009, "larger than the limit of 65536"),
        (fragments, 1009, "larger than the limit of 65536"),
        (declared, 1009, "larger than the limit of 65536"),
        (vec![0x81, 2, b'h', b'i'], 1002, "not masked"),
        (frame(0xc1, b"hi"), 1002, "reserved bits"),
        (frame(0x83, b"hi"), 1002, "unknown opcode"),
        (frame(0x80, b"hi"), 1002, "continues nothing"),
        (frame(0x09, b"hi"), 1002, "fragmented"),
        (frame(0x89, &large[..126]), 1002, "longer"),
        (frame(0x81, b"\xff"), 1007, "not utf-8"),
        ([frame(0x01, b"\xc3"), frame(0x80, b"x")].concat(), 1007, "not utf-8"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut socket = open(&server);
        socket.0.send(&bytes);
        let (told, why) = read_close(&mut socket);
        assert_eq!(told, code, "{i}: {why}");
        let control = why.contains("more than 125") && reason == "longer";
        assert!(control || why.contains(reason), "{i}: {why}");
        // The service accepts the Close frame of the client, and ends the connection.
        socket.0.finish();
        assert!(socket.0.is_closed(), "{i}");
    }
    // Other connections are not affected.
    server.post(&json!({"a": {"argv": ["/nonexistent"]}})).data();
    assert_eq!(other.event()["event"], "ended");
}

#[test]
fn valid_messages_of_a_client_are_accepted() {
    let server = TestServer::new();
    let mut socket = open(&server);
    let character = [frame(0x01, b"\xc3"), frame(0x89, b"ping"), frame(0x80, b"\xa4")].concat();
    socket.0.send(&character);
    assert_eq!(socket.frame(), (10, b"ping".to_vec()));
    socket.0.send(frame(0x82, &[0xff; 65_536]));
    server.post(&json!({"a": {"argv": ["/nonexistent"]}})).data();
    assert_eq!(socket.event()["event"], "ended");
    socket.0.send(frame(0x88, b"\x03\xe8bye"));
    assert_eq!(read_close(&mut socket), (1000, String::new()));
    socket.0.finish();
    assert!(socket.0.is_closed());
}
