//! The scheduler requests output that was changed after the end of its process.

use std::os::unix::fs::{FileExt, PermissionsExt};

use super::*;

#[actix::test]
async fn changed_output_is_a_request_error() {
    let mut server = MockServer::start(Behaviour::default());
    let agent = Agent::of(server.addr, &server.identity);
    let (mut session, _) = welcome(&mut server).await;
    start(&session, "a", "/bin/readlink /proc/$$/fd/1");
    assert_eq!(brief(&mut session).await, "ProcResult a running");
    let result = message(&mut session).await;
    let path = result.res["fds"]["stdout"]["text"].as_str().unwrap().trim_end().to_owned();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().write_all_at(b"X", 20).unwrap();
    say(
        &session,
        json!({"type": "ProcFdDataRequest", "proc_id": "a", "fd": "stdout", "start": 0, "stop": null}),
    );
    let answer = session.seen().await;
    let Seen::Message { data, .. } = answer else { panic!("{answer:?}") };
    let answer: Value = rmp_serde::from_slice(&data).unwrap();
    assert_eq!(answer["type"], "RequestError");
    let error = "cannot read fd stdout of process a: the capture's file was changed after the end of the process";
    assert_eq!(answer["err"], error);
    ask(&session, "ProcResultRequest", "a");
    let result = message(&mut session).await;
    assert_eq!(result.res["captures"]["stdout"]["reason"], "changed");
    assert_eq!(result.res["fds"]["stdout"]["text"], "");
    drop(agent);
}
