//! A connection over a stream in memory, in virtual time: limits, protocol errors of the scheduler,
//! and slow closing.
//!
//! Paused time does not advance while a task runs, and jumps to the next timer when all tasks wait.

use std::time::Duration;

use bytes::Bytes;
use procstar::net::{
    frames::FrameError,
    inbound::{Inbound, SocketError},
    socket::{Link, SocketLimits, start},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::yield_now,
    time::{Instant, advance, pause},
};

/// A link, and the scheduler's end of its stream.
fn linked(limits: SocketLimits) -> (Link, DuplexStream) {
    let (client, server) = tokio::io::duplex(1 << 16);
    (start(client, Bytes::new(), limits), server)
}

async fn lost(link: &mut Link) -> SocketError {
    match link.inbound.recv().await {
        Some(Inbound::Lost(err)) => err,
        other => panic!("{other:?}"),
    }
}

/// Reads a short control frame of the client, and returns its first byte and the unmasked payload.
async fn control(server: &mut DuplexStream) -> (u8, Vec<u8>) {
    let mut head = [0; 6];
    server.read_exact(&mut head).await.unwrap();
    let mut payload = vec![0; usize::from(head[1] & 0x7f)];
    server.read_exact(&mut payload).await.unwrap();
    for (i, byte) in payload.iter_mut().enumerate() {
        *byte ^= head[2 + i % 4];
    }
    (head[0], payload)
}

#[actix_rt::test]
async fn a_scheduler_that_breaks_the_protocol_gets_a_close_code() {
    pause();
    for (bytes, err, code) in [
        (&b"\xc2\x00"[..], FrameError::ReservedBits(0x40), 1002u16),
        (b"\x82\x7f\0\0\0\x01\0\0\0\0", FrameError::TooLarge { size: 1 << 32, max: 1000 }, 1009),
    ] {
        let (mut link, mut server) =
            linked(SocketLimits { max_message: 1000, ..SocketLimits::default() });
        server.write_all(bytes).await.unwrap();
        let found = lost(&mut link).await;
        assert!(matches!(&found, SocketError::Protocol(found) if *found == err), "{found}");
        assert_eq!(control(&mut server).await, (0x88, code.to_be_bytes().to_vec()));
        assert_eq!(server.read(&mut [0; 9]).await.unwrap(), 0, "the client closes the stream");
    }
}

#[actix_rt::test]
async fn an_unanswered_close_ends_after_its_timeout() {
    pause();
    let (mut link, mut server) = linked(SocketLimits::default());
    let begin = Instant::now();
    link.outbound.close(Some(1000), "done");
    assert_eq!(control(&mut server).await, (0x88, b"\x03\xe8done".to_vec()));
    // Messages of the scheduler are still received meanwhile.
    server.write_all(b"\x82\x02hi").await.unwrap();
    assert!(matches!(link.inbound.recv().await, Some(Inbound::Message(data)) if data == "hi"));
    assert!(matches!(lost(&mut link).await, SocketError::CloseTimeout(_)));
    assert_eq!(begin.elapsed().as_secs(), SocketLimits::default().close_answer.as_secs());
    assert_eq!(server.read(&mut [0; 9]).await.unwrap(), 0);
}

#[actix_rt::test]
async fn the_answer_to_a_close_does_not_wait_for_a_scheduler_that_reads_nothing() {
    pause();
    let (mut link, mut server) = linked(SocketLimits::default());
    assert!(link.outbound.data.try_send(Box::new(Bytes::from(vec![0; 1 << 20]))).is_ok());
    while link.outbound.data.capacity() < SocketLimits::default().outbound_queue {
        yield_now().await;
    }
    let begin = Instant::now();
    server.write_all(b"\x88\x02\x03\xe8").await.unwrap();
    assert!(matches!(link.inbound.recv().await, Some(Inbound::Close { code: Some(1000), .. })));
    assert!(begin.elapsed() < SocketLimits::default().last_word + Duration::from_millis(10));
}

#[actix_rt::test]
async fn a_blocked_writer_answers_only_the_newest_ping() {
    pause();
    let (mut link, mut server) =
        linked(SocketLimits { inbound_queue: 64, ..SocketLimits::default() });
    assert!(link.outbound.data.try_send(Box::new(Bytes::from(vec![0; 200_000]))).is_ok());
    while link.outbound.data.capacity() < SocketLimits::default().outbound_queue {
        yield_now().await;
    }
    for i in 0..20 {
        server.write_all(&[0x89, 1, i]).await.unwrap();
    }
    for i in 0..20 {
        let ping = link.inbound.recv().await;
        assert!(matches!(ping, Some(Inbound::Ping(data)) if data[..] == [i]));
    }
    // The pong follows the fragment that was being sent, before the rest of the message.
    let mut head = [0; 14];
    server.read_exact(&mut head).await.unwrap();
    assert_eq!(head[..2], [0x02, 0xff], "a first fragment");
    let mut fragment = vec![0; 65_536];
    server.read_exact(&mut fragment).await.unwrap();
    assert_eq!(control(&mut server).await, (0x8a, vec![19]));
    server.read_exact(&mut head).await.unwrap();
    assert_eq!(head[..2], [0x00, 0xff], "the next fragment");
}

#[actix_rt::test]
async fn activity_records_the_times_of_received_and_sent_bytes() {
    pause();
    let (mut link, mut server) =
        linked(SocketLimits { inbound_queue: 1, ..SocketLimits::default() });
    let start = link.activity.last_byte();
    let second = Duration::from_secs(1);
    advance(second).await;
    server.write_all(b"\x82").await.unwrap();
    while link.activity.last_byte() == start {
        yield_now().await;
    }
    assert_eq!(link.activity.last_byte() - start, second, "a part of a message counts");
    assert_eq!(link.activity.last_write(), start);
    advance(second).await;
    link.outbound.ping("p".into());
    assert_eq!(control(&mut server).await, (0x89, b"p".to_vec()));
    assert_eq!(link.activity.last_write() - start, 2 * second);

    // A link whose owner takes no message reads nothing. That does not count as a silent scheduler.
    server.write_all(b"\x01a\x82\x01b\x82\x01c").await.unwrap();
    advance(100 * second).await;
    assert!(matches!(link.inbound.recv().await, Some(Inbound::Message(data)) if data == "a"));
    assert!(matches!(link.inbound.recv().await, Some(Inbound::Message(data)) if data == "b"));
    assert!(link.activity.last_byte() - start >= 102 * second);
}

#[actix_rt::test]
async fn the_writer_sends_its_queue_and_ends_when_its_owner_is_dropped() {
    pause();
    let (link, mut server) = linked(SocketLimits::default());
    let Link { mut inbound, outbound, .. } = link;
    assert!(outbound.data.try_send(Box::new(Bytes::from_static(b"last"))).is_ok());
    drop(outbound);
    assert!(inbound.recv().await.is_none(), "the owner is not notified of its own close");
    let mut all = Vec::new();
    server.read_to_end(&mut all).await.unwrap();
    assert_eq!(all.len(), 10, "the queued message as one frame");
}
