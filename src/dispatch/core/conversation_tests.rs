use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::actors::shutdown::ShutdownState;
use crate::engine::{Captures, Ended, Resolved, Started, StopPolicy};

fn running(id: &str) -> Arc<ProcessRecord> {
    Arc::new(ProcessRecord::of_start(Started {
        id: id.into(),
        pid: 1,
        start: Default::default(),
        stat: None,
        statm: None,
        captures: Captures::none(),
        policy: StopPolicy::default(),
        resolved: Resolved::default(),
        group: None,
    }))
}

fn ended(id: &str) -> Arc<ProcessRecord> {
    Arc::new(ProcessRecord::of_end(Ended::unknown(id.into())))
}

/// The messages of a conversation, as words.
#[derive(Default)]
struct Transcript {
    conversation: Conversation,
    outbox: Outbox,
}

impl Transcript {
    fn change(&mut self, what: ChangeKind) -> String {
        self.conversation.change(what, &mut self.outbox);
        self.sent()
    }

    fn answer(&mut self, answer: CallAnswer) -> String {
        self.conversation.answer(answer, &mut self.outbox);
        self.sent()
    }

    fn sent(&mut self) -> String {
        let mut all = Vec::new();
        while let Some(message) = self.outbox.pop() {
            all.push(match message {
                OutMessage::Result(record, AsOf::AtStart) => format!("start {}", record.id),
                OutMessage::Result(record, AsOf::Now) => format!("now {}", record.id),
                OutMessage::Stream(_) => "stream".to_owned(),
                OutMessage::Ready(bytes) if bytes == message::proc_delete("a") => "delete a".into(),
                OutMessage::Ready(bytes) if bytes == message::proc_unknown("a") => {
                    "unknown a".into()
                }
                OutMessage::Ready(bytes) => format!("{} bytes", bytes.len()),
            });
        }
        all.join(", ")
    }
}

#[test]
fn changes_become_messages() {
    let mut talk = Transcript::default();
    assert_eq!(talk.change(ChangeKind::Started(running("a"))), "start a");
    assert_eq!(talk.change(ChangeKind::Updated(running("a"))), "", "not the final result");
    assert_eq!(talk.change(ChangeKind::Ended(ended("a"))), "now a");
    assert_eq!(talk.change(ChangeKind::Deleted("a".into())), "delete a");
    assert_eq!(talk.change(ChangeKind::Failed(ended("b"))), "start b, now b");
    let shut_down = message::shut_down("idling").len();
    let idling = ChangeKind::Shutdown(ShutdownState::Idling);
    assert_eq!(talk.change(idling), format!("{shut_down} bytes"));
}

#[test]
fn a_deleted_process_is_reported_once() {
    let mut talk = Transcript::default();
    assert_eq!(talk.answer(CallAnswer::Unknown("a".into())), "unknown a");
    assert_eq!(talk.answer(CallAnswer::Unknown("a".into())), "");
    assert_eq!(talk.change(ChangeKind::Deleted("a".into())), "");
    // Another process of this ID.
    talk.change(ChangeKind::Started(running("a")));
    assert_eq!(talk.change(ChangeKind::Deleted("a".into())), "delete a");
    assert_eq!(talk.answer(CallAnswer::Unknown("a".into())), "");
}

#[test]
fn the_record_of_deleted_processes_is_bounded() {
    let mut talk = Transcript::default();
    talk.answer(CallAnswer::Unknown("a".into()));
    for n in 1..MAX_GONE {
        talk.answer(CallAnswer::Unknown(n.to_string().as_str().into()));
    }
    assert_eq!(talk.answer(CallAnswer::Unknown("one more".into())).split(' ').count(), 2);
    assert_eq!(talk.answer(CallAnswer::Unknown("a".into())), "unknown a", "a second time");
    assert!(talk.conversation.gone.len() <= MAX_GONE);
}

#[test]
fn answers_become_messages() {
    let mut talk = Transcript::default();
    let ids = vec!["a".into(), "b".into()];
    let length = message::procid_list(&ids).len();
    assert_eq!(talk.answer(CallAnswer::Ids(ids)), format!("{length} bytes"));
    let records = vec![running("a"), ended("b")];
    assert_eq!(talk.answer(CallAnswer::Results(records)), "now a, now b");
    assert_eq!(talk.answer(CallAnswer::Done), "");
    let output = CallAnswer::Output(OutMessage::Ready(message::proc_unknown("a").into()));
    assert_eq!(talk.answer(output), "unknown a", "as it is");
    let request = Bytes::from_static(b"\x80");
    let length = message::request_error(&request, "refused").len();
    let refused = CallAnswer::Refused { request, error: "refused".into() };
    assert_eq!(talk.answer(refused), format!("{length} bytes"));
}

#[test]
fn an_idempotent_start_is_answered_by_two_results() {
    let mut talk = Transcript::default();
    let present = |talk: &mut Transcript, record| talk.answer(CallAnswer::Present(record));
    // One that runs: the second result comes with its end.
    talk.conversation.begin_repeat(["a".into()]);
    assert_eq!(present(&mut talk, running("a")), "now a");
    talk.conversation.begin_repeat(["a".into()]);
    assert_eq!(present(&mut talk, ended("a")), "now a, now a");
    // Results that were queued since the request came count.
    talk.conversation.begin_repeat(["a".into()]);
    talk.change(ChangeKind::Started(running("a")));
    assert_eq!(present(&mut talk, running("a")), "");
    talk.conversation.begin_repeat(["a".into()]);
    talk.change(ChangeKind::Ended(ended("a")));
    assert_eq!(present(&mut talk, ended("a")), "now a");
    talk.conversation.begin_repeat(["a".into()]);
    talk.change(ChangeKind::Failed(ended("a")));
    assert_eq!(present(&mut talk, ended("a")), "");
}

proptest! {
    /// A scheduler gets two results of each process, and hears once that it is gone.
    #[test]
    fn each_process_has_two_results_and_one_deletion(
        steps in prop::collection::vec((0usize..3, any::<bool>()), 0..60),
    ) {
        const IDS: [&str; 3] = ["a", "b", "c"];
        let (mut talk, mut states) = (Transcript::default(), [0; 3]);
        for (which, other) in steps {
            let (id, state) = (IDS[which], &mut states[which]);
            let (sent, results) = match (*state, other) {
                (0, false) => (talk.change(ChangeKind::Started(running(id))), 1),
                (0, true) => {
                    *state = 1;
                    (talk.change(ChangeKind::Failed(ended(id))), 2)
                }
                (1, false) => (talk.change(ChangeKind::Ended(ended(id))), 1),
                (1, true) => {
                    prop_assert_eq!(talk.change(ChangeKind::Updated(running(id))), "");
                    continue;
                }
                (_, false) => (talk.change(ChangeKind::Deleted(id.into())), 0),
                (_, true) => (talk.answer(CallAnswer::Results(vec![ended(id)])), 1),
            };
            let named = sent.matches("start ").count() + sent.matches("now ").count();
            prop_assert_eq!(named, results, "{}", sent);
            if (*state, other) != (2, true) {
                *state = (*state + 1) % 3;
            }
        }
    }
}
