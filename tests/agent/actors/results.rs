//! The results: a snapshot, then every change and every answer, in one order.

use std::sync::Arc;

use actix::{Actor, Addr};
use procstar::actors::messages::{
    Announce, Ask, Changed, GetAll, GetOne, Question, Removed, ShutdownChanged, ShutdownState,
    Subscribe, SubscriberId, Unsubscribe, Update,
};
use procstar::actors::results::Results;
use procstar::engine::Event;
use procstar::report::{OutputView, ProcessRecord, ResultContext, ResultStream};
use procstar::sampler::ProcReader;
use proptest::prelude::*;

use super::harness::*;

fn changed(event: Event) -> Changed {
    Changed(Arc::new(match event {
        Event::Started(started) => ProcessRecord::of_start(*started),
        Event::Ended(ended) => ProcessRecord::of_end(*ended),
        Event::Signaled { .. } | Event::StopFailed { .. } | Event::Suspended { .. } => {
            panic!("no change")
        }
    }))
}

fn results() -> Addr<Results> {
    tokio::time::pause();
    Results::default().start()
}

fn subscribe(results: &Addr<Results>) -> (SubscriberId, Journal, Addr<Journal>) {
    let (journal, addr, to) = subscriber();
    let id = SubscriberId::fresh();
    results.do_send(Subscribe { id, to });
    (id, journal, addr)
}

fn announce(results: &Addr<Results>, ids: &[&str]) {
    ids.iter().for_each(|id| results.do_send(Announce((*id).into())));
}

/// What has changed of a process that runs is in its result at once, and no result is sent for it.
#[actix::test]
async fn who_could_not_be_stopped_is_in_the_result() {
    let results = results();
    announce(&results, &["a"]);
    let (_, journal, _addr) = subscribe(&results);
    let Event::StopFailed { failures, .. } = stop_failed("a", 7) else { unreachable!() };
    let with = |event| {
        let Changed(record) = changed(event);
        Changed(Arc::new((*record).clone().with_stop_failures(failures.clone())))
    };
    results.do_send(changed(started("a")));
    results.do_send(with(started("a")));
    let running = results.send(GetOne("a".into())).await.unwrap().unwrap();
    results.do_send(with(ended("a", 0)));
    let over = results.send(GetOne("a".into())).await.unwrap().unwrap();
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
    let (_, journal, _addr) = subscribe(&results);
    results.do_send(changed(started("b")));
    results.do_send(changed(ended("a", 0)));
    results.do_send(Removed("a".into()));
    results.do_send(Removed("a".into()));
    results.do_send(ShutdownChanged(ShutdownState::Idling));
    let (_, second, _addr2) = subscribe(&results);
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
    let (_, journal, _addr) = subscribe(&results);
    announce(&results, &["a"]);
    results.do_send(changed(failed("a")));
    settle().await;
    assert_eq!(journal.read(), ["snapshot [] active", "started a", "ended a"]);
}

#[actix::test]
async fn questions_are_answered_in_order_and_after_the_start_they_wait_for() {
    let results = results();
    announce(&results, &["a", "b"]);
    results.do_send(changed(started("b")));
    let (id, journal, _addr) = subscribe(&results);
    let ask = |question| results.do_send(Ask { id, question });
    ask(Question::Record("b".into()));
    ask(Question::Record("stranger".into()));
    ask(Question::Record("a".into()));
    ask(Question::Running);
    ask(Question::Ids);
    ask(Question::Barrier);
    settle().await;
    assert_eq!(journal.read(), ["snapshot [a b] active", "answer b running", "answer none"]);
    results.do_send(changed(ended("b", 0)));
    settle().await;
    assert_eq!(journal.read(), ["ended b"], "what others do is told meanwhile");
    results.do_send(changed(started("a")));
    settle().await;
    let expected = [
        "started a",
        "answer a running",
        "answer running [a]",
        "answer ids [a b]",
        "answer barrier",
    ];
    assert_eq!(journal.read(), expected);
    ask(Question::Record("b".into()));
    settle().await;
    assert_eq!(journal.read(), ["answer b ended"]);
}

#[actix::test]
async fn one_subscriber_does_not_wait_for_anothers_question() {
    let results = results();
    announce(&results, &["a"]);
    let (first, journal1, _addr1) = subscribe(&results);
    let (second, journal2, _addr2) = subscribe(&results);
    results.do_send(Ask { id: first, question: Question::Record("a".into()) });
    results.do_send(Ask { id: second, question: Question::Ids });
    settle().await;
    assert_eq!(journal1.read(), ["snapshot [a] active"]);
    assert_eq!(journal2.read(), ["snapshot [a] active", "answer ids [a]"]);
}

#[actix::test]
async fn one_result_waits_for_its_start() {
    let results = results();
    announce(&results, &["a"]);
    assert!(results.send(GetOne("stranger".into())).await.unwrap().is_none());
    let waiting = actix_rt::spawn(results.send(GetOne("a".into())));
    settle().await;
    assert!(!waiting.is_finished());
    assert!(results.send(GetAll).await.unwrap().is_empty(), "it has not started");
    results.do_send(changed(started("a")));
    let record = soon(waiting).await.unwrap().unwrap().unwrap();
    assert!(record.is_running());
    results.do_send(changed(ended("a", 0)));
    let record = results.send(GetOne("a".into())).await.unwrap().unwrap();
    assert!(!record.is_running());
    let all = results.send(GetAll).await.unwrap();
    assert_eq!(all.len(), 1);
    results.do_send(Removed("a".into()));
    assert!(results.send(GetOne("a".into())).await.unwrap().is_none());
    assert!(results.send(GetAll).await.unwrap().is_empty());
}

#[actix::test]
async fn who_has_unsubscribed_or_gone_is_told_nothing() {
    let results = results();
    let (id, journal, _addr) = subscribe(&results);
    let (_, lost, lost_addr) = subscribe(&results);
    let (_, third, _addr3) = subscribe(&results);
    results.do_send(Unsubscribe(id));
    results.do_send(Ask { id, question: Question::Ids });
    settle().await;
    lost_addr.send(Die).await.unwrap();
    announce(&results, &["a"]);
    results.do_send(changed(started("a")));
    settle().await;
    assert_eq!(journal.read(), ["snapshot [] active"]);
    assert_eq!(lost.read(), ["snapshot [] active"]);
    assert_eq!(third.read(), ["snapshot [] active", "started a"]);
}

#[actix::test]
async fn a_new_subscription_of_the_same_number_replaces_the_old() {
    let results = results();
    announce(&results, &["a"]);
    let (id, old, _addr) = subscribe(&results);
    results.do_send(Ask { id, question: Question::Record("a".into()) });
    let (new, _addr2, to) = subscriber();
    results.do_send(Subscribe { id, to });
    results.do_send(changed(started("a")));
    settle().await;
    assert_eq!(old.read(), ["snapshot [a] active"]);
    assert_eq!(new.read(), ["snapshot [a] active", "started a"], "old questions are gone");
}

/// What can happen to one of a few processes.
#[derive(Clone, Copy, Debug)]
enum Act {
    Next,
    Fail,
    Delete,
    Ask,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens in whatever order, snapshot and updates give the truth, and no question stays unanswered.
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
    // 0: not there, 1: announced, 2: running, 3: ended.
    let mut states = [0; 4];
    let mut questions = 0;
    for (i, (which, act)) in acts.into_iter().enumerate() {
        if i == subscribe_at {
            subscribed = Some(subscribe(&results));
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
                if let Some((asker, ..)) = subscribed {
                    results.do_send(Ask { id: asker, question: Question::Record(id.into()) });
                    questions += 1;
                }
                continue;
            }
            _ => continue,
        }
        *state = (*state + 1) % 4;
    }
    let Some((_, journal, _addr)) = subscribed else { return Ok(()) };
    for (id, _) in IDS.iter().zip(states).filter(|(_, state)| *state == 1) {
        results.do_send(changed(started(id)));
    }
    settle().await;
    let log = journal.read();
    prop_assert_eq!(log.iter().filter(|line| line.starts_with("answer")).count(), questions);
    prop_assert!(log[0].starts_with("snapshot"));
    for (id, state) in IDS.iter().zip(states) {
        let mine: Vec<&str> = log[1..]
            .iter()
            .filter(|line| line.ends_with(&format!(" {id}")))
            .map(|line| line.split(' ').next().unwrap())
            .filter(|word| *word != "answer")
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

/// The type that tests hand around must stay small enough to be sent to every subscriber.
#[test]
fn an_update_is_small() {
    assert!(size_of::<Update>() <= 64, "{}", size_of::<Update>());
}
