//! The scheduler requests output that `truncate` has extended to ten terabytes.

use serde_json::json;

use super::*;

#[actix::test]
async fn one_answer_contains_at_most_the_configured_number_of_bytes() {
    let mut server = MockServer::start(Behaviour::default());
    let (port, cert) = (server.addr.port(), server.identity.pem_file());
    let more = |command: &mut Command| {
        command.env("PROCSTAR_AGENT_TOKEN", TOKEN).env("PROCSTAR_CAPTURE_MAX_INLINE", "100000");
    };
    let agent = Agent::with_cert(cert, "localhost", port, &["--group-id", "g"], more);
    let (mut session, _) = welcome(&mut server).await;
    start(&session, "a", "/usr/bin/truncate -s 10T /dev/stdout");
    assert_eq!(brief(&mut session).await, "ProcResult a running");
    let result = message(&mut session).await;
    let stdout = &result.res["fds"]["stdout"];
    assert_eq!(stdout["type"], "detached", "{stdout}");
    assert!(stdout["length"].as_u64().unwrap() >= (10 << 40) - 16);
    assert!(result.res["warnings"][0].as_str().unwrap().contains("capture.max_inline"));
    let from = 5u64 << 40;
    say(
        &session,
        json!({"type": "ProcFdDataRequest", "proc_id": "a", "fd": "stdout", "start": from, "stop": null}),
    );
    let answer = session.seen().await;
    let Seen::Message { data, .. } = answer else { panic!("{answer:?}") };
    assert!((100_000..101_000).contains(&data.len()), "{}", data.len());
    // The connection still answers the next request.
    say(&session, json!({"type": "ProcidListRequest"}));
    assert_eq!(brief(&mut session).await, "ProcidList a");
    drop(agent);
}
