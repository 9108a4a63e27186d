//! What signals order, with and without an agent.

use super::harness::*;
use crate::support::process::is_running;
use crate::support::wait::eventually;
use nix::sys::signal::Signal;
use procstar::keeper::format::{AgentState, ShutdownCommand, ToAgent, ToKeeper};
use serde_json::json;

#[test]
fn signals_become_orders() {
    let keeper = TestKeeper::new();
    let (mut agent, _) = keeper.welcomed();
    for (signal, order) in [
        (Signal::SIGUSR1, "order Idle"),
        (Signal::SIGTERM, "order Terminate"),
        (Signal::SIGINT, "order Interrupt"),
        (Signal::SIGQUIT, "order Kill"),
    ] {
        keeper.signal(signal);
        assert_eq!(brief(&agent.next()), order);
    }
}

#[test]
fn an_order_waits_for_an_agent() {
    let keeper = TestKeeper::new();
    let mut agent = keeper.agent();
    keeper.signal(Signal::SIGUSR1);
    // The order is taken in before the greeting, for the keeper looks at its signals first.
    agent.hello(None);
    assert_eq!(brief(&agent.next()), "order Idle");
    agent.die();
    let mut agent = keeper.agent();
    keeper.signal(Signal::SIGTERM);
    agent.hello(None);
    assert_eq!(agent.until("order Terminate"), ["order Idle", "order Terminate"]);
}

#[test]
fn an_order_that_an_agent_took_to_its_grave_is_given_again() {
    let keeper = TestKeeper::new();
    let (mut agent, _) = keeper.welcomed();
    keeper.signal(Signal::SIGTERM);
    assert_eq!(brief(&agent.next()), "order Terminate");
    // It remembers something, but has not noted the order.
    agent.tell(&ToKeeper::Remember(AgentState::default()));
    agent.heard();
    agent.die();
    for _ in 0..2 {
        let (mut agent, welcome) = keeper.welcomed();
        assert_eq!(welcome.memory, AgentState::default());
        assert_eq!(brief(&agent.next()), "order Terminate");
        agent.die();
    }
    // Noted, it is in memory, and not given twice.
    let (mut agent, _) = keeper.welcomed();
    assert_eq!(brief(&agent.next()), "order Terminate");
    let noted = AgentState { orders: vec![ShutdownCommand::Terminate], ..AgentState::default() };
    agent.tell(&ToKeeper::Remember(noted.clone()));
    agent.heard();
    agent.die();
    let (mut agent, welcome) = keeper.welcomed();
    assert_eq!(welcome.memory, noted);
    agent.heard();
}

#[test]
fn an_interrupt_is_noted_as_what_it_orders() {
    let keeper = TestKeeper::new();
    let (mut agent, _) = keeper.welcomed();
    keeper.signal(Signal::SIGINT);
    assert_eq!(brief(&agent.next()), "order Interrupt");
    agent.die();
    let (mut agent, _) = keeper.welcomed();
    assert_eq!(brief(&agent.next()), "order Interrupt");
    // So do agents of every version note it: that is not given again either.
    let noted = AgentState { orders: vec![ShutdownCommand::Terminate], ..AgentState::default() };
    agent.tell(&ToKeeper::Remember(noted));
    agent.heard();
    agent.die();
    let (mut agent, _) = keeper.welcomed();
    agent.heard();
    // One that comes later is told all the same: it may be the second.
    keeper.signal(Signal::SIGINT);
    assert_eq!(brief(&agent.next()), "order Interrupt");
}

#[test]
fn an_agent_that_lives_is_not_despaired_of() {
    let keeper = TestKeeper::new();
    let gate = keeper.dir.path().join("gate");
    let (mut agent, _) = keeper.welcomed();
    agent.launch(json!({"a": until_exists(&gate, "exit 3")}));
    agent.until("started a");
    agent.die();
    for _ in 1..5 {
        keeper.agent().die();
    }
    // The sixth is well, and what it has been ordered is its business.
    let (mut agent, _) = keeper.welcomed();
    keeper.signal(Signal::SIGTERM);
    keeper.signal(Signal::SIGQUIT);
    agent.until("order Kill");
    std::fs::write(gate, "").unwrap();
    agent.until("ended a 768");
}

#[test]
fn without_hope_of_an_agent_the_keeper_follows_orders_itself() {
    for given_before in [true, false] {
        let mut keeper = TestKeeper::new();
        let gate = keeper.dir.path().join("gate");
        let (mut agent, _) = keeper.welcomed();
        agent.launch(json!({"a": until_exists(&gate, "")}));
        let ToAgent::Started(started) = agent.next() else { panic!("no start") };
        if given_before {
            keeper.signal(Signal::SIGTERM);
            agent.until("order Terminate");
        }
        agent.die();
        for _ in 1..5 {
            keeper.agent().die();
        }
        if !given_before {
            // Five have died; there is no agent for the next 800 ms.
            assert!(is_running(started.pid));
            eventually("all deaths to be noticed", || {
                keeper.log().matches("the agent has died").count() == 5
            });
            keeper.signal(Signal::SIGTERM);
        }
        assert_eq!(keeper.ended(), Some(1));
        assert!(!is_running(started.pid));
        assert_eq!(keeper.remains(), 0);
    }
}
