//! The results: a snapshot, then every change and every answer, in one order.

use std::sync::Arc;

use actix::{Actor, Addr};
use procstar::actors::messages::{
    Announce, Change, Changed, Dated, Query, Question, Removed, Reply, ShutdownChanged,
    ShutdownState,
};
use procstar::actors::results::Results;
use procstar::engine::Event;
use procstar::report::{OutputView, ResultContext, ResultStream};
use procstar::sampler::ProcReader;
use proptest::prelude::*;

use super::answer_order::changed;
use super::harness::*;

fn results() -> Addr<Results> {
    tokio::time::pause();
    Results::default().start()
}

/// Asks a question. Returns the sequence number of the last change in the answer, and the answer as
/// text.
fn ask(
    results: &Addr<Results>,
    question: Question,
) -> impl Future<Output = (u64, String)> + 'static {
    let answer = results.send(Query(question));
    async {
        let Dated { seq, value } = answer.await.unwrap();
        let names = |ids: Vec<&str>| ids.join(" ");
        let text = match &value {
            Reply::Ids(ids) => {
                format!("ids [{}]", names(ids.iter().map(|id| id.as_str()).collect()))
            }
            Reply::Record(None) => "none".into(),
            Reply::Record(Some(record)) => {
                let state = if record.is_running() { "running" } else { "ended" };
                format!("{} {state}", record.id)
            }
            Reply::Running(all) => {
                format!(
                    "running [{}]",
                    names(all.iter().map(|record| record.id.as_str()).collect())
                )
            }
            Reply::Now => "now".into(),
        };
        (seq, text)
    }
}

fn announce(results: &Addr<Results>, ids: &[&str]) {
    ids.iter().for_each(|id| results.do_send(Announce((*id).into())));
}

/// A failure to stop is in the result of a running process at once, and sends no result by itself.
#[actix::test]
async fn failures_to_stop_are_in_the_result() {
    let results = results();
    announce(&results, &["a"]);
    let (journal, _) = subscriber(&results);
    let Event::StopFailed { failures, .. } = stop_failed("a", 7) else { unreachable!() };
    let with = |event| {
        let Changed(record) = changed(event);
        Changed(Arc::new((*record).clone().with_stop_failures(failures.clone())))
    };
    results.do_send(changed(started("a")));
    results.do_send(with(started("a")));
    let record = async || match results.send(Query(Question::Record("a".into()))).await.unwrap() {
        Dated { value: Reply::Record(Some(record)), .. } => record,
        _ => panic!("the process has started"),
    };
    let running = record().await;
    results.do_send(with(ended("a", 0)));
    let over = record().await;
    settle().await;
    assert_eq!(journal.read(), ["snapshot [a] active", "started a", "ended a"]);
    for (record, state) in [(running, "running"), (over, "terminated")] {
        let context = ResultContext::new(ProcReader::default());
        let mut stream = ResultStream::json(&record, &context, OutputView::None).unwrap();
        let mut json = Vec::new();
        while stream.fill(&mut json).unwrap() {}
        let result: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(
            (&result["state"], &result["stop_failures"][0]["pid"]),
            (&state.into(), &7.into())
        );
        assert_eq!(result["stop_failures"][0]["error"], "EPERM");
    }
}

#[actix::test]
async fn a_snapshot_then_every_change() {
    let results = results();
    announce(&results, &["b", "a"]);
    results.do_send(changed(started("a")));
    let (journal, _) = subscriber(&results);
    results.do_send(changed(started("b")));
    results.do_send(changed(ended("a", 0)));
    results.do_send(Removed("a".into()));
    results.do_send(Removed("a".into()));
    results.do_send(ShutdownChanged(ShutdownState::Idling));
    let (second, _) = subscriber(&results);
    results.do_send(ShutdownChanged(ShutdownState::Done));
    settle().await;
    let expected = [
        "snapshot [b a] active",
        "started b",
        "ended a",
        "removed a",
        "shutdown idling",
        "shutdown done",
    ];
    assert_eq!(journal.read(), expected);
    assert_eq!(second.read(), ["snapshot [b] idling", "shutdown done"]);
}

#[actix::test]
async fn a_failure_is_a_start_and_an_end() {
    let results = results();
    let (journal, _) = subscriber(&results);
    announce(&results, &["a"]);
    results.do_send(changed(failed("a")));
    settle().await;
    assert_eq!(journal.read(), ["snapshot [] active", "started a", "ended a"]);
}

#[actix::test]
async fn replies_contain_the_number_of_the_last_change() {
    let results = results();
    announce(&results, &["a", "b"]);
    let about = |question| ask(&results, question);
    assert_eq!(about(Question::Record("a".into())).await, (0, "none".into()));
    results.do_send(changed(started("b")));
    assert_eq!(about(Question::Record("b".into())).await, (1, "b running".into()));
    assert_eq!(about(Question::Record("stranger".into())).await, (1, "none".into()));
    results.do_send(changed(ended("b", 0)));
    assert_eq!(about(Question::Running).await, (2, "running []".into()));
    results.do_send(changed(started("a")));
    assert_eq!(about(Question::Running).await, (3, "running [a]".into()));
    results.do_send(changed(ended("a", 0)));
    assert_eq!(about(Question::Record("b".into())).await, (4, "b ended".into()));
    assert_eq!(about(Question::Ids).await, (4, "ids [a b]".into()));
    results.do_send(Removed("b".into()));
    assert_eq!(about(Question::Now).await, (5, "now".into()));
}

#[actix::test]
async fn a_subscription_that_is_dropped_disturbs_no_other() {
    let results = results();
    let (journal, reader) = subscriber(&results);
    let (other, _) = subscriber(&results);
    settle().await;
    reader.abort();
    settle().await;
    announce(&results, &["a"]);
    results.do_send(changed(started("a")));
    settle().await;
    assert_eq!(journal.read(), ["snapshot [] active"]);
    assert_eq!(other.read(), ["snapshot [] active", "started a"]);
}

/// One step for one of the processes.
#[derive(Clone, Copy, Debug)]
enum Act {
    Next,
    Fail,
    Delete,
    Ask,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// After random steps, the snapshot and the changes lead to the true states, and every question
    /// is answered.
    #[test]
    fn a_subscriber_can_follow(
        acts in prop::collection::vec(
            (0usize..4, prop_oneof![Just(Act::Next), Just(Act::Next), Just(Act::Fail), Just(Act::Delete), Just(Act::Ask)]),
            1..40,
        ),
        subscribe_at in 0usize..20,
    ) {
        actix::System::new().block_on(follow(acts, subscribe_at))?;
    }
}

async fn follow(acts: Vec<(usize, Act)>, subscribe_at: usize) -> Result<(), TestCaseError> {
    const IDS: [&str; 4] = ["a", "b", "c", "d"];
    let results = results();
    let mut subscribed = None;
    // 0: absent, 1: announced, 2: running, 3: ended.
    let mut states = [0; 4];
    let mut questions = Vec::new();
    for (i, (which, act)) in acts.into_iter().enumerate() {
        if i == subscribe_at {
            subscribed = Some(subscriber(&results).0);
        }
        let (id, state) = (IDS[which], &mut states[which]);
        match (act, *state) {
            (Act::Next, 0) => announce(&results, &[id]),
            (Act::Next, 1) => results.do_send(changed(started(id))),
            (Act::Next, 2) => results.do_send(changed(ended(id, 0))),
            (Act::Fail, 1) => {
                results.do_send(changed(failed(id)));
                *state = 2;
            }
            (Act::Delete, 3) => results.do_send(Removed(id.into())),
            (Act::Ask, _) => {
                questions.push(actix_rt::spawn(results.send(Query(Question::Record(id.into())))));
                continue;
            }
            _ => continue,
        }
        *state = (*state + 1) % 4;
    }
    let Some(journal) = subscribed else { return Ok(()) };
    for (id, _) in IDS.iter().zip(states).filter(|(_, state)| *state == 1) {
        results.do_send(changed(started(id)));
    }
    settle().await;
    let log = journal.read();
    prop_assert!(questions.iter().all(actix_rt::task::JoinHandle::is_finished));
    prop_assert!(log[0].starts_with("snapshot"));
    for (id, state) in IDS.iter().zip(states) {
        let mine: Vec<&str> = log[1..]
            .iter()
            .filter(|line| line.ends_with(&format!(" {id}")))
            .map(|line| line.split(' ').next().unwrap())
            .collect();
        let cycle = ["started", "ended", "removed"];
        let first = mine.first().and_then(|word| cycle.iter().position(|c| c == word));
        for (n, word) in mine.iter().enumerate() {
            prop_assert_eq!(*word, cycle[(first.unwrap_or(0) + n) % 3], "{:?}", log);
        }
        let last = mine.last().copied();
        let expected = match state {
            0 => "removed",
            3 => "ended",
            _ => "started",
        };
        prop_assert!(last.is_none_or(|last| last == expected), "{id} {state}: {log:?}");
    }
    Ok(())
}

/// Every reader keeps its own pending changes, so a change must be small.
#[test]
fn a_change_is_small() {
    assert!(size_of::<Change>() <= 64, "{}", size_of::<Change>());
}
