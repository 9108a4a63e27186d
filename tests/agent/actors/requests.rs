//! Requests and their answers: each kind, ignored messages, and a scheduler that does not read.

use std::sync::Arc;

use procstar::engine::{Captures, Ended, Event};
use procstar::net::inbound::Inbound;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::harness::*;
use super::mock_scheduler::*;
use crate::support::engine;

#[actix::test]
async fn two_results_for_each_process_in_order() {
    let (agent, mut scheduler) = Agent::registered().await;
    scheduler.start(&["a", "b"]).await;
    assert_eq!(scheduler.heard().await, ["ProcResult a running", "ProcResult b running"]);
    agent.tell_all([ended("b", 0), ended("a", 256)]);
    assert_eq!(scheduler.heard().await, ["ProcResult b terminated", "ProcResult a terminated"]);
}

#[actix::test]
async fn two_results_if_the_process_ends_at_once() {
    let (agent, mut scheduler) = Agent::registered().await;
    scheduler.start(&["a"]).await;
    settle().await;
    agent.tell(ended("a", 0));
    settle().await;
    assert_eq!(scheduler.heard().await, ["ProcResult a running", "ProcResult a terminated"]);
}

#[actix::test]
async fn a_failed_start_sends_two_results() {
    let (agent, mut scheduler) = registered_with_manual_starts().await;
    scheduler.start(&["c"]).await;
    agent.tell(failed("c"));
    for _ in 0..2 {
        let result = scheduler.message().await;
        assert_eq!(result.brief(), "ProcResult c error");
        assert_eq!(result.res["pid"], 42);
        assert_eq!(result.res["status"]["exit_code"], 127);
        assert!(result.res["errors"][0].as_str().unwrap().starts_with("execve failed: /no/such: "));
    }
    assert!(scheduler.heard().await.is_empty());
}

/// An idempotent request gets two results in every state of its process, and the second is the last
/// result of the process.
#[actix::test]
async fn an_idempotent_request_gets_two_results_of_an_existing_process() {
    let (agent, mut scheduler) = registered_with_manual_starts().await;
    let specs = json!({"a": {"argv": ["/usr/bin/true"]}});
    let start = json!({"type": "ProcStartRequest", "specs": specs, "idempotent": true});
    scheduler.say(start.clone()).await;
    // Not started yet: the process's two results answer both requests.
    scheduler.say(start.clone()).await;
    assert!(scheduler.heard().await.is_empty());
    agent.tell(started("a"));
    assert_eq!(scheduler.heard().await, ["ProcResult a running"]);
    // Running: one result now, and one at the end.
    scheduler.say(start.clone()).await;
    assert_eq!(scheduler.heard().await, ["ProcResult a running"]);
    agent.tell(ended("a", 0));
    assert_eq!(scheduler.heard().await, ["ProcResult a terminated"]);
    // Ended: both results at once.
    scheduler.say(start.clone()).await;
    assert_eq!(scheduler.heard().await, ["ProcResult a terminated", "ProcResult a terminated"]);
    let other = json!({"a": {"argv": ["/usr/bin/false"]}});
    scheduler.say(json!({"type": "ProcStartRequest", "specs": other, "idempotent": true})).await;
    let error = "RequestError \"ProcStartRequest\": process ID already in use with another spec: a; delete the process first, or choose another ID";
    assert_eq!(scheduler.heard().await, [error]);
    scheduler.say(json!({"type": "ProcStartRequest", "specs": specs, "idempotent": 1})).await;
    let error = "RequestError \"ProcStartRequest\": idempotent must be a boolean, not an integer";
    assert_eq!(scheduler.heard().await, [error]);
}

/// A registered agent whose engine reports a start only if the test sends the event.
pub async fn registered_with_manual_starts() -> (Agent, Scheduler) {
    let mut agent = Agent::with_manual_starts(options());
    let scheduler = agent.welcomed().await;
    (agent, scheduler)
}

#[actix::test]
async fn every_kind_of_request() {
    let (agent, mut scheduler) = Agent::registered().await;
    scheduler.start(&["b", "a"]).await;
    scheduler.say(json!({"type": "ProcidListRequest"})).await;
    scheduler.ask("ProcResultRequest", "b").await;
    let expected =
        ["ProcResult a running", "ProcResult b running", "ProcidList a b", "ProcResult b running"];
    assert_eq!(scheduler.heard().await, expected);
    scheduler.ask("ProcDeleteRequest", "a").await;
    assert_eq!(scheduler.heard().await, ["RequestError \"ProcDeleteRequest\": process is running"]);
    let signal = json!({"type": "ProcSignalRequest", "proc_id": "a", "signum": 10});
    scheduler.say(signal.clone()).await;
    assert!(scheduler.heard().await.is_empty());
    assert!(agent.supervised.engine.calls().contains(&Call::Signal("a".into(), 10)));
    agent.tell(ended("a", 10));
    assert_eq!(scheduler.heard().await, ["ProcResult a terminated"]);
    scheduler.say(signal).await;
    scheduler.ask("ProcDeleteRequest", "a").await;
    scheduler.say(json!({"type": "ProcidListRequest"})).await;
    let expected =
        ["RequestError \"ProcSignalRequest\": no process", "ProcDelete a", "ProcidList b"];
    assert_eq!(scheduler.heard().await, expected);
    scheduler.start(&["b", "new"]).await;
    let expected = [
        "RequestError \"ProcStartRequest\": process ID already in use: b; delete the process first, or choose another ID",
    ];
    assert_eq!(scheduler.heard().await, expected);
}

#[actix::test]
async fn a_refused_request_is_returned_byte_for_byte() {
    let (_agent, mut scheduler) = Agent::registered().await;
    let requests: [&[u8]; 4] = [
        // Unusual key types and order, a binary value, and a long encoding of a short length.
        b"\x83\xa5specs\x81\xa1x\xc0\x01\xc4\x02\xff\xfe\xa4type\xd9\x10ProcStartRequest",
        b"\x82\xa4type\xa8Nonsense\xa5extra\x93\x01\x02\xcb\x40\x09\x21\xfb\x54\x44\x2d\x18",
        b"\xdf\x00\x00\x00\x01\xa4type\xb1ProcDeleteRequest",
        b"\x82\xa4type\xb0ProcStartRequest\xa5specs\x90",
    ];
    for request in requests {
        scheduler.say_raw(request).await;
        let answer = scheduler.raw().await;
        let head = b"\x83\xa4type\xacRequestError\xa3msg";
        assert!(answer.starts_with(head), "{answer:?}");
        assert!(answer[head.len()..].starts_with(request), "{answer:?}");
        assert!(answer[head.len() + request.len()..].starts_with(b"\xa3err"), "{answer:?}");
    }
}

#[actix::test]
async fn a_malformed_message_gets_no_answer() {
    let (_agent, mut scheduler) = Agent::registered().await;
    for nothing in [&b""[..], b"\xc0", b"hello", b"\x93\x01\x02\x03", b"\x81\xa1a\x01", b"\x81"] {
        scheduler.say_raw(nothing).await;
    }
    scheduler.say(json!({"type": "Registered"})).await;
    scheduler.say(json!({"type": "ProcidListRequest"})).await;
    assert_eq!(scheduler.heard().await, ["ProcidList "]);
}

#[actix::test]
async fn requests_before_the_registration_are_ignored() {
    let mut agent = Agent::new(options(), &[]);
    let mut scheduler = agent.scheduler().await;
    scheduler.start(&["a"]).await;
    scheduler.say(json!({"type": "ProcidListRequest"})).await;
    scheduler.say(json!({"type": "Nonsense"})).await;
    assert_eq!(scheduler.welcome().await, "Register  active");
    assert!(scheduler.heard().await.is_empty());
    assert!(agent.supervised.engine.calls().is_empty());
}

#[actix::test]
async fn a_missing_process_is_reported_once_until_it_exists_again() {
    let (agent, mut scheduler) = Agent::registered().await;
    let every_request = async |scheduler: &Scheduler| {
        for kind in ["ProcResultRequest", "ProcDeleteRequest", "ProcResultRequest"] {
            scheduler.ask(kind, "a").await;
        }
        scheduler.say(json!({"type": "ProcSignalRequest", "proc_id": "a", "signum": 15})).await;
        scheduler.say(json!({"type": "ProcFdDataRequest", "proc_id": "a", "fd": "stdout"})).await;
    };
    every_request(&scheduler).await;
    every_request(&scheduler).await;
    assert_eq!(scheduler.heard().await, ["ProcUnknown a"]);
    for _ in 0..2 {
        scheduler.start(&["a"]).await;
        assert_eq!(scheduler.heard().await, ["ProcResult a running"]);
        agent.tell(ended("a", 0));
        settle().await;
        scheduler.ask("ProcDeleteRequest", "a").await;
        every_request(&scheduler).await;
        assert_eq!(scheduler.heard().await, ["ProcResult a terminated", "ProcDelete a"]);
    }
    // Started and deleted by another client.
    agent.start(&["a"]).await;
    agent.tell(ended("a", 0));
    settle().await;
    agent.delete("a").await;
    every_request(&scheduler).await;
    let expected = ["ProcResult a running", "ProcResult a terminated", "ProcDelete a"];
    assert_eq!(scheduler.heard().await, expected);
    // A new connection has not received `ProcUnknown` yet.
    let (mut agent, scheduler) = (agent, scheduler);
    scheduler.lose().await;
    let mut scheduler = agent.welcomed().await;
    every_request(&scheduler).await;
    assert_eq!(scheduler.heard().await, ["ProcUnknown a"]);
}

/// Captures the output of a real process.
fn captured(script: &str) -> (Arc<Captures>, engine::EngineHarness) {
    let fds = json!([["stdout", {"capture": {"encoding": "utf-8"}}], ["3", {"capture": {"mode": "memory"}}]]);
    let (ended, harness) = engine::run(engine::sh(script, fds));
    (ended.captures, harness)
}

#[actix::test]
async fn output_by_range() {
    let (captures, _harness) = captured("printf 0123456789; printf '\\000\\377' >&3");
    let (agent, mut scheduler) = registered_with_manual_starts().await;
    scheduler.start(&["a"]).await;
    agent.tell(Event::Ended(Box::new(Ended { captures, ..end("a") })));
    scheduler.heard().await;
    for (fd, start, stop, expected) in [
        (json!("stdout"), json!(0), json!(null), "\"stdout\" 0-10 0123456789"),
        (json!("stdout"), json!(2), json!(5), "\"stdout\" 2-5 234"),
        (json!(1), json!(8), json!(100), "1 8-10 89"),
        (json!("1"), json!(10), json!(null), "\"1\" 10-10 "),
        (json!("stdout"), json!(99), json!(null), "\"stdout\" 99-99 "),
        (json!("stdout"), json!(7), json!(3), "\"stdout\" 7-7 "),
        (
            json!("stdout"),
            json!(u64::MAX),
            json!(u64::MAX),
            "\"stdout\" 18446744073709551615-18446744073709551615 ",
        ),
    ] {
        let request = json!({"type": "ProcFdDataRequest", "proc_id": "a", "fd": fd, "start": start, "stop": stop});
        scheduler.say(request).await;
        let answer = scheduler.message().await;
        assert_eq!(answer.brief(), format!("ProcFdData a {expected}"));
        assert_eq!(answer.encoding, "utf-8");
    }
    scheduler.say(json!({"type": "ProcFdDataRequest", "proc_id": "a", "fd": "3"})).await;
    let answer = scheduler.message().await;
    assert_eq!((&answer.data[..], answer.stop), (&b"\x00\xff"[..], 2));
    assert!(answer.encoding.is_null());
    for fd in [json!("stderr"), json!("nonsense"), json!(77)] {
        scheduler.say(json!({"type": "ProcFdDataRequest", "proc_id": "a", "fd": fd})).await;
        assert!(
            scheduler.message().await.brief().starts_with("RequestError \"ProcFdDataRequest\": ")
        );
    }
}

#[actix::test]
async fn a_large_result_keeps_its_place() {
    let (captures, _harness) = captured("head -c 3000000 /dev/zero | tr '\\0' x");
    let (agent, mut scheduler) = registered_with_manual_starts().await;
    scheduler.start(&["a", "b"]).await;
    agent.tell(Event::Ended(Box::new(Ended { captures, ..end("a") })));
    agent.tell(ended("b", 0));
    scheduler.say(json!({"type": "ProcidListRequest"})).await;
    for i in 0..4 {
        let result = scheduler.message().await;
        assert_eq!(result.proc_id, if i < 2 { "a" } else { "b" });
        if i < 2 {
            assert_eq!(result.res["fds"]["stdout"]["text"].as_str().unwrap().len(), 3_000_000);
        }
    }
    assert_eq!(scheduler.heard().await, ["ProcidList a b"]);
}

/// Sends requests until the agent's queue is full. Returns their number.
async fn stuff(scheduler: &Scheduler, request: &[u8]) -> usize {
    let mut said = 0;
    loop {
        settle().await;
        let item = Inbound::Message(request.to_vec().into());
        if scheduler.to_agent.try_send(item).is_err() {
            return said;
        }
        said += 1;
        assert!(said < 10_000, "it takes without end");
    }
}

#[actix::test]
async fn requests_are_not_read_while_the_scheduler_reads_no_answers() {
    let (agent, mut scheduler) = Agent::registered().await;
    agent.start(&["a"]).await;
    scheduler.heard().await;
    let list = rmp_serde::to_vec(&json!({"type": "ProcidListRequest"})).unwrap();
    let said = stuff(&scheduler, &list).await;
    assert!((20..150).contains(&said), "{said}");
    // Other clients are not delayed meanwhile.
    let begin = Instant::now();
    agent.start(&["b"]).await;
    agent.tell(ended("b", 0));
    settle().await;
    agent.delete("b").await;
    assert!(begin.elapsed() < secs(1));
    // The scheduler reads again: it receives every answer, and can send more requests.
    let heard = scheduler.heard().await;
    assert_eq!(heard.iter().filter(|line| line.starts_with("ProcidList")).count(), said);
    assert_eq!(heard.iter().filter(|line| line.ends_with(" b")).count(), 1, "{heard:?}");
    scheduler.ask("ProcResultRequest", "a").await;
    assert_eq!(scheduler.heard().await, ["ProcResult a running"]);
}

#[actix::test]
async fn large_refused_requests_are_not_queued_without_limit() {
    let (_agent, mut scheduler) = Agent::registered().await;
    let nonsense = json!({"type": "Nonsense", "much": "x".repeat(3 << 20)});
    let said = stuff(&scheduler, &rmp_serde::to_vec(&nonsense).unwrap()).await;
    assert!((8..25).contains(&said), "{said} times 3 MiB");
    assert_eq!(scheduler.heard().await.len(), said);
}

#[actix::test]
async fn running_results_are_pushed_if_an_interval_is_set() {
    let mut settings = options();
    settings.push_interval = Some(secs(5));
    let mut agent = Agent::new(settings, &[]);
    let mut scheduler = agent.welcomed().await;
    agent.start(&["a", "b"]).await;
    agent.tell(ended("b", 0));
    settle().await;
    scheduler.heard().await;
    for _ in 0..3 {
        sleep(secs(5)).await;
        assert_eq!(scheduler.heard().await, ["ProcResult a running"]);
    }
    // No more results are pushed to a scheduler that is behind.
    sleep(secs(19)).await;
    scheduler.activity.touch();
    let pushed =
        scheduler.heard().await.iter().filter(|line| line.starts_with("ProcResult")).count();
    assert!((1..=7).contains(&pushed), "{pushed}");
    agent.tell(ended("a", 0));
    settle().await;
    scheduler.heard().await;
    sleep(secs(15)).await;
    assert!(scheduler.heard().await.iter().all(|line| line == "ping"));
    scheduler.lose().await;
    let mut scheduler = agent.welcomed().await;
    agent.start(&["c"]).await;
    sleep(secs(5)).await;
    assert_eq!(scheduler.heard().await, ["ProcResult c running", "ProcResult c running"]);
}
