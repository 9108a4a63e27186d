//! Tests of [`tls`](super::tls) with certificates made here, by whole handshakes in memory: so the
//! handshake's signature is checked as well.

use std::{io::Write, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{
    CertificateError, ClientConnection, Error, ServerConfig, ServerConnection,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
};
use tempfile::NamedTempFile;

use super::tls::{TlsError, Trust, client_config};

/// A certificate with its key, and what the server sends with it.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
    pem: String,
}

fn params(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap()
}

fn self_signed(params: CertificateParams) -> Identity {
    let key = KeyPair::generate().unwrap();
    let cert = params.self_signed(&key).unwrap();
    Identity { chain: vec![cert.der().clone()], pem: cert.pem(), key }
}

/// A certificate as made by `openssl req -x509`: its own issuer, and a CA.
fn self_signed_ca(mut params: CertificateParams) -> Identity {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    self_signed(params)
}

/// A server's certificate below a private authority, and the authority's PEM.
fn issued(leaf: CertificateParams) -> (Identity, String) {
    let mut ca = params(&[]);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let cert = leaf.signed_by(&key, &ca).unwrap();
    (Identity { chain: vec![cert.der().clone()], pem: cert.pem(), key }, ca.pem())
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// The verdict of a client that trusts `pem` on a server with `identity`, dialled as `host`.
fn handshake(pem: Option<&str>, identity: &Identity, host: &str) -> Result<(), Error> {
    let file = pem.map(file);
    let trust = file.as_ref().map_or_else(Trust::default, |file| Trust::also(file.path()));
    handshake_by(&trust, identity, host)
}

/// The verdict of a client with this trust.
fn handshake_by(trust: &Trust, identity: &Identity, host: &str) -> Result<(), Error> {
    let client = client_config(trust).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.serialize_der()));
    let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(identity.chain.clone(), key)
        .unwrap();
    let host = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = ClientConnection::new(client, host).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).unwrap();
        }
        let mut input = &flight[..];
        while !input.is_empty() {
            server.read_tls(&mut input).unwrap();
            server.process_new_packets().unwrap();
        }
        let mut flight = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut flight).unwrap();
        }
        let mut input = &flight[..];
        while !input.is_empty() {
            client.read_tls(&mut input).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(())
}

fn refused(pem: Option<&str>, identity: &Identity, host: &str) -> CertificateError {
    match handshake(pem, identity, host) {
        Err(Error::InvalidCertificate(err)) => err,
        other => panic!("{other:?}"),
    }
}

fn expired(mut params: CertificateParams) -> CertificateParams {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    params
}

fn future(mut params: CertificateParams) -> CertificateParams {
    params.not_before = date_time_ymd(2090, 1, 1);
    params.not_after = date_time_ymd(2091, 1, 1);
    params
}

const NAMES: &[&str] = &["server.test", "127.0.0.1", "::1"];

#[test]
fn a_chain_to_an_extra_root_is_good_for_all_its_names() {
    let (server, ca) = issued(params(NAMES));
    for host in NAMES {
        handshake(Some(&ca), &server, host).unwrap();
    }
    for host in ["other.test", "127.0.0.2", "::2", "sub.server.test"] {
        let err = refused(Some(&ca), &server, host);
        assert!(matches!(err, CertificateError::NotValidForNameContext { .. }), "{err:?}");
    }
}

#[test]
fn a_certificate_is_trusted_as_itself() {
    let (issued, _) = issued(params(NAMES));
    for server in [self_signed(params(NAMES)), self_signed_ca(params(NAMES)), issued] {
        for host in NAMES {
            handshake(Some(&server.pem), &server, host).unwrap();
        }
        let err = refused(Some(&server.pem), &server, "other.test");
        assert!(matches!(err, CertificateError::NotValidForNameContext { .. }), "{err:?}");
    }
}

#[test]
fn one_of_several_certificates_in_the_file_is_enough() {
    let (server, ca) = issued(params(NAMES));
    let pinned = self_signed_ca(params(NAMES));
    let both = format!("a comment\n{}\n{}", pinned.pem, ca);
    handshake(Some(&both), &server, "server.test").unwrap();
    handshake(Some(&both), &pinned, "server.test").unwrap();
}

#[test]
fn dates_hold_for_pinned_certificates_too() {
    for make in [self_signed, self_signed_ca] {
        let server = make(expired(params(NAMES)));
        let err = refused(Some(&server.pem), &server, "server.test");
        assert!(matches!(err, CertificateError::ExpiredContext { .. }), "{err:?}");
        let server = make(future(params(NAMES)));
        let err = refused(Some(&server.pem), &server, "server.test");
        assert!(matches!(err, CertificateError::NotValidYetContext { .. }), "{err:?}");
    }
    let (server, ca) = issued(expired(params(NAMES)));
    for trusted in [&ca, &server.pem] {
        let err = refused(Some(trusted), &server, "server.test");
        assert!(matches!(err, CertificateError::ExpiredContext { .. }), "{err:?}");
    }
}

#[test]
fn strangers_are_refused() {
    let (server, _) = issued(params(NAMES));
    let other = self_signed_ca(params(NAMES));
    for trusted in [None, Some(other.pem.as_str())] {
        assert_eq!(refused(trusted, &server, "server.test"), CertificateError::UnknownIssuer);
    }
    // Same names, same kind, another key: only identical bytes are trusted.
    let twin = self_signed_ca(params(NAMES));
    let err = refused(Some(&other.pem), &twin, "server.test");
    assert!(matches!(err, CertificateError::Other(_)), "{err:?}");
}

#[test]
fn a_pinned_certificate_without_its_key_is_refused() {
    let pinned = self_signed_ca(params(NAMES));
    let thief = Identity { key: KeyPair::generate().unwrap(), ..self_signed_ca(params(NAMES)) };
    let thief = Identity { chain: pinned.chain.clone(), ..thief };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(thief.key.serialize_der()));
    let signer = ring::default_provider().key_provider.load_private_key(key).unwrap();
    let resolver = rustls::sign::SingleCertAndKey::from(rustls::sign::CertifiedKey::new(
        thief.chain.clone(),
        signer,
    ));
    let file = file(&pinned.pem);
    let client = client_config(&Trust::also(file.path())).unwrap();
    let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    let host = ServerName::try_from("server.test").unwrap();
    let mut client = ClientConnection::new(client, host).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let (mut up, mut down) = (Vec::new(), Vec::new());
    client.write_tls(&mut up).unwrap();
    server.read_tls(&mut &up[..]).unwrap();
    server.process_new_packets().unwrap();
    while server.wants_write() {
        server.write_tls(&mut down).unwrap();
    }
    let mut input = &down[..];
    let mut result = Ok(());
    while !input.is_empty() && result.is_ok() {
        client.read_tls(&mut input).unwrap();
        result = client.process_new_packets().map(drop);
    }
    assert_eq!(result, Err(Error::InvalidCertificate(CertificateError::BadSignature)));
}

#[test]
fn unusable_files_are_told_apart() {
    let missing = client_config(&Trust::also("/nonexistent/cert.pem".as_ref())).unwrap_err();
    assert!(matches!(missing, TlsError::Read { .. }), "{missing}");
    assert!(missing.to_string().contains("/nonexistent/cert.pem"));
    let key = KeyPair::generate().unwrap().serialize_pem();
    for text in ["", "no pem at all", &key] {
        let err = client_config(&Trust::also(file(text).path())).unwrap_err();
        assert!(matches!(err, TlsError::NoCertificate { .. }), "{err}");
    }
    let cut = "-----BEGIN CERTIFICATE-----\nMIIB";
    let err = client_config(&Trust::also(file(cut).path())).unwrap_err();
    assert!(matches!(err, TlsError::Pem { .. }), "{err}");
    let none = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let err = client_config(&Trust::also(file(none).path())).unwrap_err();
    assert!(matches!(err, TlsError::Certificate { .. }), "{err}");
    assert!(client_config(&Trust::default()).is_ok(), "no file is no error");
}

#[test]
fn only_roots_are_also_servers_own_certificates() {
    let (server, ca) = issued(params(NAMES));
    let pinned = self_signed_ca(params(NAMES));
    for (pem, good, bad) in [(&ca, &server, &pinned), (&pinned.pem, &pinned, &server)] {
        let file = file(pem);
        let only = Trust::only(file.path());
        handshake_by(&only, good, "server.test").unwrap();
        assert!(handshake_by(&only, good, "other.test").is_err());
        assert!(handshake_by(&only, bad, "server.test").is_err());
    }
    let (cert, ca) = (file(&pinned.pem), file(&ca));
    let both = Trust { cert: Some(cert.path().into()), ca: Some(ca.path().into()) };
    handshake_by(&both, &server, "server.test").unwrap();
    handshake_by(&both, &pinned, "server.test").unwrap();
}
