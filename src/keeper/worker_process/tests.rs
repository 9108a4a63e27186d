//! A worker of which only the socket counts.

use super::*;
use crate::keeper::format::HoldingFrame;
use crate::keeper::listeners::Address;
use std::io::{Read, Write};

/// A worker of which only the socket counts, and its other end.
pub(in crate::keeper) fn worker() -> (WorkerProcess, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let child = Command::new("/bin/sleep").arg("1000").spawn().map(|child| child.id());
    let child = WorkerPid::of(child.unwrap().cast_signed());
    let worker = WorkerProcess::of(child, None, ours).unwrap();
    (worker, theirs)
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        self.child.end();
    }
}

#[test]
fn complete_messages_arrive_if_the_stream_is_cut_anywhere() {
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    for message in [
        ToKeeper::Forget("a".into()),
        ToKeeper::Signal { id: "b".into(), signum: 9, ticket: 1 << 40 },
        ToKeeper::Bye { code: 3, signal: None },
    ] {
        encode(&message, &mut bytes).unwrap();
        ends.push(bytes.len());
    }
    let (mut worker, _) = worker();
    for at in 0..=bytes.len() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        worker.socket = Some(ours);
        worker.decoder = Decoder::default();
        theirs.write_all(&bytes[..at]).unwrap();
        drop(theirs);
        let heard = worker.receive();
        assert_eq!(heard.len(), ends.iter().filter(|end| **end <= at).count());
        assert!(worker.socket.is_none() && worker.ended().is_none());
    }
}

/// A listener arrives beside the frame that names it, whatever other frames arrive with it.
#[test]
fn a_descriptor_arrives_with_its_message() {
    let (mut worker, mut theirs) = worker();
    let hold = |port: u16| ToKeeper::Hold {
        address: Address::Tcp(([127, 0, 0, 1], port).into()),
        file: None,
        descriptor: None,
    };
    let files = [1, 2].map(|length| {
        let file = tempfile::tempfile().unwrap();
        file.set_len(length).unwrap();
        file
    });
    for (at, file) in files.iter().enumerate() {
        let mut bytes = Vec::new();
        encode(&ToKeeper::Forget("a".into()), &mut bytes).unwrap();
        encode(&hold(at as u16), &mut bytes).unwrap();
        assert_eq!(
            descriptors::send_with(theirs.as_fd(), &bytes, file.as_fd()).unwrap(),
            bytes.len()
        );
    }
    // A frame that names no listener.
    let mut bytes = Vec::new();
    encode(&hold(2), &mut bytes).unwrap();
    theirs.write_all(&bytes).unwrap();
    let mut received = Vec::new();
    for message in worker.receive() {
        if let ToKeeper::Hold { address, descriptor, .. } = message {
            let file = descriptor.map(std::fs::File::from);
            received.push((address.to_string(), file.map(|file| file.metadata().unwrap().len())));
        }
    }
    let wanted = [("127.0.0.1:0", Some(1)), ("127.0.0.1:1", Some(2)), ("127.0.0.1:2", None)];
    assert_eq!(received, wanted.map(|(address, length)| (address.to_owned(), length)));
}

#[test]
fn an_invalid_message_kills_the_worker_and_earlier_ones_count() {
    let (mut worker, mut theirs) = worker();
    let mut bytes = Vec::new();
    encode(&ToKeeper::Bye { code: 3, signal: None }, &mut bytes).unwrap();
    bytes.extend(u32::MAX.to_be_bytes());
    theirs.write_all(&bytes).unwrap();
    assert!(matches!(worker.receive()[..], [ToKeeper::Bye { code: 3, .. }]));
    let status = loop {
        if let Some(status) = worker.ended() {
            break status;
        }
        std::thread::yield_now();
    };
    assert!(!status.success());
}

#[test]
fn unread_messages_are_queued_without_blocking() {
    let (mut worker, mut theirs) = worker();
    let message = ToWorker::Refused { message: "x".repeat(10_000) };
    for _ in 0..100 {
        worker.queue(&message);
        worker.send();
    }
    assert!(worker.wants_to_send());
    theirs.set_nonblocking(true).unwrap();
    let mut decoder = Decoder::default();
    let mut buf = vec![0; READ];
    let mut heard = 0;
    while heard < 100 {
        if let Ok(n) = theirs.read(&mut buf) {
            decoder.push(&buf[..n]);
        }
        while let Some(ToWorker::Refused { .. }) = decoder.next_message().unwrap() {
            heard += 1;
        }
        worker.send();
    }
    assert!(!worker.wants_to_send() && worker.out.capacity() <= READ);
}

/// There are more descriptors than fit into one message, and more bytes than fit into the socket.
/// Each arrives once, in order, and not after its message.
#[test]
fn descriptors_arrive_with_their_messages_in_parts() {
    const COUNT: usize = 600;
    let (mut worker, theirs) = worker();
    let pipe = || std::io::pipe().unwrap();
    worker.queue_for_holder(&ToWorker::Released("not a holder".into()), Vec::new());
    assert!(!worker.wants_to_send());
    worker.make_holder();
    let mut writers = Vec::new();
    for n in 0..COUNT {
        let (reader, writer) = pipe();
        writers.push(writer);
        let frame = HoldingFrame {
            id: format!("{n}{}", "x".repeat(900)).as_str().into(),
            pidfd: Some(true),
            captures: Vec::new(),
        };
        worker.queue_for_holder(&ToWorker::Held(frame), vec![Arc::new(reader.into())]);
        worker.queue(&ToWorker::Forgotten("beside".into()));
    }
    let mut decoder = Decoder::default();
    let (mut fds, mut buf, mut heard) = (VecDeque::new(), vec![0; 10_000], 0);
    while heard < COUNT {
        worker.send();
        let received = descriptors::receive_with(theirs.as_fd(), &mut buf, &mut fds).unwrap();
        assert!(!received.incomplete);
        decoder.push(&buf[..received.bytes]);
        while let Some(message) = decoder.next_message::<ToWorker>().unwrap() {
            let ToWorker::Held(frame) = message else { continue };
            assert!(frame.id.as_ref().starts_with(&format!("{heard}x")));
            writers[heard].write_all(&[heard as u8]).unwrap();
            let mut byte = [0];
            std::fs::File::from(fds.pop_front().unwrap()).read_exact(&mut byte).unwrap();
            assert_eq!(byte, [heard as u8]);
            heard += 1;
        }
    }
    assert!(fds.is_empty() && worker.attached.is_empty());
}
