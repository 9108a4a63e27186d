//! A scheduler that keeps closing connections, and the log levels of failed attempts.

use procstar::dispatch::websocket::Outcome;
use tokio::time::{Instant, sleep};

use super::harness::*;
use super::log::Log;
use super::mock_scheduler::*;

#[actix::test]
async fn reconnects_slow_down_if_the_scheduler_closes_at_once() {
    let mut agent = Agent::new(options(), &[]);
    let log = Log::new();
    let begin = Instant::now();
    while begin.elapsed() < secs(3600) {
        agent.welcomed().await.close(1000, "").await;
    }
    let within = |from, to| {
        let span = begin + secs(from)..begin + secs(to);
        agent.dialled().iter().filter(|at| span.contains(at)).count()
    };
    assert!(within(0, 60) <= 5 + 8, "{}", within(0, 60));
    assert!(within(600, 3600) <= 3000 / 30 + 1, "{}", within(600, 3600));
    let causes = log.lines("another agent may use the connection ID \"the-conn\"");
    assert!(causes.len() > 10);
    assert!(causes[0].starts_with("WARN") && causes[0].contains("with code 1000"), "{}", causes[0]);
    let last = causes.last().unwrap();
    assert!(last.starts_with("ERROR") && last.contains("attempt="), "{last}");
    assert!(agent.status.get().failures > 10);
}

#[actix::test]
async fn repeated_short_connections_count_as_failures() {
    let mut settings = options();
    settings.connect.count_max = Some(3);
    let mut agent = Agent::new(settings, &[]);
    // The first five in a row do not count: they look like a restart of the scheduler.
    for _ in 0..7 {
        agent.welcomed().await.close(1000, "").await;
        settle().await;
        assert!(agent.ended().is_none());
    }
    agent.welcomed().await.lose().await;
    assert_eq!(soon(&mut agent.outcome).await.unwrap(), Outcome::GaveUp);
    assert_eq!(agent.dialled().len(), 8);
}

#[actix::test]
async fn a_lasting_connection_resets_the_failures() {
    let mut settings = options();
    settings.connect.count_max = Some(3);
    let mut agent = Agent::new(settings, &[]);
    let log = Log::new();
    for _ in 0..3 {
        for _ in 0..7 {
            agent.welcomed().await.close(1000, "").await;
        }
        let scheduler = agent.welcomed().await;
        assert_eq!(agent.status.get().failures, 2);
        scheduler.lives(secs(65)).await;
        assert_eq!(agent.status.get().failures, 0);
        assert_eq!(log.lines("stable again").len(), 1);
        let lost = Instant::now();
        scheduler.lose().await;
        let scheduler = agent.welcomed().await;
        assert!(lost.elapsed() < secs(1), "{:?}", lost.elapsed());
        scheduler.lives(secs(65)).await;
        scheduler.lose().await;
    }
    assert!(agent.ended().is_none());
}

#[actix::test]
async fn a_failed_attempt_is_a_warning_and_an_error_once_the_trouble_lasts() {
    let mut agent = Agent::new(options(), &[Plan::Refuse; 12]);
    let log = Log::new();
    let begin = Instant::now();
    let scheduler = agent.welcomed().await;
    let took = begin.elapsed();
    let lines = log.lines("");
    let attempts: Vec<_> = lines.iter().filter(|line| line.contains("attempt=")).collect();
    assert_eq!(attempts.len(), 12);
    assert!(attempts[0].starts_with("WARN") && attempts[3].starts_with("WARN"), "{attempts:?}");
    assert!(attempts[11].starts_with("ERROR"), "{attempts:?}");
    // The level rises with the first attempt after a minute of failures.
    let warnings = attempts.iter().filter(|line| line.starts_with("WARN")).count();
    let waited = agent.dialled()[warnings] - agent.dialled()[0];
    assert!(secs(60) <= waited && waited <= secs(120), "{waited:?}");
    let recovery: Vec<_> = lines.iter().filter(|line| line.contains("registered again")).collect();
    assert_eq!(recovery.len(), 1);
    assert!(recovery[0].starts_with("INFO") && recovery[0].contains("failed_attempts=12"));
    assert!(took > secs(120));
    // After a stable connection, the next failure is a warning again.
    scheduler.lives(secs(65)).await;
    agent.plan(&[Plan::Refuse]);
    scheduler.lose().await;
    agent.welcomed().await;
    let lines = log.lines("");
    assert!(lines.iter().all(|line| !line.starts_with("ERROR")), "{lines:?}");
}

#[actix::test]
async fn giving_up_is_an_error() {
    let mut settings = options();
    settings.connect.count_max = Some(2);
    let mut agent = Agent::new(settings, &[Plan::Refuse; 2]);
    let log = Log::new();
    assert_eq!(soon(&mut agent.outcome).await.unwrap(), Outcome::GaveUp);
    let lines = log.lines("attempt");
    assert!(lines.iter().any(|line| line.starts_with("WARN") && line.contains("attempt=1")));
    assert!(lines.iter().any(|line| line.starts_with("ERROR") && line.contains("attempt=2")));
}

#[actix::test]
async fn a_stalled_registration_is_a_timeout_and_a_closed_one_a_refusal() {
    let mut agent = Agent::new(options(), &[]);
    let log = Log::new();
    let mut stalls = agent.scheduler().await;
    stalls.message().await;
    sleep(secs(11)).await;
    let lines = log.lines("attempt=1");
    assert!(lines[0].contains("registration timed out"), "{lines:?}");
    assert!(!lines[0].contains("refused") && !lines[0].contains("token"), "{lines:?}");
    let error = agent.status.get().last_error.unwrap();
    assert!(error.starts_with("registration timed out"), "{error}");
    let mut closes = agent.scheduler().await;
    closes.message().await;
    closes.close(1000, "").await;
    settle().await;
    let lines = log.lines("attempt=2");
    assert!(
        lines[0].contains("registration refused: scheduler closed the connection with code 1000")
    );
    assert!(lines[0].contains("PROCSTAR_AGENT_TOKEN"), "{lines:?}");
    let mut breaks = agent.scheduler().await;
    breaks.message().await;
    breaks.lose().await;
    settle().await;
    let lines = log.lines("attempt=3");
    assert!(lines[0].contains("registration failed: connection ended without"), "{lines:?}");
}
