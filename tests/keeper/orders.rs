//! What signals order, with and without an agent.

use super::world::*;
use nix::sys::signal::Signal;
use procstar::keeper::protocol::{Order, ToAgent, ToKeeper};
use serde_json::json;

#[test]
fn signals_become_orders() {
    let world = World::new();
    let (mut agent, _) = world.welcomed();
    for (signal, order) in [
        (Signal::SIGUSR1, "order Idle"),
        (Signal::SIGTERM, "order Terminate"),
        (Signal::SIGINT, "order Terminate"),
        (Signal::SIGQUIT, "order Kill"),
    ] {
        world.signal(signal);
        assert_eq!(brief(&agent.next()), order);
    }
}

#[test]
fn an_order_waits_for_an_agent() {
    let world = World::new();
    let mut agent = world.agent();
    world.signal(Signal::SIGUSR1);
    // The order is taken in before the greeting, for the keeper looks at its signals first.
    let memory = agent.hello(None).memory;
    assert_eq!(memory.orders, [Order::Idle]);
    agent.die();
    let mut agent = world.agent();
    world.signal(Signal::SIGTERM);
    let memory = agent.hello(None).memory;
    assert_eq!(memory.orders, [Order::Idle, Order::Terminate]);
}

#[test]
fn an_order_that_an_agent_took_to_its_grave_is_given_again() {
    let world = World::new();
    let (mut agent, _) = world.welcomed();
    world.signal(Signal::SIGTERM);
    assert_eq!(brief(&agent.next()), "order Terminate");
    // It remembers something, but has not noted the order.
    agent.tell(&ToKeeper::Remember(Default::default()));
    agent.die();
    let (agent, welcome) = world.welcomed();
    assert_eq!(welcome.memory.orders, [Order::Terminate]);
    agent.die();
    let (mut agent, welcome) = world.welcomed();
    assert_eq!(welcome.memory.orders, [Order::Terminate]);
    // Noted, it is not given twice.
    agent.tell(&ToKeeper::Remember(welcome.memory));
    agent.die();
    let (_, welcome) = world.welcomed();
    assert_eq!(welcome.memory.orders, [Order::Terminate]);
}

#[test]
fn without_hope_of_an_agent_the_keeper_follows_orders_itself() {
    for given_before in [true, false] {
        let mut world = World::new();
        let gate = world.place.path().join("gate");
        let (mut agent, _) = world.welcomed();
        agent.launch(json!({"a": until_exists(&gate, "")}));
        let ToAgent::Started(started) = agent.next() else { panic!("no start") };
        if given_before {
            world.signal(Signal::SIGTERM);
            agent.until("order Terminate");
        }
        agent.die();
        for _ in 1..5 {
            world.agent().die();
        }
        if !given_before {
            // Five have died; there is no agent for the next 800 ms.
            assert!(is_running(started.pid));
            eventually("all deaths to be noticed", || {
                world.log().matches("the agent has died").count() == 5
            });
            world.signal(Signal::SIGTERM);
        }
        assert_eq!(world.ended(), Some(1));
        assert!(!is_running(started.pid));
        assert_eq!(world.remains(), 0);
    }
}
