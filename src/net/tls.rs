//! TLS towards the scheduler: trust in certificates, and the reasons for rejecting one.
//!
//! A scheduler is trusted if its chain ends at a certificate of a given PEM file, or if its own
//! certificate is in one, byte for byte; and, unless a file names the [only roots](Trust::ca), if
//! its chain ends at one of the system's roots. Its own certificate serves for a self-signed one as
//! made by `openssl req -x509`: it claims to be a CA, and webpki rejects such a one as a server's
//! (`CaUsedAsEndEntity`). Host name, dates and the handshake's signature are checked in every case.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature,
        verify_tls13_signature,
    },
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
    server::ParsedCertificate,
};
use thiserror::Error;

use super::tls_reason;
use crate::rotating::Rotating;
use crate::trust::{self, Exposure, Need, Untrusted};

/// Why the TLS configuration is invalid. Detected at the start, before any connection. Each text
/// contains the whole reason.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The PEM file cannot be read.
    #[error("cannot read {what} file {}: {reason}", path.display())]
    Read {
        /// Its purpose: "certificate", "private key".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// Other users may change the file, or read the key in it.
    #[error("refusing {what} file {}: {exposure}", path.display())]
    Exposed {
        /// Its purpose.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The kind of access.
        exposure: Exposure,
    },
    /// The file is damaged PEM.
    #[error("invalid PEM in {what} file {}: {reason}", path.display())]
    Pem {
        /// Its purpose.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The fault.
        reason: String,
    },
    /// The file holds no certificate: it may hold a key, or a certificate in DER.
    #[error("no PEM certificate in certificate file {}; convert it with 'openssl x509 -in FILE -out CERT.pem'", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The file holds no private key.
    #[error("no unencrypted PEM private key in private key file {}; convert or decrypt it with 'openssl pkey -in FILE -out KEY.pem'", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A certificate of the file is unusable.
    #[error("cannot use certificate file {}: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// rustls rejects its own defaults.
    #[error("cannot configure TLS: {0}; this is a fault of procstar: report it with this message")]
    Config(String),
}

impl TlsError {
    /// Why a certificate of a file cannot be used.
    pub(super) fn certificate(path: &Path, error: &rustls::Error) -> Self {
        let reason = match error {
            rustls::Error::InvalidCertificate(CertificateError::BadEncoding) => {
                "a certificate in it is damaged".to_owned()
            }
            error => tls_reason::tls(error),
        };
        Self::Certificate { path: path.to_owned(), reason }
    }

    /// The file that the error concerns.
    fn path(&self) -> Option<&Path> {
        match self {
            TlsError::Read { path, .. }
            | TlsError::Exposed { path, .. }
            | TlsError::Pem { path, .. }
            | TlsError::NoCertificate { path }
            | TlsError::NoKey { path }
            | TlsError::Certificate { path, .. } => Some(path),
            TlsError::Config(_) => None,
        }
    }

    pub(super) fn config(error: &rustls::Error) -> Self {
        Self::Config(tls_reason::tls(error))
    }
}

/// The trusted certificates, by PEM files of roots and of servers' own certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Trusted in addition to others.
    pub cert: Option<PathBuf>,
    /// Trusted instead of the system's roots.
    pub ca: Option<PathBuf>,
}

impl Trust {
    /// Certificates in addition to the system's roots.
    pub fn also(cert: &Path) -> Trust {
        Trust { cert: Some(cert.to_owned()), ca: None }
    }

    /// These certificates, and no other.
    pub fn only(ca: &Path) -> Trust {
        Trust { cert: None, ca: Some(ca.to_owned()) }
    }

    /// The agent's setting that caused an error.
    pub fn setting_of(&self, error: &TlsError) -> &'static str {
        match error.path() {
            Some(path) if self.ca.as_deref() == Some(path) => "agent.ca",
            _ => "agent.cert",
        }
    }

    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.cert.iter().chain(&self.ca)
    }
}

/// The configuration for connections to the scheduler: TLS 1.2 and 1.3, no ALPN, no resumption of
/// sessions, so that each connection checks the certificate.
///
/// The system's roots are loaded when a certificate first needs them; it is no error if the system
/// has none.
///
/// # Errors
/// A file is not usable; see [`TlsError`].
pub fn client_config(trust: &Trust) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new(&provider, trust)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::config(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The same configuration, read again when a PEM file changes.
///
/// # Errors
/// As of [`client_config`].
pub fn rotating_client_config(trust: &Trust) -> Result<Rotating<ClientConfig>, TlsError> {
    let what = match trust {
        Trust { ca: None, .. } => "agent.cert",
        Trust { cert: None, .. } => "agent.ca",
        _ => "agent.cert and agent.ca",
    };
    let files = trust.files().cloned().collect();
    let trust = trust.clone();
    let make = move || client_config(&trust).map(Arc::unwrap_or_clone);
    Rotating::new(what, files, make)
}

/// Does the work of `WebPkiServerVerifier`, with the same parts, but also with pinned certificates
/// and possibly without roots.
#[derive(Debug)]
struct Verifier {
    /// The PEM files' certificates, each trusted by its bytes.
    pinned: Vec<CertificateDer<'static>>,
    /// The same certificates, as issuers.
    extra: RootCertStore,
    /// The system's roots; `None` if they are not trusted.
    system: Option<OnceLock<RootCertStore>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(provider: &CryptoProvider, trust: &Trust) -> Result<Self, TlsError> {
        let mut pinned = Vec::new();
        let mut extra = RootCertStore::empty();
        for path in trust.files() {
            for certificate in read_pem(path)? {
                let added = extra.add(certificate.clone());
                added.map_err(|error| TlsError::certificate(path, &error))?;
                pinned.push(certificate);
            }
        }
        let system = trust.ca.is_none().then(OnceLock::new);
        let algorithms = provider.signature_verification_algorithms;
        Ok(Self { pinned, extra, system, algorithms })
    }

    /// Whether the chain, with its dates, leads to a trusted certificate.
    fn verify_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let verify = |roots| {
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(parsed, roots, intermediates, now, algorithms)
        };
        let Err(err) = verify(&self.extra) else { return Ok(()) };
        if self.pinned.iter().any(|pinned| pinned == end_entity) {
            return if forgiven_when_pinned(&err) { Ok(()) } else { Err(err) };
        }
        match &self.system {
            Some(system) => verify(system.get_or_init(system_roots)),
            None => Err(err),
        }
    }
}

/// Whether an error says only that a certificate is not properly issued, which does not matter for
/// a pinned one.
///
/// webpki checks a certificate's dates before all of these, so none of them hides a wrong date.
fn forgiven_when_pinned(err: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(err) = err else { return false };
    match err {
        CertificateError::UnknownIssuer
        | CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => true,
        CertificateError::Other(other) => {
            matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}

fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for err in &found.errors {
        tracing::debug!(%err, "failed to load some of the system's root certificates");
    }
    let mut roots = RootCertStore::empty();
    let (added, unusable) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(added, unusable, "loaded the system's root certificates");
    roots
}

pub(super) fn read_pem(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let what = "certificate";
    let text = read(what, path, Need::Integrity)?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::Pem { what, path: path.to_owned(), reason: damage(&error) })?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate { path: path.to_owned() });
    }
    Ok(certificates)
}

pub(super) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let what = "private key";
    let text = read(what, path, Need::Secrecy)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoKey { path: path.to_owned() },
        error => TlsError::Pem { what, path: path.to_owned(), reason: damage(&error) },
    })
}

fn read(what: &'static str, path: &Path, need: Need) -> Result<Vec<u8>, TlsError> {
    let path = path.to_owned();
    match trust::check(&path, need).and_then(|()| Ok(fs::read(&path)?)) {
        Ok(text) => Ok(text),
        Err(Untrusted::Unknown(reason)) => Err(TlsError::Read { what, path, reason }),
        Err(Untrusted::Exposed(exposure)) => Err(TlsError::Exposed { what, path, exposure }),
    }
}

/// The fault of a PEM text.
fn damage(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end line".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a section's first line is malformed".to_owned(),
        error => error.to_string(),
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        self.verify_chain(end_entity, &parsed, intermediates, now)?;
        verify_server_name(&parsed, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
