//! What signals order, with and without a worker.

use super::harness::*;
use crate::support::process::is_running;
use crate::support::wait::eventually;
use nix::sys::signal::Signal;
use procstar::keeper::format::{ShutdownCommand, ToKeeper, ToWorker, WorkerState};
use serde_json::json;

#[test]
fn signals_become_orders() {
    let keeper = TestKeeper::new();
    let (mut worker, _) = keeper.welcomed();
    for (signal, order) in [
        (Signal::SIGUSR1, "order Idle"),
        (Signal::SIGTERM, "order Terminate"),
        (Signal::SIGINT, "order Interrupt"),
        (Signal::SIGQUIT, "order Kill"),
    ] {
        keeper.signal(signal);
        assert_eq!(brief(&worker.next()), order);
    }
}

#[test]
fn an_order_waits_for_a_worker() {
    let keeper = TestKeeper::new();
    let mut worker = keeper.worker();
    keeper.signal(Signal::SIGUSR1);
    // The keeper handles the command before the introduction, because it checks its signals first.
    worker.hello(None);
    assert_eq!(brief(&worker.next()), "order Idle");
    worker.die();
    let mut worker = keeper.worker();
    keeper.signal(Signal::SIGTERM);
    worker.hello(None);
    assert_eq!(worker.until("order Terminate"), ["order Idle", "order Terminate"]);
}

#[test]
fn an_order_that_a_worker_took_to_its_grave_is_given_again() {
    let keeper = TestKeeper::new();
    let (mut worker, _) = keeper.welcomed();
    keeper.signal(Signal::SIGTERM);
    assert_eq!(brief(&worker.next()), "order Terminate");
    // It stores a state without acknowledging the command.
    worker.tell(&ToKeeper::Remember(WorkerState::default()));
    worker.heard();
    worker.die();
    for _ in 0..2 {
        let (mut worker, welcome) = keeper.welcomed();
        assert_eq!(welcome.memory, WorkerState::default());
        assert_eq!(brief(&worker.next()), "order Terminate");
        worker.die();
    }
    // Noted, it is in memory, and not given twice.
    let (mut worker, _) = keeper.welcomed();
    assert_eq!(brief(&worker.next()), "order Terminate");
    let noted = WorkerState { orders: vec![ShutdownCommand::Terminate], ..WorkerState::default() };
    worker.tell(&ToKeeper::Remember(noted.clone()));
    worker.heard();
    worker.die();
    let (mut worker, welcome) = keeper.welcomed();
    assert_eq!(welcome.memory, noted);
    worker.heard();
}

#[test]
fn an_interrupt_is_acknowledged_as_its_command() {
    let keeper = TestKeeper::new();
    let (mut worker, _) = keeper.welcomed();
    keeper.signal(Signal::SIGINT);
    assert_eq!(brief(&worker.next()), "order Interrupt");
    worker.die();
    let (mut worker, _) = keeper.welcomed();
    assert_eq!(brief(&worker.next()), "order Interrupt");
    // Workers of every version acknowledge an interrupt as `Terminate`: it is not sent again.
    let noted = WorkerState { orders: vec![ShutdownCommand::Terminate], ..WorkerState::default() };
    worker.tell(&ToKeeper::Remember(noted));
    worker.heard();
    worker.die();
    let (mut worker, _) = keeper.welcomed();
    worker.heard();
    // A later signal is sent nevertheless: it may be the second interrupt.
    keeper.signal(Signal::SIGINT);
    assert_eq!(brief(&worker.next()), "order Interrupt");
}

#[test]
fn a_sixth_worker_that_stays_alive_follows_shutdown_orders() {
    let keeper = TestKeeper::new();
    let gate = keeper.dir.path().join("gate");
    let (mut worker, _) = keeper.welcomed();
    worker.launch(json!({"a": until_exists(&gate, "exit 3")}));
    worker.until("started a");
    worker.die();
    for _ in 1..5 {
        keeper.worker().die();
    }
    // The sixth worker stays alive, so it carries out the command itself.
    let (mut worker, _) = keeper.welcomed();
    keeper.signal(Signal::SIGTERM);
    keeper.signal(Signal::SIGQUIT);
    worker.until("order Kill");
    std::fs::write(gate, "").unwrap();
    worker.until("ended a 768");
}

#[test]
fn after_five_worker_deaths_the_keeper_follows_orders_itself() {
    for given_before in [true, false] {
        let mut keeper = TestKeeper::new();
        let gate = keeper.dir.path().join("gate");
        let (mut worker, _) = keeper.welcomed();
        worker.launch(json!({"a": until_exists(&gate, "")}));
        let ToWorker::Started(started) = worker.next() else { panic!("no start") };
        if given_before {
            keeper.signal(Signal::SIGTERM);
            worker.until("order Terminate");
        }
        worker.die();
        for _ in 1..5 {
            keeper.worker().die();
        }
        if !given_before {
            // Five have died; there is no worker for the next 800 ms.
            assert!(is_running(started.pid));
            eventually("all deaths to be noticed", || {
                keeper.log().matches("the worker has died").count() == 5
            });
            keeper.signal(Signal::SIGTERM);
        }
        assert_eq!(keeper.ended(), Some(1));
        assert!(!is_running(started.pid));
        assert_eq!(keeper.remains(), 0);
    }
}
