//! Pings, and what happens when nothing comes back.

use std::time::Duration;

use procstar::net::inbound::Inbound;
use procstar::net::outbound::{ControlFrame, Outgoing};
use tokio::time::{Instant, sleep};

use super::fake_server::*;
use super::harness::*;

#[actix::test]
async fn a_ping_every_20_s_and_no_more() {
    let (_agent, mut server) = Agent::registered().await;
    let begin = Instant::now();
    for i in 1..=30u32 {
        let ping = soon(server.from_agent.next()).await.unwrap();
        let Outgoing::Control(ControlFrame::Ping(payload)) = ping else { panic!("{ping:?}") };
        let late = begin.elapsed().as_secs_f64() - 20.0 * f64::from(i);
        assert!(late.abs() < 0.1, "{late}");
        server.activity.touch();
        server.to_agent.send(Inbound::Pong(payload)).await.unwrap();
    }
}

#[actix::test]
async fn sixty_seconds_without_a_byte_is_a_loss() {
    let (mut agent, mut server) = Agent::registered().await;
    sleep(secs(50)).await;
    // Any byte counts, of half a message too.
    server.activity.touch();
    let begin = Instant::now();
    sleep(Duration::from_millis(59_990)).await;
    assert!(!server.from_agent.is_aborted());
    assert!(server.heard().await.iter().all(|heard| heard == "ping"));
    sleep(Duration::from_millis(20)).await;
    assert!(server.from_agent.is_aborted(), "tcp is closed at once");
    agent.server().await;
    let wait = begin.elapsed().as_secs_f64();
    assert!((60.1..60.31).contains(&wait), "{wait}");
}

#[actix::test]
async fn pings_before_the_registration_are_left_out_and_not_made_up_for() {
    let mut settings = options();
    settings.register_timeout = secs(50);
    let mut agent = Agent::new(settings, &[]);
    let mut server = agent.server().await;
    server.message().await;
    sleep(secs(45)).await;
    assert!(server.heard().await.is_empty(), "not even a ping before the registration");
    server.say(serde_json::json!({"type": "Registered"})).await;
    sleep(secs(20)).await;
    assert_eq!(server.heard().await, ["ping"]);
}

#[actix::test]
async fn a_server_that_takes_something_is_alive_though_it_is_not_read() {
    let (mut agent, server) = Agent::registered().await;
    let ids: Vec<String> = (0..100).map(|i| format!("p{i}")).collect();
    agent.start(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for _ in 0..10 {
        sleep(secs(50)).await;
        server.activity.touch_write();
    }
    assert!(!server.from_agent.is_aborted());
    sleep(secs(61)).await;
    assert!(server.from_agent.is_aborted());
    agent.server().await;
}

#[actix::test]
async fn a_request_that_takes_long_is_not_the_servers_silence() {
    let mut agent = Agent::unprompted(options());
    let mut server = agent.welcomed().await;
    server.start(&["a"]).await;
    server.ask("ProcResultRequest", "a").await;
    for _ in 0..4 {
        sleep(secs(50)).await;
        assert!(server.heard().await.iter().all(|heard| heard == "ping"));
        // A ping has gone out. Nothing is read meanwhile, so nothing that the server says counts.
        server.activity.touch_write();
    }
    assert!(!server.from_agent.is_aborted());
    agent.tell(started("a"));
    assert_eq!(server.heard().await, ["ProcResult a running", "ProcResult a running"]);
}
