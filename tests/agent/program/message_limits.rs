//! Messages that are too large, or contain too many values.

use serde_json::json;

use super::*;

#[actix::test]
async fn a_message_above_the_maximum_closes_the_connection_and_the_log_names_the_setting() {
    let mut server = MockServer::start(Behaviour::default());
    let (port, cert) = (server.addr.port(), server.identity.pem_file());
    let more = |command: &mut Command| {
        command.env("PROCSTAR_AGENT_TOKEN", TOKEN).env("PROCSTAR_AGENT_MAX_MESSAGE", "5000");
    };
    let agent = Agent::with_cert(cert, "localhost", port, &["--group-id", "g"], more);
    let (mut session, _) = welcome(&mut server).await;
    let request = |size: usize| {
        let argv = ["/bin/true", &"x".repeat(size)];
        json!({"type": "ProcStartRequest", "specs": {"a": {"argv": argv}}})
    };
    say(&session, request(4000));
    assert_eq!(brief(&mut session).await, "ProcResult a running");
    assert_eq!(brief(&mut session).await, "ProcResult a terminated");
    say(&session, request(5000));
    loop {
        match session.seen().await {
            Seen::Close(code) => break assert_eq!(code, Some(1009)),
            // The kernel resets a connection with unread data, and the close frame may be lost.
            Seen::Gone => break,
            Seen::Ping(_) | Seen::Pong(_) => {}
            other => panic!("not a close: {other:?}"),
        }
    }
    // The agent logs the reason and connects again.
    let (_session, _) = welcome(&mut server).await;
    let log = agent.log();
    assert!(log.contains("limit of 5000 (agent.max_message)"), "{log}");
}

#[actix::test]
async fn a_request_with_too_many_values_is_refused() {
    let mut server = MockServer::start(Behaviour::default());
    let agent = Agent::of(server.addr, &server.identity);
    let (mut session, _) = welcome(&mut server).await;
    let argv = vec![""; 1_000_001];
    say(&session, json!({"type": "ProcStartRequest", "specs": {"a": {"argv": argv}}}));
    let answer = message(&mut session).await;
    assert_eq!(answer.r#type, "RequestError");
    assert!(answer.err.contains("more than 1000000 values and keys"), "{}", answer.err);
    drop(agent);
}
