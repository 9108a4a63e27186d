//! Token and certificate files that are replaced while the agent runs: the agent reads them again.

use super::*;
use crate::support::private::write_secret;

#[actix::test]
async fn a_replaced_token_file_is_read_by_the_next_registration() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    write_secret(&token, "first\n");
    let mut server = MockServer::start(Behaviour::default());
    let cert = server.identity.pem_file();
    let agent = Agent::with_cert(cert, "localhost", server.addr.port(), &[], |command| {
        command.env("PROCSTAR_AGENT_TOKEN_FILE", &token);
    });
    let (session, register) = welcome(&mut server).await;
    assert_eq!(register.access_token, "first");
    // Secret managers replace a file by renaming another one.
    let beside = dir.path().join("beside");
    write_secret(&beside, "other\n");
    std::fs::rename(&beside, &token).unwrap();
    session.say(Say::Close(1000, String::new()));
    let (session, register) = welcome(&mut server).await;
    assert_eq!(register.access_token, "other");
    // If the new token is invalid, the agent keeps the previous one.
    write_secret(&token, b"\xff");
    session.say(Say::Close(1000, String::new()));
    let (session, register) = welcome(&mut server).await;
    assert_eq!(register.access_token, "other");
    let log = agent.log();
    assert!(log.contains("read agent.token again"), "{log}");
    assert!(log.contains("keeping the former agent.token") && !log.contains("first"), "{log}");
    std::fs::remove_file(&token).unwrap();
    write_secret(&token, "third");
    session.say(Say::Close(1000, String::new()));
    assert_eq!(welcome(&mut server).await.1.access_token, "third");
}

#[actix::test]
async fn a_replaced_certificate_file_is_read_by_the_next_connection_attempt() {
    let mut server = MockServer::start(Behaviour::default());
    let (addr, cert) = (server.addr, server.identity.pem_file());
    let agent = Agent::with_cert(cert, "localhost", addr.port(), &[], |_| {});
    let (_session, first) = welcome(&mut server).await;
    server.stop().await;
    // The scheduler returns with another certificate, which is not trusted yet.
    let mut server = MockServer::start_on(addr, Identity::loopback(), Behaviour::default());
    agent.logged("server certificate of").await;
    let renewed = server.identity.pem_file();
    std::fs::rename(renewed.path(), agent.cert.path()).unwrap();
    let (_session, again) = welcome(&mut server).await;
    assert_eq!(again.conn, first.conn);
    assert!(agent.log().contains("read agent.cert again"), "{}", agent.log());
}
