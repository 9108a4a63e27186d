//! Pings, and the read timeout.

use std::time::Duration;

use procstar::net::inbound::Inbound;
use procstar::net::outbound::{ControlFrame, Outgoing};
use tokio::time::{Instant, sleep};

use super::harness::*;
use super::mock_scheduler::*;

#[actix::test]
async fn a_ping_every_20_s_and_no_more() {
    let (_agent, mut scheduler) = Agent::registered().await;
    let begin = Instant::now();
    for i in 1..=30u32 {
        let ping = soon(scheduler.from_agent.next()).await.unwrap();
        let Outgoing::Control(ControlFrame::Ping(payload)) = ping else { panic!("{ping:?}") };
        let late = begin.elapsed().as_secs_f64() - 20.0 * f64::from(i);
        assert!(late.abs() < 0.1, "{late}");
        scheduler.activity.touch();
        scheduler.to_agent.send(Inbound::Pong(payload)).await.unwrap();
    }
}

#[actix::test]
async fn sixty_seconds_without_a_byte_lose_the_connection() {
    let (mut agent, mut scheduler) = Agent::registered().await;
    sleep(secs(50)).await;
    // Any received byte counts, also of an incomplete message.
    scheduler.activity.touch();
    let begin = Instant::now();
    sleep(Duration::from_millis(59_990)).await;
    assert!(!scheduler.from_agent.is_aborted());
    assert!(scheduler.heard().await.iter().all(|heard| heard == "ping"));
    sleep(Duration::from_millis(20)).await;
    assert!(scheduler.from_agent.is_aborted(), "tcp is closed at once");
    agent.scheduler().await;
    let wait = begin.elapsed().as_secs_f64();
    assert!((60.1..60.31).contains(&wait), "{wait}");
}

#[actix::test]
async fn no_ping_is_sent_before_the_registration() {
    let mut settings = options();
    settings.register_timeout = secs(50);
    let mut agent = Agent::new(settings, &[]);
    let mut scheduler = agent.scheduler().await;
    scheduler.message().await;
    sleep(secs(45)).await;
    assert!(scheduler.heard().await.is_empty(), "not even a ping before the registration");
    scheduler.say(serde_json::json!({"type": "Registered"})).await;
    sleep(secs(20)).await;
    assert_eq!(scheduler.heard().await, ["ping"]);
}

#[actix::test]
async fn a_scheduler_that_reads_slowly_is_not_timed_out() {
    let (mut agent, scheduler) = Agent::registered().await;
    let ids: Vec<String> = (0..100).map(|i| format!("p{i}")).collect();
    agent.start(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for _ in 0..10 {
        sleep(secs(50)).await;
        scheduler.activity.touch_write();
    }
    assert!(!scheduler.from_agent.is_aborted());
    sleep(secs(61)).await;
    assert!(scheduler.from_agent.is_aborted());
    agent.scheduler().await;
}

#[actix::test]
async fn a_slow_request_does_not_time_the_connection_out() {
    let mut agent = Agent::with_manual_starts(options());
    let mut scheduler = agent.welcomed().await;
    scheduler.start(&["a"]).await;
    scheduler.ask("ProcResultRequest", "a").await;
    for _ in 0..4 {
        sleep(secs(50)).await;
        assert!(scheduler.heard().await.iter().all(|heard| heard == "ping"));
        // A ping was sent. During a request nothing is read, so silence must not count.
        scheduler.activity.touch_write();
    }
    assert!(!scheduler.from_agent.is_aborted());
    agent.tell(started("a"));
    assert_eq!(scheduler.heard().await, ["ProcResult a running", "ProcResult a running"]);
}
