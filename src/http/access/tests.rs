//! Access decisions: every way to be admitted and to be refused.

use proptest::prelude::*;

use super::*;

const PORT: u16 = 3000;

/// A process of our user, in our namespaces.
const OURS: PeerUser = PeerUser { uid: 1000, is_here: true };

/// A request that is admitted; each test changes one part.
const GOOD: AccessRequest<'static> = AccessRequest {
    peer: Some(OURS),
    host: Header::One(b"localhost:3000"),
    origin: Header::Absent,
    authorization: Header::Absent,
    fetch: Fetch {
        site: Header::Absent,
        mode: Header::Absent,
        dest: Header::Absent,
        service_worker: Header::Absent,
    },
    session: Header::Absent,
    act: Act::Read,
};

fn policy(token: Option<&str>) -> Policy {
    Policy::new(1000, token.map(str::to_owned))
}

fn try_host(host: &[u8]) -> Result<(), Refusal> {
    decide(&policy(None), &AccessRequest { host: Header::One(host), ..GOOD }, PORT, false)
}

fn try_origin(host: &str, origin: &str) -> Result<(), Refusal> {
    let request = AccessRequest {
        host: Header::One(host.as_bytes()),
        origin: Header::One(origin.as_bytes()),
        ..GOOD
    };
    decide(&policy(None), &request, PORT, false)
}

#[test]
fn our_user_and_root_are_admitted() {
    for uid in [1000, 0] {
        assert_eq!(
            decide(
                &policy(None),
                &AccessRequest { peer: Some(PeerUser { uid, is_here: true }), ..GOOD },
                PORT,
                false
            ),
            Ok(())
        );
    }
    for (uid, start) in [
        (Some(1001), "the connection belongs to user ID 1001; "),
        (None, "the user of the connection is unknown; "),
    ] {
        let peer = uid.map(|uid| PeerUser { uid, is_here: true });
        let refusal = decide(&policy(None), &AccessRequest { peer, ..GOOD }, PORT, false)
            .unwrap_err()
            .to_string();
        assert_eq!(
            refusal,
            format!(
                "{start}connect as user ID 1000 or root, \
                 or configure an HTTP token and send it as `Authorization: Bearer TOKEN`"
            )
        );
    }
}

#[test]
fn a_process_of_our_user_in_other_namespaces_needs_the_token() {
    let way = "connect to the Unix socket /run/procstar/http.sock, or ";
    for uid in [1000, 0] {
        let request = AccessRequest { peer: Some(PeerUser { uid, is_here: false }), ..GOOD };
        let wrong = "the request has another token than http.token: ";
        for (token, authorization, fault, how) in [
            (None, Header::Absent, "", "configure http.token and send it as"),
            (Some("s3cret"), Header::Absent, "", "send the configured HTTP token as"),
            (Some("s3cret"), Header::One(b"Bearer x"), wrong, "send the configured HTTP token as"),
        ] {
            let policy = policy(token).with_socket(Some("/run/procstar/http.sock".into()));
            let request = AccessRequest { authorization, ..request };
            let refusal = decide(&policy, &request, PORT, false).unwrap_err().to_string();
            assert_eq!(
                refusal,
                format!(
                    "the connection belongs to user ID {uid}, but no process of that user in this service's own \
                     user, mount and pid namespaces holds it, as far as the service may inspect them: \
                     {fault}{way}{how} `Authorization: Bearer TOKEN`"
                )
            );
        }
        let authorization = Header::One(b"Bearer s3cret");
        let request = AccessRequest { authorization, ..request };
        assert_eq!(decide(&policy(Some("s3cret")), &request, PORT, false), Ok(()));
    }
}

#[test]
fn a_required_token_is_required_by_tcp_and_not_by_the_unix_socket() {
    let policy = policy(Some("s3cret")).requiring_the_token(true);
    let refusal = decide(&policy, &GOOD, PORT, false).unwrap_err();
    assert!(refusal.is_for_want_of_a_token(), "{refusal}");
    assert_eq!(
        refusal.to_string(),
        "http.require_token is set: connect to its Unix socket, or send the configured HTTP token as \
         `Authorization: Bearer TOKEN`"
    );
    let authorization = Header::One(b"Bearer s3cret");
    assert_eq!(decide(&policy, &AccessRequest { authorization, ..GOOD }, PORT, false), Ok(()));
    assert_eq!(decide(&policy, &GOOD, 0, false), Ok(()));
}

#[test]
fn only_the_configured_token_admits_others() {
    let with = |token: Option<&str>, authorization: &[u8]| {
        let authorization = Header::One(authorization);
        decide(&policy(token), &AccessRequest { peer: None, authorization, ..GOOD }, PORT, false)
    };
    for good in ["Bearer s3cret", "bearer s3cret", "BEARER  s3cret"] {
        assert_eq!(with(Some("s3cret"), good.as_bytes()), Ok(()), "{good}");
    }
    for (bad, expected) in [
        ("Bearer s3cre", Bearer::Wrong),
        ("Bearer s3cret ", Bearer::Wrong),
        ("Bearer S3CRET", Bearer::Wrong),
        ("Bearer ", Bearer::Wrong),
        ("Bearer", Bearer::Missing),
        ("Bearers3cret", Bearer::Missing),
        ("Basic s3cret", Bearer::Missing),
        ("s3cret", Bearer::Missing),
        ("", Bearer::Missing),
    ] {
        let refusal = with(Some("s3cret"), bad.as_bytes()).unwrap_err();
        let Refusal::Stranger { bearer, .. } = &refusal else { panic!("{refusal}") };
        assert_eq!(*bearer, expected, "{bad}");
        assert!(!refusal.to_string().contains("s3cre"), "{refusal}");
    }
    // Without a configured token, an empty one admits no client either.
    for none in [None, Some("")] {
        for authorization in ["Bearer ", "Bearer", "Bearer x", ""] {
            let refusal = with(none, authorization.as_bytes()).unwrap_err();
            let Refusal::Stranger { bearer, .. } = refusal else { panic!("{refusal}") };
            assert_eq!(bearer, Bearer::NotConfigured);
        }
    }
    let twice = AccessRequest { peer: None, authorization: Header::Several, ..GOOD };
    assert!(decide(&policy(Some("s3cret")), &twice, PORT, false).is_err());
}

#[test]
fn a_token_does_not_make_up_for_a_foreign_host_or_origin() {
    let authorization = Header::One(b"Bearer s3cret");
    let host = Header::One(b"evil.example");
    let request = AccessRequest { host, authorization, ..GOOD };
    assert!(decide(&policy(Some("s3cret")), &request, PORT, false).is_err());
    let origin = Header::One(b"http://evil.example");
    let request = AccessRequest { origin, authorization, ..GOOD };
    assert!(decide(&policy(Some("s3cret")), &request, PORT, false).is_err());
}

#[test]
fn hosts_of_loopback_are_admitted() {
    for host in [
        "localhost",
        "localhost:3000",
        "LocalHost:3000",
        "localhost.",
        "localhost.:3000",
        "localhost:1",
        "127.0.0.1",
        "127.0.0.1:3000",
        "127.0.0.1.",
        "127.255.255.254:3000",
        "[::1]",
        "[::1]:3000",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]:3000",
    ] {
        assert_eq!(try_host(host.as_bytes()), Ok(()), "{host}");
    }
}

#[test]
fn other_hosts_are_refused() {
    for host in [
        "",
        ":3000",
        "evil.example",
        "evil.example:3000",
        "localhost.evil.example",
        "evil.localhost",
        "localhost..",
        ".localhost",
        "localhost@evil.example",
        "evil.example@localhost",
        "localhost:",
        "localhost:x",
        "localhost:+1",
        "localhost:65536",
        "localhost:3000:3000",
        "localhost, evil.example",
        "localhost evil.example",
        "localhost/",
        " localhost",
        "127.0.0.1.evil.example",
        "127.1",
        "2130706433",
        "0177.0.0.1",
        "0.0.0.0",
        "128.0.0.1",
        "126.255.255.255",
        "::1",
        "[::1",
        "[::1]3000",
        "[::1].",
        "[::2]",
        "[::]",
        "[::1%lo]",
        "[127.0.0.1]",
        "[::ffff:10.0.0.1]",
        "ｌocalhost",
    ] {
        let refusal = try_host(host.as_bytes()).unwrap_err();
        assert_eq!(refusal, Refusal::ForeignHost { host: host.to_owned(), port: PORT }, "{host}");
    }
    assert!(try_host(b"localhost\xff").is_err());
    let host = |host| decide(&policy(None), &AccessRequest { host, ..GOOD }, PORT, false);
    assert_eq!(host(Header::Absent), Err(Refusal::NoHost { port: PORT }));
    assert_eq!(host(Header::Several), Err(Refusal::SeveralHosts { port: PORT }));
}

#[test]
fn only_our_own_origin_is_admitted() {
    for (host, origin) in [
        ("localhost:3000", "http://localhost:3000"),
        ("LOCALHOST:3000", "HTTP://localhost:3000"),
        ("127.0.0.1:3000", "http://127.0.0.1:3000"),
        ("[::1]:3000", "http://[::1]:3000"),
        ("localhost", "http://localhost:80"),
        ("localhost:8080", "http://localhost:8080"),
    ] {
        assert_eq!(try_origin(host, origin), Ok(()), "{host} {origin}");
    }
    for (host, origin) in [
        ("localhost:3000", ""),
        ("localhost:3000", "null"),
        ("localhost:3000", "http://evil.example"),
        ("localhost:3000", "http://evil.example:3000"),
        ("localhost:3000", "https://localhost:3000"),
        ("localhost:3000", "http://localhost:8000"),
        ("localhost:3000", "http://localhost"),
        ("localhost:3000", "http://127.0.0.2:3000"),
        ("localhost:3000", "http://localhost:3000/"),
        ("localhost:3000", "http://localhost:3000, http://evil.example"),
        ("localhost:3000", "file://localhost:3000"),
        ("localhost:3000", "localhost:3000"),
    ] {
        let refusal = try_origin(host, origin).unwrap_err();
        assert_eq!(
            refusal,
            Refusal::ForeignOrigin { origin: origin.to_owned() },
            "{host} {origin}"
        );
    }
    let several = AccessRequest { origin: Header::Several, ..GOOD };
    assert!(decide(&policy(None), &several, PORT, false).is_err());
}

#[test]
fn repeated_headers_are_detected() {
    assert_eq!(Header::collect([]), Header::Absent);
    assert_eq!(Header::collect([b"a".as_slice()]), Header::One(b"a"));
    assert_eq!(Header::collect([b"a".as_slice(), b"a"]), Header::Several);
}

#[test]
fn texts_are_bounded_and_hold_no_secret() {
    let refusal = try_host(&[b'x'; 5000]).unwrap_err().to_string();
    assert!(refusal.len() < 250, "{refusal}");
    let refusal = try_host(b"a\r\nb\"").unwrap_err().to_string();
    assert_eq!(
        refusal,
        r#"host "a\r\nb\"" is not this machine's loopback: use http://127.0.0.1:3000"#
    );
    assert_eq!(
        format!("{:?}", policy(Some("s3cret"))),
        r#"Policy { own_uid: 1000, token: Some("***"), token_required: false, remote: false }"#
    );
}

proptest! {
    #[test]
    fn an_address_is_admitted_exactly_if_it_is_loopback(
        v4 in any::<[u8; 4]>(), v6 in any::<[u8; 16]>(), local in any::<[u8; 3]>(), port in any::<u16>(),
    ) {
        let [b, c, d] = local;
        for address in [v4, [127, b, c, d]].map(std::net::Ipv4Addr::from) {
            let allowed = address.octets().first() == Some(&127);
            prop_assert_eq!(try_host(format!("{address}:{port}").as_bytes()).is_ok(), allowed);
            prop_assert_eq!(try_host(address.to_string().as_bytes()).is_ok(), allowed);
            // Without brackets, a mapped address is invalid.
            let mapped = address.to_ipv6_mapped();
            prop_assert!(try_host(mapped.to_string().as_bytes()).is_err());
            prop_assert_eq!(try_host(format!("[{mapped}]:{port}").as_bytes()).is_ok(), allowed);
        }
        let address = std::net::Ipv6Addr::from(v6);
        let allowed = address.to_canonical().is_loopback();
        prop_assert_eq!(try_host(format!("[{address}]:{port}").as_bytes()).is_ok(), allowed);
    }

    #[test]
    fn only_a_port_follows_localhost(
        before in "[ -~]{0,8}", after in "[ -~]{0,8}",
    ) {
        let host = format!("{before}localhost{after}");
        let rest = after.strip_prefix('.').unwrap_or(&after);
        let allowed = before.is_empty()
            && (rest.is_empty()
                || rest.strip_prefix(':').is_some_and(|port| {
                    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
                }));
        prop_assert_eq!(try_host(host.as_bytes()).is_ok(), allowed, "{}", host);
    }

    #[test]
    fn no_header_panics_or_admits_another_user(
        host in prop::collection::vec(any::<u8>(), 0..40),
        origin in prop::collection::vec(any::<u8>(), 0..40),
        authorization in prop::collection::vec(any::<u8>(), 0..40),
        uid in prop::option::of(1_u32..1000),
        is_here in any::<bool>(),
    ) {
        let request = AccessRequest {
            peer: uid.map(|uid| PeerUser { uid, is_here }),
            host: Header::One(&host),
            origin: Header::One(&origin),
            authorization: Header::One(&authorization),
            ..AccessRequest::default()
        };
        prop_assert!(decide(&policy(Some("a token that nobody guesses")), &request, PORT, false).is_err());
    }
}
