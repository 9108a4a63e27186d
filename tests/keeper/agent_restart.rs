//! One agent after another.

use super::harness::*;
use crate::support::process::is_running;
use crate::support::wait::eventually;
use procstar::keeper::format::{
    AgentState, MAX_FRAME, Printing, ShutdownCommand, ToAgent, ToKeeper, VERSION,
};
use procstar::page_key::PageKey;
use serde_json::json;
use std::time::{Duration, Instant};

#[test]
fn the_next_agent_gets_all() {
    let mut keeper = TestKeeper::new();
    let gate = keeper.dir.path().join("gate");
    let mut agent = keeper.agent();
    let input = || Some(request(json!({"i": sh("echo input"), "j": sh("exit 1")})));
    let welcome = agent.hello(input());
    assert_eq!(welcome.brief().len(), 2);
    let told =
        [brief(&agent.next()), brief(&agent.next()), brief(&agent.next()), brief(&agent.next())];
    assert!(told.contains(&"ended i 0".into()) && told.contains(&"ended j 256".into()), "{told:?}");
    // Out of the order of their ends and of the alphabet.
    agent.launch(json!({"z": until_exists(&gate, "echo z")}));
    for (id, code) in [("a", 2), ("gone", 0), ("m", 3)] {
        agent.launch(json!({id: sh(&format!("exit {code}"))}));
        agent.until(&format!("ended {id} {}", code << 8));
    }
    let memory = AgentState {
        conn_id: Some("me".into()),
        orders: vec![ShutdownCommand::Idle, ShutdownCommand::GiveUp],
        any: true,
        given: vec![1, 2],
        printing: Printing::Begun,
        log_level: None,
        page_key: Some(PageKey::random()),
    };
    agent.tell(&ToKeeper::Remember(AgentState::default()));
    agent.tell(&ToKeeper::Remember(memory.clone()));
    agent.forget("gone");
    agent.heard();
    let before = agent.pid;
    agent.die();
    let mut agent = keeper.agent();
    assert!(agent.again && agent.pid != before);
    // INPUT is not started again, though this one names it.
    let welcome = agent.hello(input());
    assert!(!welcome.first);
    assert_eq!(welcome.memory, memory);
    let brief_of = welcome.brief();
    assert_eq!(brief_of[2..], ["z: running", "a: ended 512", "m: ended 768"]);
    assert_eq!(brief_of[..2], ["i: ended 0", "j: ended 256"]);
    let i = welcome.records[0].ended.as_ref().unwrap();
    assert_eq!(stdout(&i.captures), "input\n");
    std::fs::write(gate, "").unwrap();
    let ToAgent::Ended(z) = agent.next() else { panic!("no end") };
    assert_eq!((z.id.as_str(), stdout(&z.captures)), ("z", "z\n".into()));
    agent.bye(0);
    assert_eq!(keeper.ended(), Some(0));
}

#[test]
fn an_end_that_nobody_heard_is_told_once() {
    let keeper = TestKeeper::new();
    let gate = keeper.dir.path().join("gate");
    let (mut agent, _) = keeper.welcomed();
    agent.launch(json!({"a": until_exists(&gate, "exit 4"), "b": until_exists(&gate, "exit 5")}));
    agent.until("started b");
    agent.die();
    let mut agent = keeper.agent();
    std::fs::write(gate, "").unwrap();
    let welcome = agent.hello(None);
    let mut known: Vec<String> = welcome.brief();
    known.retain(|record| record.contains("ended"));
    while known.len() < 2 {
        match agent.next() {
            ToAgent::Ended(ended) => known.push(format!("{}: ended {}", ended.id, ended.status)),
            other => panic!("{} once more", brief(&other)),
        }
    }
    known.sort();
    assert_eq!(known, ["a: ended 1024", "b: ended 1280"]);
    // And nothing else.
    agent.heard();
}

#[test]
fn agents_that_die_young_come_back_later_and_later() {
    let keeper = TestKeeper::new();
    let (agent, _) = keeper.welcomed();
    agent.die();
    let waits: Vec<Duration> = (0..4)
        .map(|_| {
            let died = Instant::now();
            let (agent, _) = keeper.welcomed();
            let wait = died.elapsed();
            agent.die();
            wait
        })
        .collect();
    // How long a process takes to start comes on top.
    for (wait, least) in waits.iter().zip([50, 100, 200, 400]) {
        assert!(*wait >= Duration::from_millis(least - 5), "{waits:?}");
    }
}

#[test]
fn an_agent_that_ends_before_its_introduction_ends_the_keeper() {
    let mut keeper = TestKeeper::new();
    keeper.agent().exit(42);
    assert_eq!(keeper.ended(), Some(42));
    assert_eq!(keeper.remains(), 0);
}

#[test]
fn agents_that_never_say_a_word_are_given_up() {
    let mut keeper = TestKeeper::new();
    for _ in 0..5 {
        keeper.agent().die();
    }
    assert_eq!(keeper.ended(), Some(1));
}

#[test]
fn another_version_is_refused() {
    let mut keeper = TestKeeper::new();
    let mut agent = keeper.agent();
    agent.tell(&agent.greeting(VERSION + 1, None));
    let refused = brief(&agent.next());
    assert!(refused.starts_with("refused: the keeper speaks version"), "{refused}");
    agent.exit(2);
    assert_eq!(keeper.ended(), Some(2));
    assert_eq!(keeper.remains(), 0);
}

#[test]
fn another_version_later_costs_no_process() {
    let keeper = TestKeeper::new();
    let gate = keeper.dir.path().join("gate");
    let (mut agent, _) = keeper.welcomed();
    agent.launch(json!({"a": until_exists(&gate, "exit 4")}));
    agent.until("started a");
    agent.die();
    let mut agent = keeper.agent();
    agent.tell(&agent.greeting(VERSION + 1, None));
    assert!(brief(&agent.next()).starts_with("refused"));
    agent.exit(2);
    let (mut agent, welcome) = keeper.welcomed();
    assert_eq!(welcome.brief(), ["a: running"]);
    std::fs::write(gate, "").unwrap();
    agent.until("ended a 1024");
}

#[test]
fn a_directory_that_cannot_be_used_is_said() {
    let mut keeper = TestKeeper::new();
    keeper.settings.state_dir = Some(keeper.dir.path().join("no/such"));
    let mut agent = keeper.agent();
    agent.tell(&agent.greeting(VERSION, Some(request(json!({"a": sh("")})))));
    let refused = brief(&agent.next());
    assert!(refused.starts_with("refused: cannot use state directory"), "{refused}");
    agent.exit(2);
    assert_eq!(keeper.ended(), Some(2));
}

#[test]
fn agents_that_talk_nonsense_are_replaced_and_no_process_is_lost() {
    let keeper = TestKeeper::new();
    let gate = keeper.dir.path().join("gate");
    let (mut agent, _) = keeper.welcomed();
    agent.launch(json!({"a": until_exists(&gate, "exit 4")}));
    agent.until("started a");
    let launch = frame(&ToKeeper::Launch(request(json!({"b": sh("")}))));
    let too_large = u32::try_from(MAX_FRAME + 1).unwrap().to_be_bytes();
    // Garbage with a plausible length; no map at all; a frame too large.
    for nonsense in [&b"\0\0\0\x04zzzz"[..], b"\0\0\0\0", &too_large] {
        agent.raw(nonsense);
        assert!(agent.try_next().is_none(), "it is killed");
        let welcome;
        (agent, welcome) = keeper.welcomed();
        assert_eq!(welcome.brief(), ["a: running"]);
    }
    // Cut off in the header, in the body, before the last byte: it never was.
    for cut in [2, launch.len() - 1] {
        agent.raw(&launch[..cut]);
        agent.exit(0);
        let welcome;
        (agent, welcome) = keeper.welcomed();
        assert_eq!(welcome.brief(), ["a: running"]);
    }
    std::fs::write(gate, "").unwrap();
    agent.until("ended a 1024");
}

#[test]
fn an_agent_that_closes_its_socket_is_replaced() {
    let keeper = TestKeeper::new();
    let (agent, _) = keeper.welcomed();
    let pid = agent.pid;
    agent.close();
    let (_, welcome) = keeper.welcomed();
    assert!(!welcome.first && !is_running(pid.as_raw()));
}

#[test]
fn what_comes_before_the_introduction_is_not_done() {
    let keeper = TestKeeper::new();
    let mut agent = keeper.agent();
    agent.launch(json!({"a": sh("")}));
    agent.tell(&ToKeeper::Forget("a".into()));
    agent.tell(&ToKeeper::Remember(AgentState { any: true, ..AgentState::default() }));
    let welcome = agent.hello(None);
    assert!(welcome.first && welcome.records.is_empty() && !welcome.memory.any);
}

/// Confirmed, it is in no later agent's list and in no journal; what runs, or is not there, is not forgotten.
#[test]
fn what_is_said_to_be_forgotten_is() {
    let mut keeper = TestKeeper::with_state_dir();
    let gate = keeper.dir.path().join("gate");
    let (mut agent, _) = keeper.welcomed();
    agent.launch(json!({"runs": until_exists(&gate, ""), "gone": sh("")}));
    agent.until("ended gone 0");
    agent.tell(&ToKeeper::Forget("runs".into()));
    agent.tell(&ToKeeper::Forget("gone".into()));
    agent.until("forgotten gone");
    let journal = keeper.settings.state_dir.as_ref().unwrap().join("journal");
    let ids = |records: &[procstar::keeper::format::ProcessEntry]| {
        records.iter().map(|record| record.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&procstar::keeper::journal::read(&journal).unwrap()), ["runs"]);
    agent.die();
    let (mut agent, welcome) = keeper.welcomed();
    assert_eq!(welcome.brief(), ["runs: running"]);
    // An agent before this one may have asked for it.
    agent.tell(&ToKeeper::Forget("gone".into()));
    assert_eq!(brief(&agent.next()), "forgotten gone");
    agent.die();
    keeper.restart_keeper();
    let (mut agent, welcome) = keeper.welcomed();
    assert_eq!(ids(&welcome.records), ["runs"]);
    std::fs::write(gate, "").unwrap();
    assert!(brief(&agent.next()).starts_with("ended runs"));
}

/// A goodbye stands, though a wish for an upgrade comes between it and the agent's end.
#[test]
fn an_upgrade_does_not_take_back_a_goodbye() {
    let mut keeper = TestKeeper::with_state_dir();
    let (mut agent, _) = keeper.welcomed();
    agent.launch(json!({"a": sh("exit 3")}));
    agent.until("ended a 768");
    agent.tell(&ToKeeper::Bye { code: 5, signal: None });
    agent.heard();
    // Not by us: from the leader of our session it would be the terminal's hangup.
    let pid = keeper.pid().to_string();
    assert!(std::process::Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    eventually("the refusal", || keeper.log().contains("all is done, and the program ends"));
    agent.exit(0);
    assert_eq!(keeper.ended(), Some(5));
}
