use actix::Actor;

use super::*;
use crate::actors::Mailboxes;
use crate::actors::messages::Shutdown;
use crate::actors::mock_supervisor::MockSupervisor;
use crate::actors::results::Results;
use crate::engine::Ended;

fn record(id: &str) -> Arc<ProcessRecord> {
    Arc::new(ProcessRecord::of_end(Ended::unknown(id.into())))
}

fn stdout() -> Fd {
    Fd::Name("stdout".into())
}

/// An answer or a lookup, as words.
fn words(answer: CallAnswer) -> String {
    match answer {
        CallAnswer::Ids(ids) => format!("ids {ids:?}"),
        CallAnswer::Results(records) => {
            format!("results {:?}", records.iter().map(|one| one.id.as_str()).collect::<Vec<_>>())
        }
        CallAnswer::Present(record) => format!("present {}", record.id),
        CallAnswer::Output(_) => "output".into(),
        CallAnswer::Unknown(id) => format!("unknown {id}"),
        CallAnswer::Refused { request, error } => {
            format!("refused {}: {error}", String::from_utf8_lossy(&request))
        }
        CallAnswer::Done => "done".into(),
    }
}

fn lookup_words(lookup: &Lookup) -> String {
    match lookup {
        Lookup::Ids => "ids".into(),
        Lookup::Result(id) => format!("result {id}"),
        Lookup::Output(id, fd, range) => format!("output {id} {fd} {range:?}"),
        Lookup::Present(id) => format!("present {id}"),
        Lookup::Running => "running".into(),
        Lookup::Changes => "changes".into(),
    }
}

/// `{ID: {"argv": ["true"]}}` as MessagePack.
fn specs(id: &str) -> Vec<u8> {
    let mut specs = vec![0x81, 0xa0 | id.len() as u8];
    specs.extend(id.as_bytes());
    specs.extend(b"\x81\xa4argv\x91\xa4true");
    specs
}

fn start(id: &str, options: StartOptions) -> Call {
    let specs = specs(id);
    Call::of(Request::Start { specs: &specs, options }).unwrap()
}

#[test]
fn every_request_has_its_call() {
    let options = StartOptions { all_or_nothing: true, idempotent: true };
    match start("a", options) {
        Call::Start(specs) => {
            assert!(specs.all_or_nothing && specs.idempotent);
            assert!(specs.procs.keys().eq([&ProcId::from("a")]));
        }
        _ => panic!("a start"),
    }
    assert!(matches!(Call::of(Request::ProcidList), Ok(Call::Ids)));
    let id = || "a".to_owned();
    let result = Call::of(Request::Result { proc_id: id() });
    assert!(matches!(result, Ok(Call::Result(found)) if found.as_str() == "a"));
    let signal = Call::of(Request::Signal { proc_id: id(), signum: 7 });
    assert!(matches!(signal, Ok(Call::Signal(found, 7)) if found.as_str() == "a"));
    let delete = Call::of(Request::Delete { proc_id: id() });
    assert!(matches!(delete, Ok(Call::Delete(found)) if found.as_str() == "a"));
    for (stop, end) in [(Some(9), 9), (None, u64::MAX)] {
        let request = Request::FdData { proc_id: id(), fd: stdout(), start: 3, stop };
        let Ok(Call::Output(_, fd, range)) = Call::of(request) else { panic!("output") };
        assert_eq!((fd, range), (stdout(), 3..end));
    }
}

#[test]
fn invalid_specs_are_an_error() {
    let request = Request::Start { specs: b"\x81\xa1a\x80", options: StartOptions::default() };
    let error = Call::of(request).err().unwrap();
    assert!(error.contains("argv"), "{error}");
}

/// Carries a call out with a mock supervisor; returns lookups or the answer as words.
async fn carried_out(call: Call) -> String {
    let results = Results::default().start();
    let handle = Handle::from(Mailboxes::of(&MockSupervisor.start(), &results));
    match call.carry_out(Bytes::from_static(b"REQUEST"), handle).await {
        Ok(lookups) => lookups.iter().map(lookup_words).collect::<Vec<_>>().join(", "),
        Err(answer) => words(answer),
    }
}

#[actix::test]
async fn calls_become_messages_and_answers() {
    let idempotent = StartOptions { idempotent: true, ..StartOptions::default() };
    for (call, expected) in [
        (start("b", StartOptions::default()), ""),
        (start("b", idempotent), "present b"),
        (
            start("a", StartOptions::default()),
            "refused REQUEST: process ID already in use: a; delete the process first, or choose another ID",
        ),
        (Call::Ids, "ids"),
        (Call::Result("b".into()), "result b"),
        (Call::Output("b".into(), stdout(), 1..2), "output b stdout 1..2"),
        (Call::Signal("a".into(), 15), ""),
        (Call::Signal("ended".into(), 15), "refused REQUEST: no process"),
        (Call::Signal("b".into(), 15), "unknown b"),
        (Call::Delete("a".into()), "refused REQUEST: process is running"),
        (Call::Delete("ended".into()), "changes"),
        (Call::Delete("b".into()), "unknown b"),
    ] {
        assert_eq!(carried_out(call).await, expected);
    }
}

#[actix::test]
async fn without_actors_every_call_is_refused() {
    let (supervisor, results) = (MockSupervisor.start(), Results::default().start());
    let handle = Handle::from(Mailboxes::of(&supervisor, &results));
    handle.shut_down(Shutdown::Kill);
    while supervisor.connected() {
        tokio::task::yield_now().await;
    }
    for call in [
        start("b", StartOptions::default()),
        Call::Result("a".into()),
        Call::Output("a".into(), stdout(), 0..1),
        Call::Signal("a".into(), 15),
        Call::Delete("a".into()),
    ] {
        let answer = call.carry_out(Bytes::from_static(b"REQUEST"), handle.clone()).await;
        let answer = answer.err().map(words);
        assert_eq!(answer.as_deref(), Some("refused REQUEST: the agent is shutting down"));
    }
}

#[test]
fn lookups_become_answers() {
    let output = || Lookup::Output("a".into(), stdout(), 0..9);
    let found = || Reply::Record(Some(record("a")));
    for (lookup, reply, expected) in [
        (Lookup::Ids, Reply::Ids(vec!["a".into()]), "ids [\"a\"]"),
        (Lookup::Running, Reply::Running(vec![record("a")]), "results [\"a\"]"),
        (Lookup::Result("a".into()), found(), "results [\"a\"]"),
        (Lookup::Result("a".into()), Reply::Record(None), "unknown a"),
        (output(), Reply::Record(None), "unknown a"),
        (output(), found(), "refused REQUEST: fd stdout of process a is not captured"),
        (Lookup::Present("a".into()), found(), "present a"),
        (Lookup::Present("a".into()), Reply::Record(None), "done"),
        (Lookup::Changes, Reply::Now, "done"),
    ] {
        let answer = words(lookup.answer_of(reply, Bytes::from_static(b"REQUEST"), 100));
        assert_eq!(answer.replace("ProcId", "").replace(['(', ')'], ""), expected);
    }
}

#[actix::test]
async fn a_lookup_has_the_number_of_the_last_change() {
    let results = Results::default().start();
    let handle = Handle::from(Mailboxes::of(&MockSupervisor.start(), &results));
    results.do_send(crate::actors::messages::Changed(record("a")));
    let answer = Lookup::Result("a".into()).answer(Bytes::new(), handle, 100).await;
    assert_eq!((answer.seq, words(answer.value)), (1, "results [\"a\"]".into()));
}
