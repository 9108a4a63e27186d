use super::*;
use crate::engine::Ended;
use crate::report::ResultStream;

fn record(id: &str) -> Arc<ProcessRecord> {
    Arc::new(ProcessRecord::of_end(Ended::unknown(id.into())))
}

fn read(mut stream: ResultStream) -> Vec<u8> {
    let mut all = Vec::new();
    while stream.fill(&mut all).unwrap() {}
    all
}

#[test]
fn messages_come_out_in_their_order() {
    let mut outbox = Outbox::default();
    assert!(outbox.is_empty() && outbox.pop().is_none());
    outbox.push(b"first".to_vec());
    outbox.push(OutMessage::Result(record("a"), AsOf::Now));
    outbox.push(b"last".to_vec());
    assert_eq!(outbox.len(), 3);
    assert!(matches!(outbox.pop(), Some(OutMessage::Ready(bytes)) if bytes == b"first"[..]));
    assert!(matches!(outbox.pop(), Some(OutMessage::Result(one, _)) if one.id.as_str() == "a"));
    assert!(matches!(outbox.pop(), Some(OutMessage::Ready(bytes)) if bytes == b"last"[..]));
    assert!(outbox.is_empty());
}

#[test]
fn an_outbox_of_many_messages_is_full() {
    let mut outbox = Outbox::default();
    for _ in 0..MAX_QUEUED {
        assert!(!outbox.is_full());
        outbox.push(OutMessage::Result(record("a"), AsOf::Now));
    }
    assert!(outbox.is_full());
    outbox.pop();
    assert!(!outbox.is_full());
}

#[test]
fn an_outbox_of_many_bytes_is_full() {
    let mut outbox = Outbox::default();
    outbox.push(vec![0; MAX_QUEUED_BYTES - 1]);
    assert!(!outbox.is_full());
    outbox.push(vec![0; 1]);
    assert!(outbox.is_full());
    outbox.pop();
    assert!(!outbox.is_full(), "the bytes are counted no more");
}

#[actix::test]
async fn ready_bytes_are_sent_as_they_are() {
    let context = Arc::new(ResultContext::default());
    let message = OutMessage::from(b"message".to_vec());
    let Ok(Body::Bytes(bytes)) = message.make(context).await else { panic!("bytes") };
    assert_eq!(bytes, b"message"[..]);
}

#[actix::test]
async fn a_result_is_made_when_it_is_sent() {
    let context = Arc::new(ResultContext::default());
    let message = OutMessage::Result(record("a"), AsOf::Now);
    let Ok(Body::Stream(stream)) = message.make(context).await else { panic!("a stream") };
    let (bytes, prefix) = (read(stream), outgoing::proc_result_prefix("a"));
    assert!(bytes.starts_with(&prefix) && bytes.len() > prefix.len());
}
