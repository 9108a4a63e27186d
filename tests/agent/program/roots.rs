//! Whose certificate is enough to get the token.

use super::*;

/// An agent to which `system` is the file of the system's roots.
fn agent(
    system: &NamedTempFile,
    port: u16,
    args: &[&str],
    more: impl FnOnce(&mut Command),
) -> Agent {
    let unused = NamedTempFile::new().unwrap();
    Agent::with_cert(unused, "localhost", port, args, |command| {
        command.env_remove("PROCSTAR_AGENT_CERT").env("SSL_CERT_FILE", system.path());
        command.env("PROCSTAR_AGENT_TOKEN", TOKEN);
        more(command);
    })
}

/// The attack: a server that has a certificate of any root of the system's stands where the agent's own should. It got the token, though
/// `agent.cert` names another certificate.
#[actix::test]
async fn agent_ca_keeps_the_token_from_a_server_with_a_certificate_of_the_system() {
    let (identity, system) = Identity::issued();
    let addr = "127.0.0.1:0".parse().unwrap();
    let mut server = MockServer::start_on(addr, identity, Behaviour::default());
    let ours = Identity::loopback().pem_file();
    let path = ours.path().to_str().unwrap();
    let port = server.addr.port();
    // By contract, `agent.cert` adds trust and takes none away.
    let trusting = agent(&system, port, &[], |command| {
        command.env("PROCSTAR_AGENT_CERT", path);
    });
    assert_eq!(welcome(&mut server).await.1.access_token, TOKEN);
    drop(trusting);
    let give_up = ["--connect-count-max", "2"];
    for by_flag in [true, false] {
        let mut flags = give_up.to_vec();
        if by_flag {
            flags.extend(["--agent-ca", path]);
        }
        let mut agent = agent(&system, port, &flags, |command| {
            if !by_flag {
                command.env("PROCSTAR_AGENT_CA", path);
            }
        });
        assert_eq!(agent.ended().await.code(), Some(1), "{}", agent.log());
        let log = agent.log();
        assert!(
            log.contains("its issuer is not trusted") && log.contains("PROCSTAR_AGENT_CA"),
            "{log}"
        );
        assert!(!log.contains(TOKEN));
    }
    assert!(server.has_no_session(), "nobody came as far as to send the token");
}

#[actix::test]
async fn agent_ca_trusts_the_servers_own_certificate_and_is_read_again() {
    let mut server = MockServer::start(Behaviour::default());
    let (addr, ca) = (server.addr, server.identity.pem_file());
    let path = ca.path().to_owned();
    let agent = agent(&NamedTempFile::new().unwrap(), addr.port(), &[], |command| {
        command.env("PROCSTAR_AGENT_CA", &path);
    });
    assert_eq!(welcome(&mut server).await.1.access_token, TOKEN);
    server.stop().await;
    let mut server = MockServer::start_on(addr, Identity::loopback(), Behaviour::default());
    agent.logged("server certificate of").await;
    let renewed = server.identity.pem_file();
    std::fs::rename(renewed.path(), &path).unwrap();
    assert_eq!(welcome(&mut server).await.1.access_token, TOKEN);
    assert!(agent.log().contains("read agent.ca again"), "{}", agent.log());
}

#[actix::test]
async fn a_file_of_agent_ca_that_is_of_no_use_is_named() {
    let mut agent =
        agent(&NamedTempFile::new().unwrap(), 1, &["--agent-ca", "/no/such.pem"], |_| {});
    assert_eq!(agent.ended().await.code(), Some(2));
    let log = agent.log();
    assert!(log.contains("agent.ca: cannot read certificate file /no/such.pem"), "{log}");
}
