//! Which certificates a scheduler needs to receive the token.

use super::*;

/// An agent with `system` as the file of the system's root certificates.
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

/// An impostor with a certificate from any of the system's roots takes the place of the scheduler.
/// With `agent.cert` alone, it receives the token, although `agent.cert` names another certificate.
#[actix::test]
async fn agent_ca_keeps_the_token_from_a_certificate_of_the_systems_roots() {
    let (identity, system) = Identity::issued();
    let addr = "127.0.0.1:0".parse().unwrap();
    let mut server = MockServer::start_on(addr, identity, Behaviour::default());
    let ours = Identity::loopback().pem_file();
    let path = ours.path().to_str().unwrap();
    let port = server.addr.port();
    // `agent.cert` is trusted in addition to the system's roots: existing users rely on it.
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
    assert!(server.has_no_session(), "an agent connected");
}

#[actix::test]
async fn agent_ca_trusts_a_self_signed_certificate_and_is_read_again() {
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
async fn an_unreadable_file_of_agent_ca_is_an_error_with_its_path() {
    let mut agent =
        agent(&NamedTempFile::new().unwrap(), 1, &["--agent-ca", "/no/such.pem"], |_| {});
    assert_eq!(agent.ended().await.code(), Some(2));
    let log = agent.log();
    assert!(log.contains("agent.ca: cannot read certificate file /no/such.pem"), "{log}");
}
